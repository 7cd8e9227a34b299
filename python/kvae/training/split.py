"""Which rows train and which validate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kvae.errors import KvaeError
from kvae.row_sources import Indices, RowSource

Unit = Literal["source", "contig", "row"]


@dataclass(frozen=True)
class Split:
    """Row numbers of the two parts, ascending.

    Attributes
    ----------
    unit
        What was kept together: all rows of a source file, of a contig, or nothing.
    held_out
        Names of the sources or contigs that validate (empty for ``row``).
    """

    train: Indices
    validation: Indices
    unit: Unit
    held_out: list[str]


def split_rows(source: RowSource, fraction: float, seed: int) -> Split:
    """Hold out about a fraction of the rows, by whole genomes where possible.

    Windows of one genome resemble each other, so a validation row of a training
    genome says little about new ones: whole source files are held out. With a
    single source its contigs are, with a single contig its windows.

    Parameters
    ----------
    source
        The rows.
    fraction
        Share of the rows to hold out, between 0 and 1.
    seed
        Chooses what is held out; names count, not the order of the files.

    Raises
    ------
    KvaeError
        Where fewer than two rows would be left to train on.
    """
    unit, codes, names = _groups(source)
    group_sizes = np.bincount(codes, minlength=len(names))
    used = [int(i) for i in np.flatnonzero(group_sizes)]
    held = np.zeros(len(names), dtype=bool)
    if len(used) > 1:
        by_name = sorted(used, key=lambda group: names[group])
        order = np.random.default_rng([seed, 0x5EED]).permutation(by_name)
        held[_choose(order, group_sizes, fraction * len(source))] = True
    is_held = held[codes]
    train = np.flatnonzero(~is_held).astype(np.int64)
    validation = np.flatnonzero(is_held).astype(np.int64)
    if len(train) < 2 or len(validation) < 1:
        raise KvaeError(
            f"{source.path}: {len(source)} row(s) leave {len(train)} to train on and "
            f"{len(validation)} to validate, at least 2 and 1 are needed"
        )
    held_out = [] if unit == "row" else sorted(names[i] for i in np.flatnonzero(held))
    return Split(train, validation, unit, held_out)


def _groups(source: RowSource) -> tuple[Unit, NDArray[np.int64], list[str]]:
    """Find what to keep together: unit, group number of every row, group names."""
    codes = np.asarray(source.source_codes).astype(np.int64)
    if len(np.unique(codes)) > 1:
        return "source", codes, list(source.source_names)
    ids = source.ids
    if isinstance(ids, pa.ChunkedArray):
        ids = ids.combine_chunks()
    encoded = ids.dictionary_encode()
    if len(encoded.dictionary) > 1:
        contigs = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        return "contig", contigs, encoded.dictionary.to_pylist()
    rows = np.arange(len(source), dtype=np.int64)
    return "row", rows, [f"{row:012d}" for row in rows]


def _choose(order: Indices, sizes: NDArray[np.int64], target: float) -> list[int]:
    """Take groups in order while each brings the total closer to the target.

    At least one is taken: where all overshoot, the smallest.
    """
    chosen: list[int] = []
    total = 0.0
    for group in order:
        if abs(total + sizes[group] - target) < abs(total - target):
            chosen.append(int(group))
            total += float(sizes[group])
    return chosen or [int(min(order, key=lambda group: sizes[group]))]
