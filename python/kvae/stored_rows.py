"""Rows and counts from what a feature file keeps, batch by batch.

A file keeps log-space rows, counts, or packed sequences only. Each class here
gives all of it from one of the three.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kvae import _core
from kvae.layout import Layout

__all__ = ["STORES", "StoredRows", "sequences"]

Positions = NDArray[np.int64]
Rows = NDArray[np.float32]
Counts = NDArray[np.uint32]


class StoredRows(Protocol):
    """Gives rows of a record batch by their positions in it."""

    def __init__(self, layout: Layout) -> None: ...

    def columns(self) -> dict[str, tuple[int, tuple[str, ...]]]:
        """Name the columns of fixed-size lists, their widths and possible types."""

    def rows(self, batch: Any, positions: Positions) -> Rows:
        """Compute or copy log-space rows."""

    def counts(self, batch: Any, positions: Positions, k: int) -> Counts:
        """Compute or copy counts of canonical k-mers."""


def matrix(batch: Any, name: str) -> NDArray[Any]:
    """View a column of fixed-size lists as a matrix, without a copy."""
    column = batch.column(name)
    values = column.flatten().to_numpy(zero_copy_only=True)
    return values.reshape(len(column), column.type.list_size)  # type: ignore[no-any-return]


def sequences(batch: Any, positions: Positions) -> list[bytes]:
    """Unpack sequences: upper-case bases, and N for every other letter.

    Raises
    ------
    KvaeError
        If they are damaged.
    """
    taken = batch.select(["length", "sequence", "invalid"]).take(positions)
    packed, invalid = taken.column("sequence"), taken.column("invalid")
    # A list's offsets refer to its values, which flatten() may have cut.
    gaps = invalid.values
    return _core.unpack(
        _bytes(packed),
        np.frombuffer(packed.buffers()[1], dtype=np.int64)[: len(packed) + 1],
        taken.column("length").to_numpy(),
        gaps.field("start").to_numpy(),
        gaps.field("length").to_numpy(),
        invalid.offsets.to_numpy(),
    )


def _bytes(column: Any) -> NDArray[np.uint8]:
    data = column.buffers()[2]
    return np.frombuffer(data, dtype=np.uint8) if data else np.empty(0, dtype=np.uint8)


class LogRows:
    """Files that keep log-space rows."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def columns(self) -> dict[str, tuple[int, tuple[str, ...]]]:
        """Name the one column."""
        return {"features": (self._layout.n_fields, ("float",))}

    def rows(self, batch: Any, positions: Positions) -> Rows:
        """Copy rows."""
        rows: Rows = matrix(batch, "features")[positions]
        return rows

    def counts(self, batch: Any, positions: Positions, k: int) -> Counts:
        """Count again where there are sequences, else undo the logarithm."""
        if "sequence" in batch.schema.names:
            return _core.count_kmers(sequences(batch, positions), k, None)
        block = self._layout.block(f"{k}-mers")
        logarithms = matrix(batch, "features")[positions, block.slice].astype(np.float64)
        totals = batch.column(f"n{k}").to_numpy()[positions]
        frequencies = np.exp(logarithms) - self._layout.pseudocount
        counts: Counts = np.rint(frequencies * totals[:, None]).astype(np.uint32)
        return counts


class CountRows:
    """Files that keep counts."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def columns(self) -> dict[str, tuple[int, tuple[str, ...]]]:
        """Name a column per k."""
        types = ("uint16", "uint32")
        return {f"k{k}": (self._layout.block(f"{k}-mers").size, types) for k in self._layout.ks}

    def rows(self, batch: Any, positions: Positions) -> Rows:
        """Compute rows from counts, length and GC."""
        rows = np.empty((len(positions), self._layout.n_fields), dtype=np.float32)
        for k in self._layout.ks:
            totals = batch.column(f"n{k}").to_numpy()[positions]
            block = self._layout.block(f"{k}-mers")
            logarithms = _core.log_frequencies(self.counts(batch, positions, k), totals, None)
            rows[:, block.slice] = logarithms
        length = batch.column("length").to_numpy()[positions].astype(np.float64)
        gc = batch.column("gc").to_numpy()[positions].astype(np.float64)
        rows[:, self._layout.block("length").start] = np.log(length)
        rows[:, self._layout.block("gc").start] = np.log(gc + self._layout.pseudocount)
        return rows

    def counts(self, batch: Any, positions: Positions, k: int) -> Counts:
        """Copy counts."""
        return matrix(batch, f"k{k}")[positions].astype(np.uint32)


class PackedRows:
    """Files that keep sequences only."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def columns(self) -> dict[str, tuple[int, tuple[str, ...]]]:
        """Name no column of lists."""
        return {}

    def rows(self, batch: Any, positions: Positions) -> Rows:
        """Compute rows from sequences."""
        return _core.featurize_sequences(sequences(batch, positions), self._layout.ks, None)

    def counts(self, batch: Any, positions: Positions, k: int) -> Counts:
        """Count k-mers of sequences."""
        return _core.count_kmers(sequences(batch, positions), k, None)


STORES: dict[str, type[StoredRows]] = {"log": LogRows, "counts": CountRows, "packed": PackedRows}
