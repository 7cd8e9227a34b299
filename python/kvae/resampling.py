"""Windows of sequences in memory, drawn anew for every epoch.

Stored rows show a model the same windows again and again, cut at multiples of
the same number. From sequences in memory, a row can be any window: a training
run sees each contig in other pieces, and of other lengths, in every epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kvae.featurizing import DEFAULT_KS, DEFAULT_MIN_LENGTH, DEFAULT_WINDOW, Paths, Progress
from kvae.sequences import open_sequences
from kvae.store import FeatureStore

if TYPE_CHECKING:
    from kvae.gathering import PackedGatherer
    from kvae.layout import Layout

__all__ = ["ResampledRows", "open_resampled"]

Indices = NDArray[np.int64]

# A window has a row if it has one valid k-mer of the longest k.
_SHORTEST_RUN = 7

# Keeps these random numbers apart from all others of the same seed.
_STREAM = 0xD4A3


class ResampledRows:
    """Rows of windows that can be drawn anew; a `kvae.row_sources.RowSource`.

    To begin with, the windows are those of `kvae.featurize`: as many as fit into
    each contig, the remainder joined to the last.

    Parameters
    ----------
    contigs
        Whole contigs, packed.
    window
        Letters in a window.
    min_length
        Letters in the shortest window that is drawn.
    seed
        Decides what is drawn.
    """

    def __init__(self, contigs: FeatureStore, window: int, min_length: int, seed: int) -> None:
        self._contigs = contigs
        self._seed = seed
        self._shortest, self._longest = max(min_length, _SHORTEST_RUN), 2 * window
        self._lengths = contigs.packed.lengths.astype(np.int64)
        n_windows = np.maximum(1, self._lengths // window)
        self._contig = np.repeat(np.arange(len(contigs)), n_windows)
        first = np.repeat(np.cumsum(n_windows) - n_windows, n_windows)
        start = (np.arange(len(self._contig)) - first) * window
        is_last = np.append(self._contig[1:] != self._contig[:-1], True)
        end = np.where(is_last, self._lengths[self._contig], start + window)
        valid = self._have_kmers(self._contig, start, end)
        self._contig, self._cut = self._contig[valid], (start[valid], end[valid])
        self._start, self._end = self._cut

    @property
    def layout(self) -> Layout:
        """Layout of the rows."""
        return self._contigs.layout

    @property
    def path(self) -> Any:
        """Where the sequences come from."""
        return self._contigs.path

    @property
    def source_names(self) -> Sequence[str]:
        """Input files."""
        return self._contigs.source_names

    @cached_property
    def source_codes(self) -> NDArray[np.int32]:
        """Position in `source_names` of each row's input file."""
        return self._contigs.source_codes[self._contig]

    @cached_property
    def ids(self) -> Any:
        """Record name of each row."""
        return self._contigs.ids.take(pa.array(self._contig))

    def __len__(self) -> int:
        """Count the rows."""
        return len(self._contig)

    def column(self, name: str) -> Any:
        """Get ``id``, ``start``, ``end`` or ``length``, as Arrow.

        Raises
        ------
        KeyError
            For any other name.
        """
        if name == "id":
            return self.ids
        values = {"start": self._start, "end": self._end, "length": self._end - self._start}
        return pa.chunked_array([values[name].astype(np.uint64)])

    def rows(self, indices: Indices, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Compute rows, shape (len(indices), fields)."""
        if out is None:
            out = np.empty((len(indices), self.layout.n_fields), dtype=np.float32)
        gatherer, contig, start, end = self.stretches_of(indices)
        gatherer.stretches(contig, start, end, out)
        return out

    @property
    def has_sequences(self) -> bool:
        """Whether the sequence of each row is known."""
        return True

    def stretches_of(
        self, indices: Indices
    ) -> tuple[PackedGatherer, Indices, NDArray[np.uint64], NDArray[np.uint64]]:
        """Where the sequences of rows are: what reads them, contig, first and last letter."""
        start, end = (edge[indices].astype(np.uint64) for edge in (self._start, self._end))
        return self._contigs.packed, self._contig[indices], start, end

    def redraw(self, epoch: int) -> None:
        """Draw the window of every row within its contig.

        Lengths are log-uniform between `min_length` and twice `window`, positions
        uniform. A window without a valid 7-mer stays what `restore` makes it. What
        is drawn depends on the seed and the epoch alone.
        """
        rng = np.random.default_rng([self._seed, epoch, _STREAM])
        contig_lengths = self._lengths[self._contig]
        logarithms = rng.uniform(np.log(self._shortest), np.log(self._longest), len(self))
        length = np.minimum(np.exp(logarithms).astype(np.int64), contig_lengths)
        start = (rng.random(len(self)) * (contig_lengths - length + 1)).astype(np.int64)
        valid = self._have_kmers(self._contig, start, start + length)
        self._start = np.where(valid, start, self._cut[0])
        self._end = np.where(valid, start + length, self._cut[1])

    def restore(self) -> None:
        """Return to the windows of `kvae.featurize`."""
        self._start, self._end = self._cut

    def _have_kmers(self, contig: Indices, start: Indices, end: Indices) -> NDArray[np.bool_]:
        """Tell the windows that have a run of 7 bases."""
        valid: NDArray[np.bool_] = end - start >= _SHORTEST_RUN
        packed = self._contigs.packed
        with_gaps = np.flatnonzero(valid & (packed.n_gaps[contig] > 0))
        # Few contigs have gaps; theirs are looked at one by one.
        order = with_gaps[np.argsort(contig[with_gaps], kind="stable")]
        for group in np.split(order, np.flatnonzero(np.diff(contig[order])) + 1):
            if len(group) == 0:
                continue
            i = int(contig[group[0]])
            gaps = slice(packed.first_gap[i], packed.first_gap[i] + packed.n_gaps[i])
            gap_start = packed.gap_starts[gaps].astype(np.int64)
            gap_end = gap_start + packed.gap_lengths[gaps]
            run_start = np.concatenate([[0], gap_end])
            run_end = np.append(gap_start, self._lengths[i])
            shared = np.minimum(end[group, None], run_end) - np.maximum(
                start[group, None], run_start
            )
            valid[group] = shared.max(axis=1) >= _SHORTEST_RUN
        return valid


def open_resampled(
    inputs: Paths,
    *,
    k: Sequence[int] = DEFAULT_KS,
    window: int = DEFAULT_WINDOW,
    min_length: int = DEFAULT_MIN_LENGTH,
    seed: int = 0,
    threads: int | None = None,
    progress: Progress | None = None,
) -> ResampledRows:
    """Read sequence files into memory, to draw windows from them.

    Parameters
    ----------
    inputs, k, window, min_length, threads, progress
        As for `kvae.open_sequences`; `window` must be positive.
    seed
        Decides what is drawn.

    Raises
    ------
    KvaeError
        If an input is missing, damaged or no sequence file, or no row is left.
    """
    contigs = open_sequences(
        inputs, k=k, window=0, min_length=min_length, threads=threads, progress=progress
    )
    return ResampledRows(contigs, window, min_length, seed)
