"""Communities of a graph of shared neighbours (Leiden).

Two contigs are linked where one is among the nearest of the other, as strongly as
their neighbourhoods overlap (Jarvis and Patrick, 1973). The graph is cut where links
are fewer than chance would put there (modularity), by the algorithm of Traag, Waltman
and van Eck (2019).
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from graspologic_native import leiden_csr
from numpy.typing import NDArray

from kvae import defaults
from kvae.nearest import GraphIndex, nearest_of_all, unit_rows
from kvae.progress import Progress

__all__ = ["communities", "shared_neighbour_graph"]

# Up to so many rows all are compared with all: exact, and no slower than a graph.
ALL_PAIRS = 30_000
# Weaker links join what only touches.
_WEAKEST = 1 / 15
# Rows that are one unit of resolution, and the least resolution there is. Modularity
# compares with a graph that anything could be linked in, so that on its own it would
# merge the more, the more there is elsewhere; in proportion to the rows, genomes are cut
# alike however many others are clustered with them. Chosen on pieces of training species.
_ROWS_PER_RESOLUTION, _LEAST = 10_000, 0.5
# Comparisons of neighbours held at a time, a byte each.
_COMPARISONS = 1 << 25
_ITERATIONS = 2


def neighbour_rows(
    vectors: NDArray[np.float32], n: int, threads: int | None, progress: Progress
) -> NDArray[np.int64]:
    """Nearest other rows of every row, shape (rows, at most n)."""
    unit = unit_rows(vectors).astype(np.float32)
    n = min(n, len(unit) - 1)
    if len(unit) <= ALL_PAIRS:
        rows, _ = nearest_of_all(unit, unit, n + 1, progress)
    else:
        index = GraphIndex.build(unit, threads, progress)
        rows, _ = index.nearest(unit, n + 1, progress)
    # A row is its own nearest, but among equal rows another may stand before it.
    own = rows == np.arange(len(rows))[:, None]
    own[~own.any(axis=1), -1] = True
    others: NDArray[np.int64] = rows[~own].reshape(len(rows), n)
    return others


def shared_neighbour_graph(neighbours: NDArray[np.int64]) -> sp.csr_matrix:
    """Link rows by how much their neighbourhoods overlap.

    Parameters
    ----------
    neighbours
        Nearest other rows of every row, shape (rows, n).

    Returns
    -------
    csr_matrix of float64, shape (rows, rows)
        Symmetric. The Jaccard index of both neighbourhoods, each with its own row,
        where one row is among the neighbours of the other.
    """
    n_rows, n = neighbours.shape
    around = np.concatenate([np.arange(n_rows)[:, None], neighbours], axis=1).astype(np.int32)
    overlap = np.empty((n_rows, n), np.float32)
    size = max(1, _COMPARISONS // (n * (n + 1) ** 2))
    for start in range(0, n_rows, size):
        block = slice(start, start + size)
        mine = around[block][:, None, :, None]
        theirs = around[neighbours[block]][:, :, None, :]
        shared = (mine == theirs).sum(axis=(2, 3), dtype=np.float32)
        overlap[block] = shared / (2 * (n + 1) - shared)
    kept = overlap > _WEAKEST
    rows = np.repeat(np.arange(n_rows, dtype=np.int32), n).reshape(n_rows, n)[kept]
    directed = sp.csr_matrix(
        (overlap[kept], (rows, neighbours[kept].astype(np.int32))), shape=(n_rows, n_rows)
    )
    graph = directed.maximum(directed.T).astype(np.float64).tocsr()
    graph.sort_indices()
    return graph


def communities(
    vectors: NDArray[np.float32],
    *,
    neighbours: int = defaults.CLUSTER_NEIGHBOURS,
    resolution: float = 1.0,
    seed: int = 0,
    threads: int | None = None,
    progress: Progress | None = None,
) -> NDArray[np.int64]:
    """Cluster vectors without being told how many clusters there are.

    Parameters
    ----------
    vectors
        Shape (rows, latent); their angles count.
    neighbours
        Nearest rows that a row may be linked with.
    resolution
        More gives more and smaller clusters. It is relative to the number of rows.
    seed
        Decides the order in which rows are moved between communities.
    threads
        For the search of neighbours.
    progress
        Told what is done.

    Returns
    -------
    ndarray of int64, shape (rows,)
        Clusters from 0 in no order; a row without a link is one of its own.
    """
    progress = progress or Progress()
    n_rows = len(vectors)
    if n_rows < 2:
        return np.zeros(n_rows, np.int64)
    graph = shared_neighbour_graph(neighbour_rows(vectors, neighbours, threads, progress))
    if graph.nnz == 0:
        return np.arange(n_rows)
    progress.begin("communities", n_rows)
    _, found = leiden_csr(
        graph.indptr.astype(np.int64),
        graph.indices.astype(np.int32),
        graph.data,
        n_rows,
        resolution=resolution * max(_LEAST, n_rows / _ROWS_PER_RESOLUTION),
        iterations=_ITERATIONS,
        seed=seed,
    )
    progress.advance(n_rows)
    codes = np.fromiter(found.values(), np.int64, len(found))
    out = np.empty(n_rows, np.int64)
    out[np.fromiter(found.keys(), np.int64, len(found))] = codes
    return out
