"""Readouts made of linear layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from kvae.config import DenseReadout, LowRankReadout
from kvae.model.readout.registry import readout

if TYPE_CHECKING:
    from kvae.layout import Block


@readout(DenseReadout)
class Dense(nn.Linear):
    """One weight for every k-mer and hidden unit."""

    def __init__(self, config: DenseReadout, n_in: int, block: Block, start: float) -> None:
        super().__init__(n_in, block.size)
        nn.init.constant_(self.bias, start)


@readout(LowRankReadout)
class LowRank(nn.Sequential):
    """The same with a matrix of low rank: linear to a bottleneck, and on from there."""

    def __init__(self, config: LowRankReadout, n_in: int, block: Block, start: float) -> None:
        output = nn.Linear(config.rank, block.size)
        nn.init.constant_(output.bias, start)
        super().__init__(nn.Linear(n_in, config.rank), output)
