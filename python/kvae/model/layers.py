"""Layers that the encoder and the decoder share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from kvae.errors import KvaeError

if TYPE_CHECKING:
    from kvae.config import HiddenConfig, ModelConfig
    from kvae.layout import Block, Layout


def hidden_stack(widths: Sequence[int], config: HiddenConfig) -> nn.Sequential:
    """Hidden layers: Linear, BatchNorm and LeakyReLU for each step of ``widths``.

    Parameters
    ----------
    widths
        Input width, then the width of every hidden layer.
    config
        Settings of BatchNorm and LeakyReLU.
    """
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        layers += [
            nn.Linear(n_in, n_out),
            nn.BatchNorm1d(n_out, eps=config.batch_norm_eps, momentum=config.batch_norm_momentum),
            nn.LeakyReLU(config.negative_slope),
        ]
    return nn.Sequential(*layers)


class SkipStack(nn.Module):
    """Hidden layers with a linear shortcut from the first one's output to the last one's."""

    def __init__(self, widths: Sequence[int], config: HiddenConfig) -> None:
        super().__init__()
        self.first = hidden_stack(widths[:2], config)
        self.rest = hidden_stack(widths[1:], config)
        self.skip = nn.Linear(widths[1], widths[-1])

    def forward(self, x_BI: Tensor) -> Tensor:
        """Map inputs to the sum of the last hidden layer and the shortcut."""
        first_BH = self.first(x_BI)
        return cast(Tensor, self.rest(first_BH) + self.skip(first_BH))


def in_float32(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a layer in float32 where the network around it computes in half precision."""
    with without_autocast(x.device):
        return cast(Tensor, layer(x.float()))


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Compute in the precision of the tensors."""
    # The meta device, on which models are drawn, knows no autocast.
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def find_block(layout: Layout, name: str) -> Block:
    """Block of a layout by its name.

    Raises
    ------
    KvaeError
        Where the layout has no such block.
    """
    for block in layout.blocks:
        if block.name == name:
            return block
    present = ", ".join(block.name for block in layout.blocks)
    raise KvaeError(
        f"the model needs the block {name}, the features have: {present}; "
        "featurize again with a --k that has it, or give a model that does without"
    )


def log_floor(config: ModelConfig, layout: Layout) -> float:
    """Log frequency that stands for a k-mer that does not occur."""
    lowest = math.log(layout.pseudocount)
    return lowest if config.log_floor is None else max(config.log_floor, lowest)


def random_row(layout: Layout, absent: float, n_bases: int = 5_000) -> Tensor:
    """Features to expect of a random sequence, shape (fields,).

    A k-mer is present with probability ``p = 1 - exp(-n_bases / size)``, and the
    present ones share the frequency evenly; the others have the log frequency
    ``absent``.
    """
    # On the CPU even where a model is built on the meta device: this is no weight.
    row_F = torch.empty(layout.n_fields, device="cpu")
    row_F[find_block(layout, "length").slice] = math.log(n_bases)
    row_F[find_block(layout, "gc").slice] = math.log(0.5)
    for block in layout.blocks:
        if block.k is not None:
            p = -math.expm1(-n_bases / block.size)
            row_F[block.slice] = (1.0 - p) * absent - p * math.log(p * block.size)
    return row_F
