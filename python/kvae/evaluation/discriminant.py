"""Linear maps that keep what differs between classes and shrink what differs within."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from kvae.errors import KvaeError

__all__ = ["LinearMap", "discriminant_of_classes", "discriminant_of_pairs"]

Matrix = NDArray[np.float64]

# Added to the scatter within classes, as a share of its mean variance: directions
# along which few rows happen not to differ are no discoveries.
_RIDGE = 1e-3


@dataclass(frozen=True)
class LinearMap:
    """A linear map of vectors.

    Attributes
    ----------
    mean
        Subtracted first.
    directions
        Shape (numbers, numbers of the result).
    """

    mean: Matrix
    directions: Matrix

    def __call__(self, vectors: NDArray[Any]) -> Matrix:
        """Map vectors, one per row."""
        mapped: Matrix = (vectors - self.mean) @ self.directions
        return mapped


def discriminant_of_pairs(first: Matrix, second: Matrix, n: int = 64) -> LinearMap:
    """Learn from pairs of vectors that are of one class each, such as halves of a contig.

    Parameters
    ----------
    first, second
        The vectors, shape (pairs, numbers).
    n
        Numbers that are left, at most.
    """
    both = np.concatenate([first, second])
    difference = first - second
    # Two values of a class with variance s differ by 2 s on average.
    within = difference.T @ difference / (2 * len(first))
    return _discriminant(within, both, n)


def discriminant_of_classes(vectors: Matrix, labels: NDArray[Any], n: int = 64) -> LinearMap:
    """Learn from vectors of known classes.

    Parameters
    ----------
    vectors
        Shape (rows, numbers).
    labels
        Class of each row.
    n
        Numbers that are left, at most; one less than there are classes in any case.

    Raises
    ------
    KvaeError
        For fewer than two classes, or none with two rows.
    """
    names, codes = np.unique(labels, return_inverse=True)
    sizes = np.bincount(codes)
    if len(names) < 2 or len(vectors) <= len(names):
        raise KvaeError("a discriminant needs two classes, and a class with two rows")
    sums = np.zeros((len(names), vectors.shape[1]))
    np.add.at(sums, codes, vectors)
    centred = vectors - (sums / sizes[:, None])[codes]
    within = centred.T @ centred / (len(vectors) - len(names))
    return _discriminant(within, vectors, min(n, len(names) - 1))


def _discriminant(within: Matrix, vectors: Matrix, n: int) -> LinearMap:
    """Directions along which the total scatter is largest beside that within classes.

    Within a class every direction of the result has variance 1, or less where hardly
    anything differed, and no two are correlated.
    """
    mean = vectors.mean(axis=0)
    centred = vectors - mean
    total = centred.T @ centred / len(vectors)
    ridge = max(_RIDGE * float(np.trace(within)) / len(within), 1e-12)
    _, directions = eigh(total, within + ridge * np.eye(len(within)))
    return LinearMap(mean, directions[:, ::-1][:, :n])
