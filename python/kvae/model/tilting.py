"""A profile moved towards the short k-mers of the row that it is of.

A latent keeps of a row what says where it comes from, and forgets which of its k-mers
chance has made frequent. Whoever has the row knows these too, and can put both together.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kvae.model.derive import shares

__all__ = ["PRIOR_OF_SOURCE", "WORD", "tilted"]

# Letters of the short k-mers.
WORD = 4

# Short k-mers of a row that the profile counts for: a few of each, so that those which the row
# lacks remain possible.
PRIOR = 512.0
# The same where the profile is to be that of the sequence that the row is a piece of, in which
# chance has made other k-mers frequent.
PRIOR_OF_SOURCE = 16_384.0
# Every step brings the shares nearer; more of them change no score.
_STEPS = 20


def tilted(profile_BK: Tensor, counts_BW: Tensor, *, k: int = 7, prior: float = PRIOR) -> Tensor:
    """Find the profile nearest to a given one whose short k-mers are as a row's.

    Nearest is what has the least relative entropy: every k-mer is multiplied by a
    factor for each of its words, found by iterative scaling [1]_. The words' shares are
    those that were counted, with `prior` more of what the given profile expects.

    Parameters
    ----------
    profile_BK
        Probabilities of canonical k-mers, shape (rows, k-mers).
    counts_BW
        Counts of canonical 4-mers of the rows, shape (rows, 136).
    k
        Letters of the profile's k-mers, 5 or more.
    prior
        4-mers that the given profile counts for.

    Returns
    -------
    Tensor, shape (rows, k-mers)
        Each row sums to 1.

    References
    ----------
    .. [1] Darroch and Ratcliff, "Generalized Iterative Scaling for Log-Linear Models",
       The Annals of Mathematical Statistics 43 (1972).
    """
    # Of the words of a k-mer each has an equal part, and the parts sum to 1.
    share_KW = shares(k, WORD).to(profile_BK)
    expected_BW = profile_BK @ share_KW
    n_B1 = counts_BW.sum(dim=1, keepdim=True)
    wanted_BW = (counts_BW + prior * expected_BW) / (n_B1 + prior)
    log_BK = profile_BK.log()
    for _ in range(_STEPS):
        profile_BK = torch.softmax(log_BK, dim=1)
        log_BK = log_BK + (wanted_BW / (profile_BK @ share_KW)).log() @ share_KW.T
    return torch.softmax(log_BK, dim=1)
