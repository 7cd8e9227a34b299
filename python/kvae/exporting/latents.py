"""Latents in another format, and as VAMB has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kvae.atomic import atomic_output
from kvae.exporting.records import check_unique, first_rows
from kvae.latents import Latents, latent_format, latent_schema, read_latents
from kvae.npz import NpzFile

__all__ = ["export_latents", "per_record"]

_ROWS = 1 << 14


def export_latents(path: Path, output: Path, *, vamb: bool, force: bool) -> tuple[int, int]:
    """Write latents, see `kvae.export`; the number of rows and latent units."""
    if not vamb:
        latent_format(output)
    latents = read_latents(path)
    with atomic_output(output, force=force) as temporary:
        if vamb:
            return _write_vamb(latents, temporary)
        _write(latents, temporary, output)
    return len(latents), latents.n_latent


def _write(latents: Latents, path: Path, output: Path) -> None:
    facts = {key: value for key, value in latents.facts.items() if key != "latent"}
    schema = latent_schema(latents.n_latent, facts, with_logvar=latents.logvar is not None)
    names = pa.array(latents.source_names, pa.string())
    columns: dict[str, Any] = {
        "id": latents.ids,
        "start": pa.chunked_array([latents.start]),
        "end": pa.chunked_array([latents.end]),
        "length": pa.chunked_array([latents.length]),
    }
    matrices = {"latent": latents.vectors, "logvar": latents.logvar}
    with latent_format(output)(path, schema) as writer:
        for start in range(0, len(latents), _ROWS):
            rows = slice(start, min(start + _ROWS, len(latents)))
            arrays = {
                name: column.slice(rows.start, rows.stop - rows.start).combine_chunks()
                for name, column in columns.items()
            }
            codes = pa.array(latents.source_codes[rows], pa.int32())
            arrays["source"] = pa.DictionaryArray.from_arrays(codes, names)
            for name, matrix in matrices.items():
                if matrix is not None:
                    flat = pa.array(matrix[rows].reshape(-1))
                    type_ = schema.field(name).type
                    arrays[name] = pa.FixedSizeListArray.from_arrays(flat, type=type_)
            writer.write(pa.record_batch([arrays[name] for name in schema.names], schema=schema))


def per_record(latents: Latents) -> tuple[list[str], NDArray[np.float32]]:
    """Names of the records, and the mean of the latents of each, weighted by length.

    Raises
    ------
    KvaeError
        Where two records have one name.
    """
    ids = np.array(latents.ids.to_pylist(), dtype=object)
    starts = np.flatnonzero(first_rows(ids, latents.source_codes, latents.start, latents.end))
    check_unique(latents.path, ids[starts])
    weights = np.maximum(latents.length.astype(np.float64), 1.0)[:, None]
    sums = np.add.reduceat(latents.vectors * weights, starts, axis=0)
    means = sums / np.add.reduceat(weights, starts, axis=0)
    return ids[starts].tolist(), means.astype(np.float32)


def _write_vamb(latents: Latents, path: Path) -> tuple[int, int]:
    names, means = per_record(latents)
    with NpzFile(path, compressed=True) as file:
        # The name of the only array that VAMB looks for.
        file.put("arr_0", means)
        file.put("identifiers", np.array(names))
    return len(names), latents.n_latent
