"""A part of the rows of a feature file, seen as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kvae.errors import KvaeError
from kvae.row_sources import Indices, RowSource

if TYPE_CHECKING:
    from kvae.layout import Layout

# The sample depends on the file and the number of rows alone, not on a run's seed.
_STREAM = 0x5A3B1E


def sample_rows(source_codes: NDArray[np.int32], n_rows: int) -> Indices:
    """Choose rows at random, each genome's share as large as in the whole.

    Every genome is there with one row at least, where `n_rows` suffices.

    Parameters
    ----------
    source_codes
        The genome of each row.
    n_rows
        How many to choose, all of them at most.

    Returns
    -------
    ndarray of int64
        Positions, ascending; the same for the same arguments.
    """
    rng = np.random.default_rng(_STREAM)
    sizes = np.bincount(source_codes)
    shuffled = rng.permutation(len(source_codes))
    by_genome = shuffled[np.argsort(source_codes[shuffled], kind="stable")]
    genome = source_codes[by_genome]
    rank = np.arange(len(genome)) - (np.cumsum(sizes) - sizes)[genome]
    # Row r of a genome of n comes when the share r/n of everything is taken; the
    # offset keeps genomes of one size from coming in at the same moment.
    turn = (rank + rng.random(len(sizes))[genome]) / sizes[genome]
    turn[rank == 0] -= 1.0
    chosen = by_genome[np.argsort(turn, kind="stable")[:n_rows]]
    return np.sort(chosen).astype(np.int64)


class RowSample:
    """Some rows of a source, as a source of its own; nothing is copied before it is read.

    Parameters
    ----------
    source
        The rows to choose from.
    n_rows
        How many; see `sample_rows` for which.

    Raises
    ------
    KvaeError
        For more rows than there are.
    """

    def __init__(self, source: RowSource, n_rows: int) -> None:
        if not 1 <= n_rows <= len(source):
            raise KvaeError(f"{source.path}: cannot take {n_rows:,} of {len(source):,} rows")
        self._source = source
        self.indices = sample_rows(source.source_codes, n_rows)

    @property
    def layout(self) -> Layout:
        """Layout of the rows."""
        return self._source.layout

    @property
    def path(self) -> Any:
        """Where the rows come from."""
        return self._source.path

    @cached_property
    def source_codes(self) -> NDArray[np.int32]:
        """Index into `source_names` for every row."""
        return self._source.source_codes[self.indices]

    @property
    def source_names(self) -> Sequence[str]:
        """Input files, those without a row in the sample included."""
        return self._source.source_names

    @cached_property
    def ids(self) -> Any:
        """Record name of every row."""
        return self._source.ids.take(pa.array(self.indices))

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.indices)

    def column(self, name: str) -> Any:
        """Read a column that says where the rows come from."""
        return self._source.column(name).take(pa.array(self.indices))

    def rows(self, indices: Indices, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Gather rows by their positions in the sample."""
        return self._source.rows(self.indices[indices], out=out)

    @property
    def has_sequences(self) -> bool:
        """Whether the source keeps the sequence of each row."""
        return bool(getattr(self._source, "has_sequences", False))

    def stretches_of(self, indices: Indices) -> Any:
        """Where the sequences of rows are, see `kvae.store.FeatureStore.stretches_of`."""
        source: Any = self._source
        return source.stretches_of(self.indices[indices])
