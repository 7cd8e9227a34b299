"""A model between two others."""

from __future__ import annotations

import copy
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
    # A copy, as a new model would draw random numbers for weights that it does not keep.
    model = copy.deepcopy(second).to("cpu").eval()
    others = first.state_dict()
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            tensor.lerp_(others[name].to(tensor), share)
    return model
