"""Which rows the contrast takes for alike, and batches in which such rows meet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kvae.errors import KvaeError
from kvae.labels import label_rows, read_labels
from kvae.row_sources import Indices, RowSource

if TYPE_CHECKING:
    from kvae.config import TrainConfig
    from kvae.layout import Layout

Array = NDArray[np.float64]

# Keeps these random numbers apart from all others of the same seed.
_STREAM = 0xC1A5
# Relatives that a class brings into a batch, and among how many they are chosen: half of the
# classes then are what was drawn.
_BROUGHT, _NEAR = 1, 9
_MOST_RELATED = 8192


@dataclass(frozen=True)
class Classes:
    """Classes of all rows.

    Attributes
    ----------
    codes
        Class of every row, integers from 0, shape (rows,).
    are_grouped
        Whether a batch has to bring rows of one class together: the halves of one
        contig's row meet by themselves.
    n_labelled
        Rows whose class is one of a table of labels, None where there is none.
    """

    codes: Indices
    are_grouped: bool
    n_labelled: int | None = None


def row_classes(source: RowSource, training: TrainConfig) -> Classes:
    """Find the classes of rows that a run's ``positives`` name.

    A row that the table of labels says nothing about is a class with its contig.

    Raises
    ------
    KvaeError
        For a table that is missing, or no such table, or lacks the column.
    """
    codes = np.asarray(source.source_codes).astype(np.int64)
    if training.positives == "source":
        return Classes(codes, are_grouped=True)
    contigs = _codes(_pairs(codes, source.ids))
    if training.positives == "contig" or training.labels is None:
        return Classes(contigs, are_grouped=False)
    table = read_labels(training.labels)
    labels = label_rows(source, table, [training.positives]).columns[training.positives]
    named = np.asarray(labels).astype(str)
    classes = _codes(named)
    without = named == ""
    classes[without] = classes.max(initial=-1) + 1 + contigs[without]
    return Classes(_codes(classes), are_grouped=True, n_labelled=int((~without).sum()))


def _pairs(codes: Indices, ids: Any) -> Array | Indices:
    """Numbers that are equal where both file and record are."""
    if isinstance(ids, pa.ChunkedArray):
        ids = ids.combine_chunks()
    records = ids.dictionary_encode()
    numbers = records.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    pairs: Indices = codes * len(records.dictionary) + numbers
    return pairs


def _codes(values: NDArray[Any]) -> Indices:
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def class_means(x_NF: NDArray[np.float32], codes_N: Indices, layout: Layout) -> Array:
    """Mean shares of the 4-mers, or the shortest k-mers there are, of every class."""
    block = layout.block(f"{4 if 4 in layout.ks else min(layout.ks)}-mers")
    share_NK = np.exp(x_NF[:, block.slice].astype(np.float64))
    _, codes_N, sizes = np.unique(codes_N, return_inverse=True, return_counts=True)
    sums = np.zeros((len(sizes), block.size))
    np.add.at(sums, codes_N, share_NK)
    return sums / sizes[:, None]


def related_classes(means_GI: Array) -> Indices:
    """Nearest classes of each by their mean compositions, shape (classes, up to 9).

    None of any, where there are so many that related ones meet rarely anyway and a
    table of all distances would not fit into memory.
    """
    if len(means_GI) > _MOST_RELATED:
        return np.empty((len(means_GI), 0), dtype=np.int64)
    scaled = (means_GI - means_GI.mean(axis=0)) / (means_GI.std(axis=0) + 1e-12)
    square = (scaled * scaled).sum(axis=1)
    distance = square[:, None] + square - 2.0 * scaled @ scaled.T
    np.fill_diagonal(distance, -np.inf)
    return np.argsort(distance, axis=1, kind="stable")[:, 1 : _NEAR + 1]


class GroupedBatches:
    """Draws batches of a few rows each of some classes and of their relatives.

    Parameters
    ----------
    rows
        The rows to draw from.
    codes
        Class of every row of the source.
    related
        Numbers of related classes for each class of ``rows``, in ascending order of
        their codes; see `related_classes`.
    batch_size, per_class
        Rows in a batch, and of each class in it.
    seed
        Decides what is drawn, together with the epoch.

    Raises
    ------
    KvaeError
        Where there is one class alone.
    """

    def __init__(
        self,
        rows: Indices,
        codes: Indices,
        related: Indices,
        batch_size: int,
        per_class: int,
        seed: int,
    ) -> None:
        order = np.argsort(codes[rows], kind="stable")
        present, sizes = np.unique(codes[rows], return_counts=True)
        if len(present) < 2:
            raise KvaeError(
                "all rows are of one class: contrast needs two or more, choose other positives"
            )
        self._members = np.split(rows[order], np.cumsum(sizes)[:-1])
        # As if rows were drawn: a class of a few, seen as often as one of thousands, would be
        # learned by heart. A batch has each class once, so large ones do not fill it.
        self._log_weights = np.log(sizes)
        self._related = related
        self._n_classes = max(2, batch_size // per_class)
        self._batch_size = batch_size
        self._seed = seed
        self._n_batches = max(1, -(-len(rows) // batch_size))

    def __call__(self, epoch: int) -> list[Indices]:
        """Batches of an epoch, about as many rows as there are; rows ascending in each."""
        rng = np.random.default_rng([self._seed, epoch, _STREAM])
        return [self._batch(rng) for _ in range(self._n_batches)]

    def _batch(self, rng: np.random.Generator) -> Indices:
        chosen: dict[int, None] = {}
        n_classes = min(self._n_classes, len(self._members))
        # The order in which classes are drawn one after the other, none twice.
        order = np.argsort(-(self._log_weights + rng.gumbel(size=len(self._members))))
        for one in order[:n_classes].tolist():
            if len(chosen) >= n_classes:
                break
            chosen[one] = None
            near = self._related[one]
            brought = rng.choice(near, min(_BROUGHT, len(near)), replace=False)
            chosen |= dict.fromkeys(brought.tolist())
        # Where classes are few, more rows of each fill the batch.
        n_each = max(1, self._batch_size // n_classes)
        rows = [
            rng.choice(self._members[i], min(n_each, len(self._members[i])), replace=False)
            for i in list(chosen)[:n_classes]
        ]
        return np.sort(np.concatenate(rows))
