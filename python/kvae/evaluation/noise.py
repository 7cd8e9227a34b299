"""What sampling alone makes of the fields of a row."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["SamplingNoise"]

# Half an observation of every k-mer, as for the chains.
_PSEUDOCOUNT = 0.5


class SamplingNoise:
    """Variance of log fields between rows that are drawn from the same composition.

    A row is one draw from a composition: drawn again, its k-mers would be counted
    otherwise. Half the squared difference of two such draws is, on average, the
    squared error that even the true composition has.

    Parameters
    ----------
    pseudocount
        Added to frequencies before the logarithm.
    seed
        Of the draws.
    """

    def __init__(self, pseudocount: float, seed: int = 0) -> None:
        self._pseudocount = pseudocount
        # On the CPU, so that all devices draw the same.
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(
        self, counts: Mapping[int, Tensor], profile_BK: Tensor, gc_B: Tensor
    ) -> dict[str, float]:
        """Sum the variances of some rows.

        Parameters
        ----------
        counts
            By k. Compositions of short k-mers are those that are counted.
        profile_BK
            Compositions of the 7-mers, which are too rare to be taken as counted.
        gc_B
            GC fractions.

        Returns
        -------
        dict
            By block, the sum over rows and fields.
        """
        found = {}
        for k, counts_BK in counts.items():
            n_B1 = counts_BK.sum(dim=1, keepdim=True)
            composition_BK = profile_BK
            if k < 7:
                smoothed_BK = counts_BK + _PSEUDOCOUNT
                composition_BK = smoothed_BK / smoothed_BK.sum(dim=1, keepdim=True)
            rate_BK = (composition_BK * n_B1).cpu()
            first, second = (self._drawn(rate_BK, n_B1.cpu()) for _ in range(2))
            found[f"{k}-mers"] = 0.5 * float((first - second).square().sum())
        # The variance of the logarithm of a share of n independent letters.
        n_B = counts[7].sum(dim=1)
        gc_B = gc_B.clamp(min=1e-3)
        found["gc"] = float(((1.0 - gc_B) / (gc_B * n_B)).sum())
        return found

    def _drawn(self, rate_BK: Tensor, n_B1: Tensor) -> Tensor:
        drawn_BK = torch.poisson(rate_BK, generator=self._generator)
        return (drawn_BK / n_B1 + self._pseudocount).log()
