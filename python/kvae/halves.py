"""Every row as two: rows of the halves of its sequence.

A model that encodes one half and has to predict the other cannot profit from the
noise of the half it has seen. Where the sequences are not stored, the k-mers of a
row are divided at random instead, which separates the noise less well: neighbouring
k-mers overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from kvae.errors import KvaeError
from kvae.resampling import ResampledRows

if TYPE_CHECKING:
    from kvae.gathering import PackedGatherer
    from kvae.layout import Layout
    from kvae.row_sources import RowSource

__all__ = ["Halves", "halves_of"]

Indices = NDArray[np.int64]
Rows = NDArray[np.float32]

# Keeps these random numbers apart from all others of the same seed.
_STREAM = 0x4A1F
# Where a sequence is cut while training, as shares of its length.
_CUTS = (0.35, 0.65)


@runtime_checkable
class _Sequences(Protocol):
    """Rows that know their letters, such as `kvae.store.FeatureStore`."""

    @property
    def has_sequences(self) -> bool:
        """Whether they really do."""
        ...

    def stretches_of(
        self, indices: Indices
    ) -> tuple[PackedGatherer, Indices, NDArray[np.uint64], NDArray[np.uint64]]:
        """Where the sequences are: what reads them, which, first and last letter."""
        ...


class _Divider(Protocol):
    """Computes the rows of both parts of some rows."""

    def divide(self, indices: Indices, cuts: NDArray[np.float64], out: Rows) -> None:
        """Write the first parts, and behind them the second ones."""


class _DividedSequences:
    """Parts of sequences: of stored rows, or of windows drawn from contigs."""

    def __init__(self, source: _Sequences) -> None:
        self._source = source

    def divide(self, indices: Indices, cuts: NDArray[np.float64], out: Rows) -> None:
        gatherer, sequence, start, end = self._source.stretches_of(indices)
        middle = start + ((end - start) * cuts).astype(np.uint64)
        n = len(indices)
        gatherer.stretches(sequence, start, middle, out[:n])
        gatherer.stretches(sequence, middle, end, out[n:])


class _DividedCounts:
    """Counts divided at random, where there are no sequences."""

    def __init__(self, source: RowSource, seed: int) -> None:
        self._source = source
        self._seed = seed

    def divide(self, indices: Indices, cuts: NDArray[np.float64], out: Rows) -> None:
        layout, n = self._source.layout, len(indices)
        rows = self._source.rows(indices)
        first, second = out[:n], out[n:]
        first[...], second[...] = rows, rows
        length = layout.block("length").start
        first[:, length] += np.log(cuts)
        second[:, length] += np.log1p(-cuts)
        # By row, not by batch: a row is divided alike whatever it is read with.
        for i, (row, cut) in enumerate(zip(indices, cuts, strict=True)):
            rng = np.random.default_rng([self._seed, int(row), int(cut * 2**32), _STREAM])
            n_windows = np.exp(rows[i, length])
            for block in layout.blocks:
                if block.k is None:
                    continue
                frequency = np.exp(rows[i, block.slice].astype(np.float64)) - layout.pseudocount
                counts = np.rint(frequency.clip(0.0) * max(n_windows - block.k + 1, 1.0))
                one = rng.binomial(counts.astype(np.int64), cut)
                for part, found in ((first, one), (second, counts - one)):
                    share = found / max(found.sum(), 1.0)
                    part[i, block.slice] = np.log(share + layout.pseudocount)


class Halves:
    """Both halves of every row of a source; a `RowSource` of twice the rows asked for.

    Sequences are cut in the middle, or after `redraw` somewhere near it.

    Parameters
    ----------
    source
        The rows.
    seed
        Decides where they are cut.
    """

    def __init__(self, source: RowSource, seed: int) -> None:
        self.source = source
        self._seed = seed
        self._cuts = np.full(len(source), 0.5)
        self._divider: _Divider
        if isinstance(source, _Sequences) and source.has_sequences:
            self._divider = _DividedSequences(source)
        else:
            self._divider = _DividedCounts(source, seed)

    @property
    def layout(self) -> Layout:
        """Layout of the rows."""
        return self.source.layout

    @property
    def path(self) -> Any:
        """Where the rows come from."""
        return self.source.path

    @property
    def source_names(self) -> Sequence[str]:
        """Input files."""
        return self.source.source_names

    @property
    def source_codes(self) -> NDArray[np.int32]:
        """Position in `source_names` of each row's input file."""
        return self.source.source_codes

    @property
    def ids(self) -> Any:
        """Record name of each row."""
        return self.source.ids

    def __len__(self) -> int:
        """Count the rows, not their halves."""
        return len(self.source)

    def column(self, name: str) -> Any:
        """Read a column of the whole rows."""
        return self.source.column(name)

    def rows(self, indices: Indices, out: Rows | None = None) -> Rows:
        """Compute the first halves of some rows, and behind them the second halves.

        Returns
        -------
        ndarray of float32, shape (2 * len(indices), fields)
        """
        if out is None:
            out = np.empty((2 * len(indices), self.layout.n_fields), dtype=np.float32)
        self._divider.divide(indices, self._cuts[indices], out)
        return out

    def redraw(self, epoch: int) -> None:
        """Cut elsewhere, and draw windows anew where the source can.

        What is drawn depends on the seed and the epoch alone.
        """
        if isinstance(self.source, ResampledRows):
            self.source.redraw(epoch)
        rng = np.random.default_rng([self._seed, epoch, _STREAM])
        self._cuts = rng.uniform(*_CUTS, len(self))

    def restore(self) -> None:
        """Return to cuts in the middle."""
        if isinstance(self.source, ResampledRows):
            self.source.restore()
        self._cuts = np.full(len(self), 0.5)


def halves_of(source: RowSource, seed: int) -> Halves:
    """Divide the rows of a source.

    Raises
    ------
    KvaeError
        Where a row is of fewer than 2 letters.
    """
    lengths = source.column("length").to_numpy()
    if len(lengths) and lengths.min() < 2:
        raise KvaeError(f"{source.path}: a sequence of 1 letter has no halves: use --min-length")
    return Halves(source, seed)
