"""Rows as counts and features, whole and in halves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kvae.errors import KvaeError
from kvae.featurizing import count_kmers, featurize_sequences
from kvae.row_sources import Indices, describe_row
from kvae.store import FeatureStore

__all__ = ["Composition", "halves", "has_sequences", "read_compositions", "split_sequences"]

# What predictors are made of.
KS = (7, 4, 3)
# Rows at a time: a profile of them takes 16 MB.
BATCH_ROWS = 256


@dataclass(frozen=True)
class Composition:
    """Some rows: what a model reads, and what there is to predict.

    Attributes
    ----------
    x
        Log-space rows, float32, shape (rows, fields).
    counts
        By k, the counts of canonical k-mers, float64.
    """

    x: Tensor
    counts: Mapping[int, Tensor]

    @property
    def n(self) -> Tensor:
        """Number of 7-mers in each row."""
        return self.counts[7].sum(dim=1)

    def take(self, rows: Tensor) -> Composition:
        """Keep some rows."""
        return Composition(self.x[rows], {k: counts[rows] for k, counts in self.counts.items()})


def has_sequences(store: FeatureStore) -> bool:
    """Whether a file keeps sequences, so that rows can be halved."""
    return "sequence" in store.column_names


def batches(rows: Indices, size: int = BATCH_ROWS) -> Iterator[Indices]:
    """Cut rows into batches."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def read_compositions(store: FeatureStore, rows: Indices, device: torch.device) -> Composition:
    """Read whole rows of a feature file.

    Raises
    ------
    KvaeError
        At the first row whose features are not finite.
    """
    x = store.rows(rows)
    finite = np.isfinite(x).all(axis=1)
    if not finite.all():
        row = int(rows[int(finite.argmin())])
        raise KvaeError(f"{describe_row(store, row)}: features are not finite")
    counts = {k: _tensor(store.counts(rows, k), device) for k in KS}
    return Composition(torch.from_numpy(x).to(device), counts)


def split_sequences(store: FeatureStore, rows: Indices) -> tuple[list[bytes], list[bytes]]:
    """Sequences of rows in two halves; the middle letter of odd ones is in the second."""
    whole = store.sequences(rows)
    first = [sequence[: len(sequence) // 2] for sequence in whole]
    return first, [sequence[len(sequence) // 2 :] for sequence in whole]


def halves(
    store: FeatureStore, rows: Indices, device: torch.device, threads: int | None = None
) -> tuple[Composition, Composition, Tensor]:
    """Read rows in halves.

    Returns
    -------
    first, second, kept
        Both halves of every row of which both have a 7-mer, and which those are.
    """
    parts = split_sequences(store, rows)
    counts = [
        {k: _tensor(count_kmers(part, k, threads=threads), device) for k in KS} for part in parts
    ]
    x = [
        torch.from_numpy(featurize_sequences(part, k=store.layout.ks, threads=threads)).to(device)
        for part in parts
    ]
    first, second = (Composition(*pair) for pair in zip(x, counts, strict=True))
    kept = ((first.n > 0) & (second.n > 0)).nonzero()[:, 0]
    return first.take(kept), second.take(kept), kept


def _tensor(counts: NDArray[np.uint32], device: torch.device) -> Tensor:
    return torch.from_numpy(counts.astype(np.float64)).to(device)
