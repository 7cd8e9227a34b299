"""Rows in an array, with the interface of a feature file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kvae.errors import KvaeError
from kvae.layout import Layout

__all__ = ["ArrayRows"]


class ArrayRows:
    """Log-space rows in memory, to train on and encode as a feature file is.

    Parameters
    ----------
    data
        The rows, numbers of shape (rows, fields) as `kvae.featurize_sequences` returns
        them. They are not copied where they are float32.
    layout
        What the fields mean.
    ids
        Names of the rows, ``row_0`` and so on where omitted. Rows of one name are
        those of one contig.

    Raises
    ------
    KvaeError
        For an array of another shape, without rows, or of what is no number, and for
        as many names as there are not rows.
    """

    path = "array"

    def __init__(
        self, data: NDArray[Any], layout: Layout, *, ids: Sequence[str] | None = None
    ) -> None:
        if data.ndim != 2 or data.shape[1] != layout.n_fields:
            raise KvaeError(
                f"rows of {layout.n_fields} fields expected, got an array of shape {data.shape}"
            )
        if len(data) == 0:
            raise KvaeError("the array has no rows")
        if data.dtype.kind not in "fiu":
            raise KvaeError(f"rows of numbers expected, got an array of {data.dtype}")
        if ids is not None and len(ids) != len(data):
            raise KvaeError(f"{len(ids)} names for {len(data)} rows")
        self.data: NDArray[np.float32] = data.astype(np.float32, copy=False)
        self.layout = layout
        self._ids = ids

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.data)

    @property
    def source_codes(self) -> NDArray[np.int32]:
        """All rows come from the one array."""
        return np.zeros(len(self), dtype=np.int32)

    @property
    def source_names(self) -> list[str]:
        """The one source."""
        return [self.path]

    @property
    def ids(self) -> Any:
        """Name of each row, an Arrow array of strings."""
        names = [f"row_{i}" for i in range(len(self))] if self._ids is None else self._ids
        return pa.chunked_array([pa.array(names, pa.string())])

    def column(self, name: str) -> Any:
        """Return what a feature file says about its rows, as far as it is known.

        Raises
        ------
        KeyError
            If it is not.
        """
        if name == "id":
            return self.ids
        lengths = np.rint(np.exp(self.data[:, self.layout.block("length").start], dtype=np.float64))
        if name in ("end", "length"):
            return pa.chunked_array([np.nan_to_num(lengths).astype(np.uint64)])
        if name == "start":
            return pa.chunked_array([np.zeros(len(self), dtype=np.uint64)])
        raise KeyError(name)

    def rows(
        self, indices: NDArray[np.int64], out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Gather rows by their positions, shape (len(indices), fields).

        Raises
        ------
        IndexError
            If a position is outside the array.
        """
        if out is None:
            return self.data[indices]
        return np.take(self.data, indices, axis=0, out=out)
