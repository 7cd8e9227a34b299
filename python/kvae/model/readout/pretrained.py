"""Readout through the frozen decoder of a pretrained autoencoder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from kvae.config import PretrainedReadout
from kvae.errors import KvaeError
from kvae.model.autoencoder import read_expansion
from kvae.model.readout.registry import readout

if TYPE_CHECKING:
    from kvae.layout import Block, Layout


@readout(PretrainedReadout)
class Pretrained(nn.Module):
    """Linear to a code, and from there what the autoencoder has learned.

    The frozen numbers are buffers: no optimizer sees them, and they are part of
    every file of the model. They are not a number before `read_weights` or a model
    file has filled them in, so that nothing can be trained without them.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, config: PretrainedReadout, n_in: int, block: Block, start: float) -> None:
        super().__init__()
        self._weights = config.weights
        self._block = block
        self.code = nn.Linear(n_in, config.code)
        self.register_buffer("weight", torch.full((block.size, config.code), torch.nan))
        self.register_buffer("bias", torch.full((block.size,), torch.nan))

    def read_weights(self, layout: Layout) -> None:
        """Read the frozen numbers.

        Raises
        ------
        KvaeError
            Where the configuration names no file, or it does not fit.
        """
        if self._weights is None:
            raise KvaeError(
                "a pretrained readout needs a file of kvae pretrain: give its path as "
                "decoder.sparse.readout.weights"
            )
        weight, bias = read_expansion(Path(self._weights), layout, self._block.name)
        if weight.shape != self.weight.shape:
            raise KvaeError(
                f"{self._weights}: codes of {weight.shape[1]} numbers, but "
                f"decoder.sparse.readout.code is {self.weight.shape[1]}"
            )
        self.weight.copy_(weight)
        self.bias.copy_(bias)

    def forward(self, h_BH: Tensor) -> Tensor:
        """Map hidden vectors (rows, ``n_in``) to log frequencies (rows, k-mers)."""
        return functional.linear(self.code(h_BH), self.weight, self.bias)
