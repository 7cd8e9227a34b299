"""Nearest vectors by the angle between them: all compared, or led by a graph.

The graph is a hierarchical navigable small world (Malkov and Yashunin, 2018), built,
saved and searched by usearch.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from usearch.index import Index

from kvae.interruptions import kept_interruptions
from kvae.progress import Progress

__all__ = ["GraphIndex", "Neighbours", "nearest_of_all", "unit_rows"]

Vectors = NDArray[np.float32]
# Rows, the nearest first, and the cosines of the angles to them.
Neighbours = tuple[NDArray[np.int64], NDArray[np.float32]]

# Cosines held at a time while everything is compared with everything: 128 MB, and three times
# as much again while the best are chosen.
_COSINES = 1 << 25
# Rows handed to usearch at a time, so that progress and Ctrl-C are seen.
_CHUNK = 20_000
# Links per vector, and candidates kept while linking. Searching for the neighbours of
# all vectors keeps as many: 0.98 of the 16 nearest of 100,000 clustered vectors are found,
# and 0.99 in twice the time. The queries of a saved index are few, and may take longer.
_LINKS, _CANDIDATES, _CANDIDATES_OF_QUERIES = 16, 64, 192

_NOT_WHOLE = "not all of it was taken: is the disk full?"


def unit_rows(vectors: NDArray[Any]) -> NDArray[Any]:
    """Scale every row to length 1; a row of zeros stays one."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: NDArray[Any] = vectors / np.where(norms > 0, norms, 1)
    return scaled


def nearest_of_all(
    reference: Vectors, queries: Vectors, n: int, progress: Progress | None = None
) -> Neighbours:
    """Find the nearest reference vectors of each query by comparing all with all.

    Memory is bounded; time grows with the product of both.

    Parameters
    ----------
    reference, queries
        Vectors of length 1, shapes (rows, latent) and (queries, latent).
    n
        How many; at most as many as there are rows.
    progress
        Told about every block of queries.

    Returns
    -------
    tuple of ndarray, shapes (queries, n)
        Rows and cosines, the nearest first; of equal ones the first row.
    """
    n = min(n, len(reference))
    rows = np.empty((len(queries), n), np.int64)
    cosines = np.empty((len(queries), n), np.float32)
    progress = progress or Progress()
    progress.begin("nearest rows", len(queries))
    for block in _blocks(len(queries), max(1, _COSINES // len(reference))):
        found = queries[block] @ reference.T
        best = np.sort(np.argpartition(-found, n - 1, axis=1)[:, :n], axis=1)
        values = np.take_along_axis(found, best, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        rows[block] = np.take_along_axis(best, order, axis=1)
        cosines[block] = np.take_along_axis(values, order, axis=1)
        progress.advance(block.stop - block.start)
    return rows, cosines


class GraphIndex:
    """Vectors that are linked to their neighbours, which a search follows.

    Use `build` or `open`. Vectors are kept in half precision.
    """

    def __init__(self, index: Any, threads: int | None) -> None:
        self._index = index
        self._threads = threads or 0

    @classmethod
    def build(
        cls, vectors: Vectors, threads: int | None = None, progress: Progress | None = None
    ) -> GraphIndex:
        """Link vectors of length 1, shape (rows, latent).

        With several threads the links depend on which was faster; with one they are
        the same every time.
        """
        index = _empty(vectors.shape[1], _CANDIDATES)
        progress = progress or Progress()
        progress.begin("linking rows", len(vectors))
        for block in _blocks(len(vectors), _CHUNK):
            keys = np.arange(block.start, block.stop)
            with kept_interruptions():
                index.add(keys, vectors[block], copy=True, threads=threads or 0)
            progress.advance(block.stop - block.start)
        return cls(index, threads)

    @classmethod
    def open(cls, path: Path, n_latent: int, threads: int | None = None) -> GraphIndex:
        """Map an index into memory that `save` wrote."""
        index = _empty(n_latent, _CANDIDATES_OF_QUERIES)
        with _system_errors():
            index.view(str(path))
        return cls(index, threads)

    def save(self, path: Path) -> None:
        """Write the index to a file."""
        with _system_errors():
            self._index.save(str(path))
        # usearch does not ask whether what it buffered has arrived.
        if path.stat().st_size != self._index.serialized_length:
            raise OSError(_NOT_WHOLE)

    def __len__(self) -> int:
        """Count the rows."""
        return len(self._index)

    @property
    def n_latent(self) -> int:
        """Numbers per vector."""
        return int(self._index.ndim)

    def vectors(self, rows: NDArray[np.int64]) -> Vectors:
        """Vectors of some rows, as they are kept: rounded to half precision."""
        found: Vectors = np.asarray(self._index.get(rows), dtype=np.float32)
        return found.reshape(len(rows), self.n_latent)

    def nearest(self, queries: Vectors, n: int, progress: Progress | None = None) -> Neighbours:
        """Find most of the nearest rows of each query; as `nearest_of_all` does."""
        n = min(n, len(self))
        rows = np.empty((len(queries), n), np.int64)
        cosines = np.empty((len(queries), n), np.float32)
        progress = progress or Progress()
        progress.begin("nearest rows", len(queries))
        for block in _blocks(len(queries), _CHUNK):
            rows[block], cosines[block] = self._search(queries[block], n)
            progress.advance(block.stop - block.start)
        return rows, cosines

    def _search(self, queries: Vectors, n: int, *, exact: bool = False) -> Neighbours:
        with kept_interruptions():
            found = self._index.search(queries, n, threads=self._threads, exact=exact)
        # Of one query usearch gives no matrix.
        rows = np.array(found.keys, dtype=np.int64).reshape(len(queries), n)
        # Vectors of half precision are not quite of length 1.
        cosines = np.clip(1 - np.array(found.distances, np.float32), -1, 1).reshape(rows.shape)
        few = np.reshape(getattr(found, "counts", len(found)), -1) < n
        if few.any() and not exact:
            # Links lead nowhere else, which many equal vectors bring about.
            rows[few], cosines[few] = self._search(queries[few], n, exact=True)
        return rows, cosines


@contextmanager
def _system_errors() -> Iterator[None]:
    """Make what usearch repeats of the system an error of the system."""
    try:
        yield
    except RuntimeError as error:
        for code in errno.errorcode:
            if os.strerror(code) == str(error):
                raise OSError(code, str(error)) from error
        if "serialize into" in str(error):
            raise OSError(_NOT_WHOLE) from error
        raise


def _empty(n_latent: int, candidates: int) -> Any:
    return Index(
        ndim=n_latent,
        metric="ip",
        dtype="f16",
        connectivity=_LINKS,
        expansion_add=_CANDIDATES,
        expansion_search=candidates,
    )


def _blocks(n_rows: int, size: int) -> Iterator[slice]:
    for start in range(0, n_rows, size):
        yield slice(start, min(start + size, n_rows))
