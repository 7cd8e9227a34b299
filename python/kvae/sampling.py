"""A sample of rows: as many as asked for, spread over all files or classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvae.row_sources import Indices

__all__ = ["balanced_rows"]


def balanced_rows(
    source_codes: NDArray[np.integer[Any]], candidates: Indices, n: int, seed: int
) -> Indices:
    """Choose rows so that every file has as many as any other, as far as it has them.

    More rows of the same seed contain the fewer.

    Parameters
    ----------
    source_codes
        File, or class, of every row.
    candidates
        Rows to choose from.
    n
        How many, all of them at most.
    seed
        Decides which.

    Returns
    -------
    ndarray of int64
        Positions, ascending.
    """
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(candidates)
    codes = source_codes[shuffled]
    order = np.argsort(codes, kind="stable")
    sizes = np.bincount(codes)
    rank = np.empty(len(codes), dtype=np.int64)
    rank[order] = np.arange(len(codes)) - (np.cumsum(sizes) - sizes)[codes[order]]
    chosen: Indices = np.sort(shuffled[np.argsort(rank, kind="stable")[:n]])
    return chosen
