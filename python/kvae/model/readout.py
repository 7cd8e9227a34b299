"""Last layers of the 7-mer decoder: from a hidden vector to one number per k-mer.

To add one, write a configuration and a module and tie them together::

    class MyReadout(ReadoutConfig):
        kind: Literal["mine"] = "mine"

    @readout(MyReadout)
    class MyOutput(nn.Module):
        def __init__(self, config, n_in, n_out, start): ...

Every readout starts near a given constant, because the targets of an untrained
decoder are known: a uniform composition has the frequency 1/8192 everywhere,
and a gate knows nothing. Started at 0 instead, a linear 7-mer value would be
softplus(0) = 0.69, thousands of times too large, and most of a short training
would go into shrinking it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol, TypeVar, cast

import torch
from torch import Tensor, nn

from kvae.config import DotReadout, ReadoutConfig

ConfigT = TypeVar("ConfigT", bound=ReadoutConfig)


class ReadoutFactory(Protocol):
    """What builds a readout: a module class with this constructor."""

    def __call__(self, config: ReadoutConfig, n_in: int, n_out: int, start: float) -> nn.Module:
        """Build a module from (rows, ``n_in``) to (rows, ``n_out``).

        Its outputs before any training are close to ``start``.
        """
        ...


ModuleT = TypeVar("ModuleT", bound=nn.Module)
_FACTORIES: dict[type[ReadoutConfig], ReadoutFactory] = {}


def readout(config: type[ReadoutConfig]) -> Callable[[type[ModuleT]], type[ModuleT]]:
    """Class decorator: the module that a readout configuration stands for."""

    def register(module: type[ModuleT]) -> type[ModuleT]:
        _FACTORIES[config] = cast(ReadoutFactory, module)
        return module

    return register


def build_readout(config: ReadoutConfig, n_in: int, n_out: int, start: float) -> nn.Module:
    """Build the module that a configuration stands for."""
    return _FACTORIES[type(config)](config, n_in, n_out, start)


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

    def __init__(self, config: DotReadout, n_in: int, n_out: int, start: float) -> None:
        super().__init__()
        self.query = nn.Linear(n_in, config.embedding)
        self.embedding = nn.Parameter(torch.empty(n_out, config.embedding))
        root = math.sqrt(abs(start) / config.embedding)
        nn.init.constant_(self.query.bias, root * self._QUERY_SHARE)
        nn.init.normal_(
            self.embedding, math.copysign(root, start) / self._QUERY_SHARE, self._EMBEDDING_STD
        )

    def forward(self, h_BH: Tensor) -> Tensor:
        """Map hidden vectors (rows, ``n_in``) to outputs (rows, k-mers)."""
        query_BE = self.query(h_BH)
        return cast(Tensor, query_BE @ self.embedding.T)
