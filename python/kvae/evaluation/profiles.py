"""Predictors of a row's profile: probabilities of its 8,192 canonical 7-mers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from kvae.evaluation.chains import markov_profile
from kvae.model.decoder import Decoded

__all__ = [
    "Background",
    "Predictors",
    "gate_profile",
    "leave_one_out",
    "own_gate",
    "pooled",
    "profile_of",
]

# Half an observation of every k-mer, so that none is impossible.
PSEUDOCOUNT = 0.5
# Observations that the mean profile counts for in a genome's own: half of one per k-mer.
_ORACLE_WEIGHT = 4096.0
# A model may say that a k-mer is impossible, and no score survives the first one seen.
_SMALLEST = 1e-9


def pooled(total_K: Tensor) -> Tensor:
    """Profile of summed counts, with half an observation of every k-mer."""
    smoothed_K = total_K.double() + PSEUDOCOUNT
    return smoothed_K / smoothed_K.sum()


def profile_of(decoded: Decoded, pseudocount: float) -> Tensor:
    """Profile that a model decodes, float64, shape (rows, 8192); each row sums to 1.

    Parameters
    ----------
    decoded
        What the decoder says.
    pseudocount
        Of the layout, which output in log space contains.
    """
    if hasattr(decoded, "profile"):
        profile_BK: Tensor = decoded.profile(pseudocount)
    else:
        profile_BK = decoded.frequency(pseudocount)
    return _normalised(profile_BK.double())


def own_gate(decoded: Decoded) -> Tensor | None:
    """Logits of presence by a model's own gate, None without one.

    Where a gate is a factor of the profile it says nothing of its own.
    """
    return decoded.gate_logit if decoded.space in ("linear", "log") else None


def gate_profile(decoded: Decoded) -> Tensor | None:
    """Profile that a model's gate implies, None without one of its own.

    A k-mer that is absent with probability exp(-r) occurs r times on average.
    """
    logit_BK = own_gate(decoded)
    if logit_BK is None:
        return None
    return _normalised(functional.softplus(logit_BK.double()))


def _normalised(profile_BK: Tensor) -> Tensor:
    profile_BK = profile_BK.clamp(min=_SMALLEST)
    return profile_BK / profile_BK.sum(dim=1, keepdim=True)


def leave_one_out(total_BK: Tensor, counts_BK: Tensor, background_K: Tensor) -> Tensor:
    """Profiles of the rows' genomes without the rows themselves.

    Parameters
    ----------
    total_BK
        Counts of all rows of each row's genome, itself included.
    counts_BK
        Counts of each row.
    background_K
        The profile that a genome of which nothing is left is taken for; it counts as
        much as 4,096 k-mers everywhere.
    """
    left_BK = total_BK - counts_BK + _ORACLE_WEIGHT * background_K
    return left_BK / left_BK.sum(dim=1, keepdim=True)


@dataclass(frozen=True)
class Background:
    """What predictors learn from the reference rows, or from the evaluated ones.

    Attributes
    ----------
    mean
        Mean profile, shape (8192,).
    correction
        How often each 7-mer occurs per time that Markov-3 chains expect it.
    present
        Per threshold, the share of rows in which each 7-mer is present.
    fields
        Mean of every field of the log-space rows.
    """

    mean: Tensor
    correction: Tensor
    present: Mapping[str, Tensor]
    fields: Tensor


class Predictors:
    """All predictors but the model.

    Parameters
    ----------
    background
        What was learned.
    pools
        Summed counts of each genome, shape (genomes, 8192), or None where the
        genomes are not known.
    """

    def __init__(self, background: Background, pools: Tensor | None) -> None:
        self._background = background
        self._pools = pools

    @property
    def truth(self) -> str:
        """Predictor that comes nearest to the truth without memory of a row's noise.

        The genome's other rows, where they are known, else the chain with the fewest
        numbers.
        """
        return "markov2" if self._pools is None else "genome_oracle"

    def __call__(
        self, counts: Mapping[int, Tensor], genomes_B: Tensor, whole_BK: Tensor
    ) -> Iterator[tuple[str, Tensor]]:
        """Give names and profiles, one after the other.

        Parameters
        ----------
        counts
            By k (3 and 4), what the predictors may see of each row.
        genomes_B
            Positions in the pools, -1 where a row's genome is not known.
        whole_BK
            7-mers of the whole rows, which the genomes' pools must not contain.
        """
        mean_BK = self._background.mean.expand(len(whole_BK), -1)
        yield "uniform", torch.full_like(mean_BK, 1.0 / mean_BK.shape[1])
        yield "mean", mean_BK
        yield "markov2", markov_profile(counts[3], 2)
        chain_BK = markov_profile(counts[4], 3)
        yield "markov3", chain_BK
        corrected_BK = chain_BK * self._background.correction
        yield "markov3_corrected", corrected_BK / corrected_BK.sum(dim=1, keepdim=True)
        if self._pools is not None:
            known_B = genomes_B >= 0
            total_BK = self._pools[genomes_B.clamp(min=0)].double()
            total_BK = torch.where(known_B[:, None], total_BK, whole_BK)
            yield "genome_oracle", leave_one_out(total_BK, whole_BK, self._background.mean)
