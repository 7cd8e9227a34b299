"""Readout by an embedding of the k-mers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from kvae.config import DotReadout
from kvae.model.readout.registry import readout

if TYPE_CHECKING:
    from kvae.layout import Block


@readout(DotReadout)
class DotProduct(nn.Module):
    """Dot product of a query, linear in the hidden vector, with one embedding per k-mer.

    There is no output bias: the query's bias times the embeddings is the profile
    of a row about which nothing is known.
    """

    # Share of the start that the query's bias carries, as a factor on its norm:
    # a large bias and small embeddings keep the first outputs alike across rows.
    _QUERY_SHARE = 3.0
    _EMBEDDING_STD = 0.02

    def __init__(self, config: DotReadout, n_in: int, block: Block, start: float) -> None:
        super().__init__()
        self.query = nn.Linear(n_in, config.embedding)
        self.embedding = nn.Parameter(torch.empty(block.size, config.embedding))
        root = math.sqrt(abs(start) / config.embedding)
        nn.init.constant_(self.query.bias, root * self._QUERY_SHARE)
        nn.init.normal_(
            self.embedding, math.copysign(root, start) / self._QUERY_SHARE, self._EMBEDDING_STD
        )

    def forward(self, h_BH: Tensor) -> Tensor:
        """Map hidden vectors (rows, ``n_in``) to outputs (rows, k-mers)."""
        query_BE = self.query(h_BH)
        return cast(Tensor, query_BE @ self.embedding.T)
