"""A model between two others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from kvae.model.vae import KmerVAE

__all__ = ["mixed"]


@torch.no_grad()
def mixed(first: KmerVAE, second: KmerVAE, share: float) -> KmerVAE:
    """Average the weights of two models of the same architecture.

    Of use where one was trained from the other: what lies between computes something
    between (weight-space ensembling, Wortsman et al. 2022).

    Parameters
    ----------
    first, second
        The models; neither is changed.
    share
        Weight of the first, 0 to 1. What is counted, and not learned, is the second's.

    Returns
    -------
    KmerVAE
        A new model on the CPU, in evaluation mode.
    """
    from kvae.model.vae import KmerVAE

    others = first.state_dict()
    state = {}
    for name, tensor in second.state_dict().items():
        own = tensor.to("cpu", copy=True)
        if own.is_floating_point():
            own.lerp_(others[name].to(own), share)
        state[name] = own
    model = KmerVAE(second.config, second.layout)
    model.load_state_dict(state)
    return model.eval()
