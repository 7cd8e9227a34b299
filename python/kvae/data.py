"""Rows as a torch data set, for training loops of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from kvae.featurizing import DEFAULT_KS
from kvae.layout import Layout
from kvae.row_sources import Features, RowSource, open_rows

__all__ = ["FeatureDataset"]


class FeatureDataset(Dataset[Tensor]):
    """Log-space rows as a map-style data set.

    A ``DataLoader`` asks for a batch at a time, which is gathered by threads without
    any Python per row: worker processes are of little use. They may be used all the
    same; each opens the file for itself.

    Parameters
    ----------
    features
        A feature file; sequence files and folders; an object with rows such as a
        `kvae.FeatureStore`; or an array of rows.
    k
        The k-mer blocks of the rows of sequences or of an array.
    threads
        To gather rows with, all that are available where omitted.

    Raises
    ------
    KvaeError
        For what is not there, damaged or no rows.

    Examples
    --------
    >>> rows = FeatureDataset("feats.arrow")  # doctest: +SKIP
    >>> for x_BF in DataLoader(rows, batch_size=128, shuffle=True):  # doctest: +SKIP
    ...     loss = model.elbo(x_BF).loss
    """

    def __init__(
        self, features: Features, *, k: Sequence[int] = DEFAULT_KS, threads: int | None = None
    ) -> None:
        self._opened_with: dict[str, Any] = {"features": features, "k": k, "threads": threads}
        self._source: RowSource | None = open_rows(**self._opened_with)

    @property
    def source(self) -> RowSource:
        """What the rows come from."""
        if self._source is None:
            self._source = open_rows(**self._opened_with)
        return self._source

    @property
    def layout(self) -> Layout:
        """What the fields of a row mean."""
        return self.source.layout

    @property
    def ids(self) -> list[str]:
        """Record of every row."""
        names: list[str] = self.source.ids.to_pylist()
        return names

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.source)

    def __getitem__(self, row: int) -> Tensor:
        """Return a row, float32 of shape (fields,).

        Raises
        ------
        IndexError
            If there is no such row.
        """
        return self.__getitems__([row])[0]

    def __getitems__(self, rows: Sequence[int]) -> list[Tensor]:
        """Gather rows, each float32 of shape (fields,): views of one tensor.

        Raises
        ------
        IndexError
            If there is no such row.
        """
        indices = np.asarray(rows, dtype=np.int64)
        n_rows = len(self)
        if len(indices) and not (-n_rows <= indices.min() and indices.max() < n_rows):
            raise IndexError(f"{self.source.path} has rows 0 to {n_rows - 1}")
        x_BF = self.source.rows(np.where(indices < 0, indices + n_rows, indices))
        return list(torch.from_numpy(x_BF).unbind())

    def __getstate__(self) -> dict[str, Any]:
        """Leave an open file behind: a worker process opens its own."""
        return self.__dict__ | {"_source": None}
