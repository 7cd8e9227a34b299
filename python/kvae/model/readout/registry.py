"""Which module a readout configuration stands for.

To add one, write a configuration and a module and tie them together::

    class MyReadout(ReadoutConfig):
        kind: Literal["mine"] = "mine"

    @readout(MyReadout)
    class MyOutput(nn.Module):
        def __init__(self, config, n_in, block, start): ...

Every readout starts near a given constant, because the targets of an untrained
decoder are known: a uniform composition has the frequency 1/8192 everywhere,
and a gate knows nothing. Started at 0 instead, a linear 7-mer value would be
softplus(0) = 0.69, thousands of times too large, and most of a short training
would go into shrinking it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

from torch import nn

from kvae.config import ReadoutConfig

if TYPE_CHECKING:
    from kvae.layout import Block


class ReadoutFactory(Protocol):
    """What builds a readout: a module class with this constructor."""

    def __call__(self, config: ReadoutConfig, n_in: int, block: Block, start: float) -> nn.Module:
        """Build a module from (rows, ``n_in``) to (rows, ``block.size``).

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


def build_readout(config: ReadoutConfig, n_in: int, block: Block, start: float) -> nn.Module:
    """Build the module that a configuration stands for."""
    return _FACTORIES[type(config)](config, n_in, block, start)


def is_readout(module: nn.Module) -> bool:
    """Tell whether a module is the whole of a readout."""
    return type(module) in _FACTORIES.values()
