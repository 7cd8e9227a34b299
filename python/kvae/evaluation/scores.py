"""Scores of reconstruction, and how sure they are."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvae.evaluation.presence import PresenceScore

__all__ = ["Nats", "ProfileScore", "Reconstruction", "majority", "ratio", "summarise"]

# With fewer genomes than this, the error of a mean is taken over rows.
_GROUPS = 10


@dataclass(frozen=True)
class Nats:
    """Cross-entropy of counts under a profile.

    Attributes
    ----------
    mean
        Nats per k-mer, all k-mers of all rows together.
    error
        Its standard error, over genomes where there are ten or more, else over rows.
    minus_model
        The same less the model's, and the standard error of that difference.
    """

    mean: float
    error: float
    minus_model: tuple[float, float]


@dataclass(frozen=True)
class ProfileScore:
    """Scores of a predictor of profiles.

    Attributes
    ----------
    own
        Of rows that the predictor has seen.
    cross
        Of the other half of what it has seen, None without sequences.
    presence
        By threshold.
    """

    own: Nats
    cross: Nats | None
    presence: dict[str, PresenceScore]


@dataclass(frozen=True)
class Reconstruction:
    """Scores of a model's reconstruction beside those of other predictors.

    Attributes
    ----------
    rows, cross_rows
        Rows scored, and rows scored in halves.
    learned_from
        ``reference`` or ``evaluated``: the rows that the mean profile, the correction
        of the chains, the rates of presence and the constants are from.
    truth
        The predictor whose profile stands for the truth where noise is measured.
    profiles
        By predictor.
    majority, kmer_majority
        By threshold: presence by the more frequent class of all cells, and by every
        k-mer's own rate.
    gate
        The model's gate at its own threshold, None without one that is apart from the
        profile.
    gate_threshold
        That threshold.
    mse
        By group, the squared error of the ``model``'s log frequencies, of a
        ``constant``'s, and the ``noise``: what the true composition's would be, see
        `kvae.evaluation.noise.SamplingNoise`. NaN for blocks of other k than 7, 4, 3.
    truth_mse
        Squared error of the logarithms of 7-mers of the profile that stands for the
        truth. It is large: a profile says how often a k-mer is expected, and the
        logarithm of that is not the expected logarithm.
    """

    rows: int
    cross_rows: int
    learned_from: str
    truth: str
    profiles: dict[str, ProfileScore]
    majority: dict[str, PresenceScore]
    kmer_majority: dict[str, PresenceScore]
    gate: PresenceScore | None
    gate_threshold: float
    mse: dict[str, dict[str, float]]
    truth_mse: float

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain values."""
        return asdict(self)


def summarise(
    nats: NDArray[np.float64],
    n: NDArray[np.float64],
    groups: NDArray[np.int64],
    of_model: NDArray[np.float64],
) -> Nats:
    """Pool the nats of rows, and compare them with the model's.

    Parameters
    ----------
    nats, n
        Nats and k-mers of each row.
    groups
        The genome of each row.
    of_model
        Nats of each row under the model's profile.
    """
    mean, error = ratio(nats, n, groups)
    return Nats(mean, error, ratio(nats - of_model, n, groups))


def ratio(
    sums: NDArray[np.float64], counts: NDArray[np.float64], groups: NDArray[np.int64]
) -> tuple[float, float]:
    """Ratio of two sums over rows, and its standard error over groups of rows."""
    if len(np.unique(groups)) >= _GROUPS:
        _, codes = np.unique(groups, return_inverse=True)
        n_codes = int(codes.max()) + 1
        pooled_sums, pooled_counts = np.zeros(n_codes), np.zeros(n_codes)
        np.add.at(pooled_sums, codes, sums)
        np.add.at(pooled_counts, codes, counts)
        sums, counts = pooled_sums, pooled_counts
    value = sums.sum() / counts.sum()
    n = len(sums)
    spread = np.square(sums - value * counts).sum() * n / max(n - 1, 1)
    return float(value), float(np.sqrt(spread) / counts.sum())


def majority(rate: float) -> PresenceScore:
    """Score of the more frequent class, its rate known."""
    accuracy = max(rate, 1.0 - rate)
    entropy = -sum(p * float(np.log(p)) for p in (rate, 1.0 - rate) if p > 0)
    return PresenceScore(accuracy, entropy, accuracy)
