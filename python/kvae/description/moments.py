"""Means and variances of columns, a batch of rows at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Mask = NDArray[np.bool_]


class Moments:
    """Count, mean and sum of squared deviations of every column.

    Batches are merged by the formula of Chan, Golub and LeVeque: no sum of squares
    is ever subtracted from another, so a variance that is small beside its mean
    keeps its digits whatever the number of rows.

    Parameters
    ----------
    width
        Number of columns.

    Attributes
    ----------
    n, mean
        Number of values and their mean, per column; the mean is 0 where there is none.
    """

    def __init__(self, width: int) -> None:
        self.n = np.zeros(width)
        self.mean = np.zeros(width)
        self._squares = np.zeros(width)

    def add(self, values: Matrix, mask: Mask | None = None) -> None:
        """Take in rows; where there is a mask, only the values it marks count."""
        marked = np.ones(values.shape, dtype=bool) if mask is None else mask
        n = marked.sum(axis=0).astype(np.float64)
        mean = np.divide(values.sum(axis=0, where=marked), n, out=np.zeros_like(n), where=n > 0)
        squares = np.square(values - mean).sum(axis=0, where=marked)
        together = self.n + n
        share = np.divide(n, together, out=np.zeros_like(n), where=together > 0)
        distance = mean - self.mean
        self.mean += distance * share
        self._squares += squares + np.square(distance) * self.n * share
        self.n = together

    @property
    def variance(self) -> NDArray[np.float64]:
        """Variance of the values seen, not of a population; NaN where there are none."""
        return np.divide(self._squares, self.n, out=np.full_like(self.n, np.nan), where=self.n > 0)
