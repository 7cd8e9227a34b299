"""What single units of a latent carry."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvae.latents import Latents

__all__ = ["Dimensions", "dimensions"]

_BLOCK = 65_536
# Lengths of latents that differ by no more than this, relatively, are equal.
_SAME_LENGTH = 1e-3


@dataclass(frozen=True)
class Dimensions:
    """Figures of the units of a latent.

    Attributes
    ----------
    variance
        Variance of each unit's mean over rows.
    kl
        Divergence from the prior of each unit in nats, averaged over rows; None
        without the posteriors' variances.
    is_sphere
        Whether all latents have one length, so that only directions count.
    effective
        Number of independent directions that are used alike to give this covariance:
        the squared sum of its eigenvalues divided by the sum of their squares.
    rows
        Rows that were looked at.
    """

    variance: NDArray[np.float64]
    kl: NDArray[np.float64] | None
    is_sphere: bool
    effective: float
    rows: int


def dimensions(latents: Latents) -> Dimensions:
    """Look at the units of latents."""
    n_rows, n_units = latents.vectors.shape
    mean = latents.vectors.mean(axis=0, dtype=np.float64)
    covariance = np.zeros((n_units, n_units))
    total_kl = None if latents.logvar is None else np.zeros(n_units)
    shortest, longest = np.inf, 0.0
    for start in range(0, n_rows, _BLOCK):
        part = latents.vectors[start : start + _BLOCK].astype(np.float64)
        norms = np.linalg.norm(part, axis=1)
        shortest, longest = min(shortest, norms.min()), max(longest, norms.max())
        if latents.logvar is not None and total_kl is not None:
            log_var = latents.logvar[start : start + _BLOCK].astype(np.float64)
            total_kl += 0.5 * (np.exp(log_var) + np.square(part) - 1.0 - log_var).sum(axis=0)
        part -= mean
        covariance += part.T @ part
    covariance /= n_rows
    variance = np.diag(covariance).copy()
    squares = np.square(covariance).sum()
    return Dimensions(
        variance=variance,
        kl=None if total_kl is None else total_kl / n_rows,
        is_sphere=bool(longest > 0 and longest - shortest <= _SAME_LENGTH * longest),
        effective=float(variance.sum() ** 2 / squares) if squares > 0 else 0.0,
        rows=n_rows,
    )
