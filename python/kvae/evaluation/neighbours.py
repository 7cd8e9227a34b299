"""What the nearest rows say about a row's label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

__all__ = ["majority_labels", "nearest", "neighbour_scores"]

Vectors = NDArray[Any]
Codes = NDArray[np.int64]

NEIGHBOURS = 5
RECALLS = (1, 5, 10, 50)


def nearest(vectors: Vectors, n: int = max(RECALLS)) -> Codes:
    """Find the nearest other rows of each row, by Euclidean distance.

    Returns
    -------
    ndarray of int64, shape (rows, min(n, rows - 1))
        The nearest first.
    """
    n = min(n, len(vectors) - 1)
    if n < 1:
        return np.empty((len(vectors), 0), dtype=np.int64)
    search = NearestNeighbors(n_neighbors=n, algorithm="brute").fit(vectors)
    found: Codes = search.kneighbors(return_distance=False).astype(np.int64)
    return found


def majority_labels(neighbours: Codes, codes: Codes, n: int = NEIGHBOURS) -> Codes:
    """Label each row as most of its nearest rows are; the nearest one decides a tie."""
    near = codes[neighbours[:, :n]]
    votes = (near[:, :, None] == near[:, None, :]).sum(axis=2)
    # argmax takes the first of equals, which is the nearest.
    winner: Codes = near[np.arange(len(near)), votes.argmax(axis=1)]
    return winner


def neighbour_scores(
    neighbours: Codes, codes: Codes, recalls: Sequence[int] = RECALLS
) -> dict[str, float]:
    """Score neighbours by labels.

    Rows that are alone with their label are no queries, for nothing could be found,
    but they may be neighbours.

    Parameters
    ----------
    neighbours
        Of `nearest`.
    codes
        Label of each row, from 0.
    recalls
        Numbers of neighbours.

    Returns
    -------
    dict
        ``knn5``: share of queries that most of their five neighbours label right;
        ``recall@K``: share with a row of their label among the K nearest. Empty where
        there is no query.
    """
    query = np.bincount(codes)[codes] > 1
    if not query.any():
        return {}
    right = majority_labels(neighbours, codes) == codes
    same = codes[neighbours] == codes[:, None]
    scores = {f"knn{NEIGHBOURS}": float(right[query].mean())}
    for k in recalls:
        scores[f"recall@{k}"] = float(same[query, :k].any(axis=1).mean())
    return scores
