"""Lengths and GC of rows as histograms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Histogram", "histogram"]

_BINS = 48
# Numbers that differ by more than this factor are told apart by ratios.
_WIDE = 30.0


@dataclass(frozen=True)
class Histogram:
    """How many rows have which value.

    Attributes
    ----------
    title, unit
        What is counted, and in what.
    edges
        Of the bins, ascending, one more than there are bins; the last bin holds its
        upper edge.
    counts
        Rows in each.
    is_log
        Whether the edges are spaced by ratios.
    quantiles
        5 %, 50 % and 95 % of all values.
    """

    title: str
    unit: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    is_log: bool
    quantiles: tuple[float, float, float]


def histogram(title: str, unit: str, values: NDArray[Any], *, whole: bool = False) -> Histogram:
    """Count values in bins of equal width, or ratio where they are very different.

    Parameters
    ----------
    title, unit
        As they stand on the page.
    values
        Finite numbers, at least one.
    whole
        Whether they are whole numbers, so that no bin is narrower than one.
    """
    values = np.asarray(values, dtype=np.float64)
    low, high = float(values.min()), float(values.max())
    is_log = low > 0 and high > _WIDE * low
    if low == high:
        low, high = low - 0.5, high + 0.5
    if is_log:
        edges = np.geomspace(low, high, _BINS + 1)
        edges[0], edges[-1] = low, high
    else:
        n_bins = min(_BINS, max(1, int(high - low))) if whole else _BINS
        edges = np.linspace(low, high, n_bins + 1)
    counts, _ = np.histogram(values, edges)
    quantiles = np.quantile(values, (0.05, 0.5, 0.95))
    return Histogram(
        title,
        unit,
        tuple(edges.tolist()),
        tuple(counts.tolist()),
        is_log,
        (float(quantiles[0]), float(quantiles[1]), float(quantiles[2])),
    )
