"""The linear map that an encoder of profiles starts from: discriminants of classes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["EVENING", "Discriminants", "discriminants", "evened"]

# Share of the mean variance that is added to every direction before whitening: a
# direction in which a class hardly varies in the sample is not one without noise.
_RIDGE = 1e-4
# Directions are scaled by the variance between classes to this power: the few in which
# classes differ most would outweigh those that tell related ones apart.
# Where it is less than the variance within classes, which is 1, there is nothing to raise.
EVENING = -0.25


@dataclass(frozen=True)
class Discriminants:
    """Directions in which classes differ, in units of the scatter within them.

    Attributes
    ----------
    mean
        Mean of the classes, subtracted first.
    whitening
        Takes inputs to where the scatter within classes is 1 in every direction.
    between
        Variance between the classes' means along each direction, descending.
    directions
        Of whitened inputs, a column each, orthonormal.
    """

    mean: Tensor
    whitening: Tensor
    between: Tensor
    directions: Tensor


def discriminants(inputs_NI: Tensor, classes_N: Tensor) -> Discriminants:
    """Find the discriminants of linear discriminant analysis, all classes weighing the same.

    Parameters
    ----------
    inputs_NI
        Rows in double precision, shape (rows, inputs), several of each class.
    classes_N
        Their classes, integers from 0.
    """
    means_GI, within_II = _scatter(inputs_NI, classes_N)
    mean_I = means_GI.mean(dim=0)
    ridge = _RIDGE * within_II.diagonal().mean() + 1e-12
    values_I, vectors_II = torch.linalg.eigh(
        within_II + ridge * torch.eye(len(within_II), dtype=within_II.dtype)
    )
    whitening_II = (vectors_II / values_I.sqrt()) @ vectors_II.T
    between_GI = (means_GI - mean_I) @ whitening_II
    # Ascending; the last ones separate most.
    between_I, directions_II = torch.linalg.eigh(between_GI.T @ between_GI / len(between_GI))
    return Discriminants(mean_I, whitening_II, between_I.flip(0), directions_II.flip(1))


def evened(between_L: Tensor, power: float = EVENING) -> Tensor:
    """Scale of each direction, of which the variance between classes is given.

    The variance within classes is 1 in all of them. The variance of all rows is, summed
    over the directions, what it would be with scales of 1.
    """
    scale_L = between_L.clamp(min=1.0) ** power
    total_L = between_L + 1.0
    return scale_L * (total_L.sum() / (scale_L.square() * total_L).sum()).sqrt()


def _scatter(x_NI: Tensor, classes_N: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of every class, and the mean covariance within classes, each counted once."""
    _, classes_N, sizes_G = torch.unique(classes_N, return_inverse=True, return_counts=True)
    sums_GI = x_NI.new_zeros(len(sizes_G), x_NI.shape[1])
    sums_GI.index_add_(0, classes_N, x_NI)
    means_GI = sums_GI / sizes_G[:, None]
    residual_NI = x_NI - means_GI[classes_N]
    # A class of n rows has n - 1 independent residuals; one of a single row has none.
    weight_N = 1.0 / (sizes_G - 1).clamp(min=1).to(x_NI.dtype)[classes_N]
    n_classes = max(int((sizes_G > 1).sum()), 1)
    return means_GI, (residual_NI * weight_N[:, None]).T @ residual_NI / n_classes
