"""Is a k-mer in a row? What a profile says about that."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["THRESHOLDS", "largest_absent", "presence_probability"]

# By the names that they have in files.
THRESHOLDS = {"1e-05": 1e-5, "0.0002": 2e-4, "0.0005": 5e-4}
# A product with a threshold such as 2e-4 may fall short of the whole number it is.
_ROUNDING = 1e-9
# Up to here the Poisson sum is shorter than the incomplete gamma function.
_SHORT_SUM = 16
# Probabilities are kept this far from 0 and 1, so that every cross-entropy is finite.
_MARGIN = 1e-12


def largest_absent(n_B: Tensor, threshold: float) -> Tensor:
    """Largest count that is not above a threshold of frequency, for rows of n k-mers.

    A k-mer is present where its count exceeds this, which is to say where
    ``count / n > threshold``.
    """
    return torch.floor(n_B.double() * threshold + _ROUNDING)


def presence_probability(profile_BK: Tensor, n_B: Tensor, threshold: float) -> Tensor:
    """Probability that each k-mer is above a threshold in rows drawn from profiles.

    The count of a k-mer of probability p in a row of n is Poisson with mean n p.

    Parameters
    ----------
    profile_BK
        Probabilities, float64, shape (rows, k-mers).
    n_B
        k-mers in each row.
    threshold
        Frequency above which a k-mer is present.

    Returns
    -------
    Tensor of float64, shape (rows, k-mers)
        Strictly between 0 and 1.
    """
    most_B = largest_absent(n_B, threshold)
    rate_BK = profile_BK * n_B.to(profile_BK.dtype)[:, None]
    chance_BK = torch.empty_like(rate_BK)
    short_B = most_B <= _SHORT_SUM
    if bool(short_B.all()):
        chance_BK = _short_sum(rate_BK, most_B)
    else:
        chance_BK[short_B] = _short_sum(rate_BK[short_B], most_B[short_B])
        long_B = ~short_B
        shape_B1 = (most_B[long_B] + 1.0)[:, None]
        chance_BK[long_B] = torch.special.gammainc(shape_B1, rate_BK[long_B])
    return chance_BK.clamp_(_MARGIN, 1.0 - _MARGIN)


def _short_sum(rate_BK: Tensor, most_B: Tensor) -> Tensor:
    """One minus the Poisson probabilities of 0 to the largest count that is absent."""
    term_BK = torch.exp(-rate_BK)
    absent_BK = term_BK.clone()
    last = int(most_B.max()) if len(most_B) else 0
    for count in range(1, last + 1):
        term_BK = term_BK * rate_BK / count
        absent_BK += term_BK * (most_B >= count)[:, None]
    return 1.0 - absent_BK


@dataclass
class PresenceSums:
    """Sums of `PresenceScore` over cells of rows and k-mers."""

    cells: int = 0
    hits: float = 0.0
    entropy: float = 0.0
    expected: float = 0.0

    def add(self, chance_BK: Tensor, present_BK: Tensor) -> None:
        """Score probabilities of presence against what is present."""
        said_BK = chance_BK > 0.5
        right_BK = torch.where(present_BK, chance_BK, 1.0 - chance_BK)
        self.cells += chance_BK.numel()
        self.hits += float((said_BK == present_BK).sum())
        self.entropy -= float(right_BK.log().sum())
        self.expected += float(torch.maximum(chance_BK, 1.0 - chance_BK).sum())

    def score(self) -> PresenceScore:
        """Means over all cells."""
        n = max(self.cells, 1)
        return PresenceScore(self.hits / n, self.entropy / n, self.expected / n)


@dataclass(frozen=True)
class PresenceScore:
    """How well presence is told.

    Attributes
    ----------
    accuracy
        Share of k-mers whose presence is guessed right at a probability of one half.
    bce
        Binary cross-entropy in nats per k-mer.
    expected_accuracy
        The accuracy that the same probabilities would have if they were the truth.
    """

    accuracy: float
    bce: float
    expected_accuracy: float
