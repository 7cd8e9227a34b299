"""Readout in groups of k-mers with a common prefix."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from kvae.config import GroupedReadout
from kvae.errors import KvaeError
from kvae.model.readout.registry import readout

if TYPE_CHECKING:
    from kvae.layout import Block


@readout(GroupedReadout)
class Grouped(nn.Module):
    """A few numbers for every group of k-mers, and linear layers from there, one per group.

    k-mers that follow one another in lexicographic order share a prefix, so equal
    shares of them are the groups.
    """

    def __init__(self, config: GroupedReadout, n_in: int, block: Block, start: float) -> None:
        super().__init__()
        if block.size % config.groups:
            raise KvaeError(
                f"{block.size} {block.name} cannot be divided into {config.groups} equal groups"
            )
        n_members = block.size // config.groups
        self.groups = nn.Linear(n_in, config.groups * config.width)
        self.weight = nn.Parameter(torch.empty(config.groups, config.width, n_members))
        self.bias = nn.Parameter(torch.empty(block.size))
        # As torch starts a linear layer of this width.
        bound = 1.0 / math.sqrt(config.width)
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.constant_(self.bias, start)

    def forward(self, h_BH: Tensor) -> Tensor:
        """Map hidden vectors (rows, ``n_in``) to outputs (rows, k-mers)."""
        n_groups, width, _ = self.weight.shape
        h_BGW = self.groups(h_BH).view(-1, n_groups, width)
        out_BGM = torch.einsum("bgw,gwm->bgm", h_BGW, self.weight)
        return out_BGM.flatten(1) + self.bias
