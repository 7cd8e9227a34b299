"""Numbers and names for a page's script, as JSON that may stand within the page."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kvae.reporting.attributes import Category, Quantity
from kvae.reporting.calibration import Calibration
from kvae.reporting.curves import Curve
from kvae.reporting.dimensions import Dimensions
from kvae.reporting.embedding import GRID
from kvae.reporting.findings import Findings
from kvae.reporting.points import combined
from kvae.reporting.reading import RunFacts

__all__ = ["chart_data", "embedded", "packed"]

# What codes of groups are kept as; the largest number stands for none.
_CODES: tuple[type[np.unsignedinteger[Any]], ...] = (np.uint8, np.uint16, np.uint32)
# The density is shown by its root: single rows stay visible beside crowds.
_GAMMA = 0.5


def embedded(content: object) -> str:
    """Write JSON that may stand within a ``<script>`` element, whatever texts are in it."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def packed(values: NDArray[Any]) -> dict[str, str]:
    """Write numbers as base64 of their bytes, little-endian."""
    kind = f"{values.dtype.kind}{values.dtype.itemsize}"
    raw = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<")).tobytes()
    return {"type": kind, "text": base64.b64encode(raw).decode("ascii")}


def chart_data(found: Findings) -> dict[str, Any]:
    """Charts by their names on the page, and the map."""
    charts: dict[str, Any] = {}
    every = [*found.curves, *([found.gate] if found.gate else [])]
    for curve in every:
        charts[f"curve-{curve.key}"] = _curve(curve, found.run)
    if found.calibration is not None:
        charts["calibration"] = _calibration(found.calibration)
    for i, histogram in enumerate(found.histograms):
        charts[f"histogram-{i}"] = {
            "kind": "histogram",
            "edges": histogram.edges,
            "counts": histogram.counts,
            "log": histogram.is_log,
            "unit": histogram.unit,
        }
    if found.units is not None:
        charts |= _unit_charts(found.units)
    return {"charts": charts, "map": _map(found)}


def _curve(curve: Curve, run: RunFacts) -> dict[str, Any]:
    best = None
    if run.best is not None and run.epochs[run.best]["epoch"] in curve.epochs:
        best = curve.epochs.index(run.epochs[run.best]["epoch"])
    return {
        "kind": "line",
        "unit": curve.unit,
        "epochs": curve.epochs,
        "train": curve.train,
        "validation": curve.validation,
        "lines": [
            {"name": line.name, "value": line.value, "limit": line.is_limit} for line in curve.lines
        ],
        "log": curve.is_log,
        "share": curve.is_share,
        "best": best,
        "wide": curve.key == "loss",
    }


def _calibration(found: Calibration) -> dict[str, Any]:
    return {
        "kind": "calibration",
        "counts": found.counts.tolist(),
        "predicted": _plain(found.predicted),
        "observed": _plain(found.observed),
    }


def _plain(values: NDArray[np.float64]) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


def _unit_charts(units: Dimensions) -> dict[str, Any]:
    total = float(units.variance.sum()) or 1.0
    charts = {
        "variance": _bars(
            units.variance / total,
            "share of the variance",
            "of the variance",
            True,
            {"name": "all alike", "value": 1.0 / len(units.variance)},
        )
    }
    if units.kl is not None and not units.is_sphere:
        charts["kl"] = _bars(
            units.kl, "nats per row", "divergence", False, {"name": "active above", "value": 0.1}
        )
    return charts


def _bars(
    values: NDArray[np.float64], unit: str, name: str, is_share: bool, level: dict[str, Any]
) -> dict[str, Any]:
    order = np.argsort(-values, kind="stable")
    return {
        "kind": "units",
        "values": [float(value) for value in values[order]],
        "order": order.tolist(),
        "unit": unit,
        "name": name,
        "share": is_share,
        "level": level,
    }


def _map(found: Findings) -> dict[str, Any] | None:
    if found.map is None or found.points is None:
        return None
    latents, rows, drawn = found.points.latents, found.map.rows, found.map
    density = drawn.density
    shown = (density.counts / max(float(density.counts.max()), 1e-30)) ** _GAMMA
    return {
        "x": packed(drawn.xy[:, 0]),
        "y": packed(drawn.xy[:, 1]),
        "ids": combined(latents.ids).take(pa.array(rows)).to_pylist(),
        "start": packed(_position(latents.start[rows])),
        "end": packed(_position(latents.end[rows])),
        "length": packed(_position(latents.length[rows])),
        "attributes": [_attribute(attribute) for attribute in found.attributes],
        "density": {
            "grid": GRID,
            "left": density.left,
            "bottom": density.bottom,
            "size": density.size,
            "values": packed(np.rint(255.0 * shown).astype(np.uint8)),
        },
    }


def _position(values: NDArray[np.uint64]) -> NDArray[Any]:
    fits = len(values) == 0 or int(values.max()) < 2**32
    return values.astype(np.uint32 if fits else np.float64)


def _attribute(attribute: Category | Quantity) -> dict[str, Any]:
    if isinstance(attribute, Quantity):
        return {
            "kind": "quantity",
            "name": attribute.name,
            "unit": attribute.unit,
            "log": attribute.is_log,
            "values": packed(attribute.values),
        }
    n = len(attribute.names)
    dtype = next(kind for kind in _CODES if n < np.iinfo(kind).max)
    return {
        "kind": "category",
        "name": attribute.name,
        "names": list(attribute.names),
        # -1, no group, becomes the largest number.
        "values": packed(attribute.codes.astype(np.int64).astype(dtype)),
    }
