"""Gradients that are 0 but for rounding.

BatchNorm subtracts the mean of a batch from the outputs of the layer before it. So
nothing changes while training when all outputs of a unit are shifted alike: by the
layer's bias, or by the weight of an input that is the same in the whole batch, such as
a 7-mer that none of its rows has. The gradients of these are 0. What is computed is the
rounding of sums that ought to vanish, and Adam, which divides by a gradient's size,
makes steps of it as large as of any other. The weights would wander, otherwise in every
number of processes, the running means would follow late, and validation would be off by
as much.

A step along a linear layer's other weights, scaled alike, changes nothing either; there
no single weight has a gradient of 0, so rounding stays as small as it is beside the rest.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from kvae.model.encoder import Encoder
from kvae.training.processes import Processes


def keep_idle_biases(model: nn.Module) -> None:
    """Leave the biases of linear layers before BatchNorm out of training."""
    for module in model.modules():
        if isinstance(module, nn.Sequential):
            for layer, following in pairwise(module):
                is_pair = isinstance(layer, nn.Linear) and isinstance(following, nn.BatchNorm1d)
                if is_pair and layer.bias is not None:
                    layer.bias.requires_grad_(False)


def clear_idle_weights(encoder: nn.Module, x_BF: Tensor, processes: Processes) -> None:
    """Set the gradients of weights to 0 whose input is the same in a whole batch.

    Parameters
    ----------
    encoder
        The encoder, with the gradients of all processes.
    x_BF
        Rows of this process, shape (rows, fields).
    processes
        Those that hold the batch.
    """
    # A frozen encoder has none, and inputs that are hidden at random differ between rows.
    if not isinstance(encoder, Encoder) or not encoder.training or encoder.dropout.p > 0.0:
        return
    varies_F = varying(encoder.clipped(x_BF), processes)
    for layer, parts in encoder.first_layers():
        clear_constant(layer, torch.cat([varies_F[part] for part in parts]))


def varying(x_BF: Tensor, processes: Processes | None = None) -> Tensor:
    """Tell which columns differ between the rows of a batch (bool)."""
    if len(x_BF):
        extremes_2F = torch.stack([x_BF.amax(dim=0), -x_BF.amin(dim=0)])
    else:
        extremes_2F = x_BF.new_full((2, x_BF.shape[1]), -torch.inf)
    if processes is not None:
        processes.most(extremes_2F)
    return extremes_2F[0] > -extremes_2F[1]


def clear_constant(layer: nn.Linear, varies_I: Tensor) -> None:
    """Set the gradients of the weights of inputs that do not vary to 0."""
    gradient_OI = layer.weight.grad
    if gradient_OI is None:
        return
    if gradient_OI.device.type == "cpu":
        # Mostly a few out of thousands; an accelerator would have to be waited for.
        gradient_OI.index_fill_(1, (~varies_I).nonzero().flatten(), 0.0)
    else:
        gradient_OI.mul_(varies_I)
