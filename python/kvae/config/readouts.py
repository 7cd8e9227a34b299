"""Configurations of the last layer of the 7-mer decoder, the one with 8,192 outputs.

A readout is chosen by its ``kind`` among all subclasses of `ReadoutConfig`, so a
new one needs no change in this package; `kvae.model.readout` has the modules.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, SerializeAsAny

from kvae.config.base import Frozen, Width


class ReadoutConfig(Frozen):
    """Base of the configurations of a 7-mer readout.

    A subclass sets ``kind`` to a ``Literal`` with a default and is found by that
    name from then on; `kvae.model.readout.readout` ties it to a torch module.
    """

    kinds: ClassVar[dict[str, type[ReadoutConfig]]] = {}
    kind: str

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Register the subclass under its ``kind``."""
        super().__pydantic_init_subclass__(**kwargs)
        ReadoutConfig.kinds[cls.model_fields["kind"].default] = cls


class DenseReadout(ReadoutConfig):
    """One linear layer: every k-mer has a weight for every hidden unit."""

    kind: Literal["dense"] = "dense"


class LowRankReadout(ReadoutConfig):
    """Two linear layers around a bottleneck, in place of one large matrix."""

    kind: Literal["lowrank"] = "lowrank"
    rank: Width = 128


class DotReadout(ReadoutConfig):
    """Embedding dot product: every k-mer is a learned vector, a row is a query."""

    kind: Literal["dot"] = "dot"
    embedding: Width = 64


def readout_kind(name: object) -> type[ReadoutConfig]:
    """Look up the configuration class of a kind.

    Raises
    ------
    ValueError
        For an unknown kind; the message lists the known ones.
    """
    if not isinstance(name, str) or name not in ReadoutConfig.kinds:
        known = ", ".join(sorted(ReadoutConfig.kinds))
        raise ValueError(f"unknown readout kind {name!r}, known: {known}")
    return ReadoutConfig.kinds[name]


def _readout_of_kind(value: object) -> object:
    """Replace a mapping with ``kind`` by the configuration class of that kind."""
    if not isinstance(value, Mapping):
        return value
    return readout_kind(value.get("kind")).model_validate(value)


Readout = Annotated[SerializeAsAny[ReadoutConfig], BeforeValidator(_readout_of_kind)]
