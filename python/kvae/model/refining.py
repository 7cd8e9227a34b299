"""Latents moved to where the decoder explains their rows better.

An encoder answers at once, and for a species that is new to it not as well as it could:
some of what the row says about its composition is not in the latent. Whoever has the
row can look further, from where the encoder points to.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kvae.model.posterior import Latent

__all__ = ["refined"]

# What a standard deviation of the posterior costs, beside a nat of the row's own counts: ten
# times what Bayes' rule says. Neighbouring k-mers share letters and stretches of a genome
# share their bias, so that counts say less than as many independent ones.
_STRENGTH = 10.0
# More steps change no score. Each is shorter than the last one, the first of this size.
_STEPS = 12
_STEP = 0.1
# No k-mer is impossible.
_LEAST = 1e-12


def refined(profile_of: Callable[[Tensor], Tensor], latent: Latent, counts_BK: Tensor) -> Tensor:
    """Move the means of latents to where the rows' own counts are more likely.

    What is looked for is the largest log likelihood of the counts less the distance from
    the mean, in standard deviations of the posterior: an encoder's answer, improved for
    each row by a few steps of its gradient [1]_. Steps are Adam's.

    Parameters
    ----------
    profile_of
        Decodes latents, shape (rows, latent units), to probabilities of k-mers, shape
        (rows, k-mers); differentiable.
    latent
        What the encoder says of the rows.
    counts_BK
        Counts of the k-mers in the rows, shape (rows, k-mers).

    Returns
    -------
    Tensor, shape (rows, latent units)
        Each row depends on its own counts alone.

    References
    ----------
    .. [1] Kim, Wiseman, Miller, Sontag and Rush, "Semi-Amortized Variational
       Autoencoders", ICML (2018).
    """
    with torch.inference_mode(False), torch.enable_grad():
        # Copies, as what was made in inference mode has no gradients.
        mean_BL = latent.mean.detach().clone()
        deviation_BL = (0.5 * latent.log_var.detach().clone()).exp()
        counts_BK = counts_BK.detach().clone().to(mean_BL)
        moved_BL = torch.zeros_like(mean_BL, requires_grad=True)
        adam = torch.optim.Adam([moved_BL], lr=_STEP)
        for step in range(_STEPS):
            adam.param_groups[0]["lr"] = _STEP * (1.0 - step / _STEPS)
            profile_BK = profile_of(mean_BL + deviation_BL * moved_BL)
            cost = _STRENGTH / 2.0 * moved_BL.square().sum()
            cost = cost - (counts_BK * profile_BK.clamp(min=_LEAST).log()).sum()
            # The model's own parameters get no gradients.
            (moved_BL.grad,) = torch.autograd.grad(cost, moved_BL)
            adam.step()
        return (mean_BL + deviation_BL * moved_BL).detach()
