"""Rows from anywhere in feature files, whatever they keep of them.

Each class here knows where one kind of store has what it keeps, as arrays over
all rows, and has `kvae._core` read it from there: by several threads, and
without any Python per row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kvae import _core
from kvae.layout import Layout
from kvae.stored_rows import binary_offsets, matrix

__all__ = ["GATHERERS", "Gatherer"]

Indices = NDArray[np.int64]
Offsets = NDArray[np.uint64]
Rows = NDArray[np.float32]
# For every batch what its addresses are counted from, as `kvae._core.RowFile` counts.
Origins = Sequence[int]


class Gatherer(Protocol):
    """Gives log-space rows by their positions in the file."""

    def __init__(
        self, file: _core.RowFile, layout: Layout, batches: Sequence[Any], origins: Origins
    ) -> None: ...

    def rows(self, indices: Indices, out: Rows) -> None:
        """Write rows to `out`, a C-contiguous array of shape (indices, fields)."""


class _Matrix:
    """Where a column of fixed-size lists has the list of each row."""

    def __init__(self, batches: Sequence[Any], name: str, origins: Origins) -> None:
        views = [matrix(batch, name) for batch in batches]
        self.item_size = views[0].itemsize
        self._row_size = views[0].strides[0]
        self._starts = np.cumsum([0, *map(len, views)])
        first = [view.ctypes.data - origin for view, origin in zip(views, origins, strict=True)]
        self._first = np.array(first, dtype=np.int64)

    def offsets(self, indices: Indices) -> Offsets:
        """Bytes from the start of the file."""
        batch = np.searchsorted(self._starts, indices, side="right") - 1
        within = indices - self._starts[batch]
        offsets: Offsets = (self._first[batch] + within * self._row_size).astype(np.uint64)
        return offsets


def _whole(batches: Sequence[Any], name: str) -> NDArray[Any]:
    return np.concatenate([batch.column(name).to_numpy() for batch in batches])


class LogGatherer:
    """From log-space rows: a copy."""

    def __init__(
        self, file: _core.RowFile, layout: Layout, batches: Sequence[Any], origins: Origins
    ) -> None:
        self._file = file
        self._features = _Matrix(batches, "features", origins)

    def rows(self, indices: Indices, out: Rows) -> None:
        """Copy rows."""
        self._file.log_rows(self._features.offsets(indices), out)


class CountGatherer:
    """From counts."""

    def __init__(
        self, file: _core.RowFile, layout: Layout, batches: Sequence[Any], origins: Origins
    ) -> None:
        self._file, self._ks = file, layout.ks
        self._counts = {k: _Matrix(batches, f"k{k}", origins) for k in layout.ks}
        self._totals = {k: _whole(batches, f"n{k}") for k in layout.ks}
        self._lengths = _whole(batches, "length")
        self._gc = _whole(batches, "gc")

    def rows(self, indices: Indices, out: Rows) -> None:
        """Compute rows from counts, lengths and GC."""
        blocks = [
            (k, counts.item_size, counts.offsets(indices), self._totals[k][indices])
            for k, counts in self._counts.items()
        ]
        lengths, gc = self._lengths[indices], self._gc[indices]
        self._file.counted_rows(self._ks, lengths, gc, blocks, out)


class PackedGatherer:
    """From sequences.

    Attributes
    ----------
    lengths
        Letters of every row.
    n_gaps, first_gap
        How many gaps a row has, and where they begin among all.
    gap_starts, gap_lengths
        First letter and letters of every gap.
    """

    def __init__(
        self, file: _core.RowFile, layout: Layout, batches: Sequence[Any], origins: Origins
    ) -> None:
        self._file, self._ks = file, layout.ks
        self._sequences = [batch.column("sequence") for batch in batches]
        self._origins = origins
        self.lengths = _whole(batches, "length")
        self._offsets = np.concatenate(
            [
                (binary_offsets(column)[:-1] + column.buffers()[2].address - origin)
                for column, origin in zip(self._sequences, origins, strict=True)
            ]
        ).astype(np.uint64)
        gaps = [batch.column("invalid") for batch in batches]
        self.n_gaps = np.concatenate([np.diff(column.offsets.to_numpy()) for column in gaps])
        self.first_gap = np.cumsum(self.n_gaps, dtype=np.int64) - self.n_gaps
        runs = [column.flatten() for column in gaps]
        self.gap_starts = np.concatenate([run.field("start").to_numpy() for run in runs])
        self.gap_lengths = np.concatenate([run.field("length").to_numpy() for run in runs])

    def rows(self, indices: Indices, out: Rows) -> None:
        """Compute the rows of whole sequences."""
        lengths = self.lengths[indices]
        self.stretches(indices, np.zeros_like(lengths), lengths, out)

    def stretches(self, indices: Indices, starts: Offsets, ends: Offsets, out: Rows) -> None:
        """Compute the rows of parts of sequences, from letter `starts` up to `ends`."""
        counts = self.n_gaps[indices]
        bounds = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        # The gaps of each row, one row after the other.
        of_rows = np.repeat(self.first_gap[indices] - bounds[:-1], counts)
        gaps = of_rows + np.arange(bounds[-1])
        self._file.packed_rows(
            self._ks,
            self._offsets[indices],
            starts,
            ends,
            bounds,
            self.gap_starts[gaps],
            self.gap_lengths[gaps],
            out,
        )

    @property
    def n_bytes(self) -> int:
        """Bytes of all packed sequences, and of what says where they are."""
        letters = int(self.lengths.sum(dtype=np.int64))
        return letters // 4 + 32 * len(self.lengths) + 16 * len(self.gap_starts)

    def packed_bytes(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """All packed sequences one after the other, and where each begins."""
        parts, starts, end = [], [], 0
        for column, origin in zip(self._sequences, self._origins, strict=True):
            data = column.buffers()[2]
            self._file.verify(data.address - origin, data.size)
            offsets = binary_offsets(column)
            data = np.frombuffer(column.buffers()[2], dtype=np.uint8)
            parts.append(data[offsets[0] : offsets[-1]])
            starts.append(offsets[:-1] - offsets[0] + end)
            end += len(parts[-1])
        return np.concatenate(parts), np.concatenate(starts)


GATHERERS: dict[str, type[Gatherer]] = {
    "log": LogGatherer,
    "counts": CountGatherer,
    "packed": PackedGatherer,
}
