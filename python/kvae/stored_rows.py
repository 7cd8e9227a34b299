"""Counts and sequences from what a feature file keeps, batch by batch.

A file keeps log-space rows, counts, or packed sequences only. Each class here
gives counts from one of the three; rows are the matter of `kvae.gathering`.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kvae import _core
from kvae.layout import Layout

__all__ = ["STORES", "StoredRows", "sequences"]

Positions = NDArray[np.int64]
Counts = NDArray[np.uint32]


class StoredRows(Protocol):
    """Gives counts of a record batch by their positions in it."""

    def __init__(self, layout: Layout) -> None: ...

    def columns(self) -> dict[str, tuple[int, tuple[str, ...]]]:
        """Name the columns of fixed-size lists, their widths and possible types."""

    def reads(self, k: int, *, has_sequences: bool) -> list[str]:
        """Name the large columns that counts are made of."""

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
        binary_offsets(packed),
        taken.column("length").to_numpy(),
        gaps.field("start").to_numpy(),
        gaps.field("length").to_numpy(),
        invalid.offsets.to_numpy(),
    )


def binary_offsets(column: Any) -> NDArray[np.int64]:
    """Where each value of a column of large binaries begins, and the last one ends."""
    return np.frombuffer(column.buffers()[1], dtype=np.int64, count=len(column) + 1)


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

    def reads(self, k: int, *, has_sequences: bool) -> list[str]:
        """Name the better of two columns."""
        return ["sequence" if has_sequences else "features"]

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

    def reads(self, k: int, *, has_sequences: bool) -> list[str]:
        """Name the column of this k."""
        return [f"k{k}"]

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

    def reads(self, k: int, *, has_sequences: bool) -> list[str]:
        """Name the only one."""
        return ["sequence"]

    def counts(self, batch: Any, positions: Positions, k: int) -> Counts:
        """Count k-mers of sequences."""
        return _core.count_kmers(sequences(batch, positions), k, None)


STORES: dict[str, type[StoredRows]] = {"log": LogRows, "counts": CountRows, "packed": PackedRows}
