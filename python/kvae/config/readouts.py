"""Configurations of the last layer of the 7-mer decoder, the one with 8,192 outputs.

A readout is chosen by its ``kind`` among all subclasses of `ReadoutConfig`, so a
new one needs no change in this package; `kvae.model.readout` has the modules.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny

from kvae.config.base import Frozen, Width, part


class ReadoutConfig(Frozen):
    """Base of the configurations of a 7-mer readout.

    A subclass sets ``kind`` to a ``Literal`` with a default and is found by that
    name from then on; `kvae.model.readout.readout` ties it to a torch module.
    """

    kinds: ClassVar[dict[str, type[ReadoutConfig]]] = {}
    # Whether the outputs can be any numbers, as the logits of a gate must.
    for_gates: ClassVar[bool] = True
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


class GroupedReadout(ReadoutConfig):
    """Linear layers of its own for each group of neighbouring k-mers.

    k-mers are in lexicographic order, so those of a group share a prefix: a
    hidden vector becomes ``width`` numbers for each group, and these the group's
    k-mers.
    """

    kind: Literal["grouped"] = "grouped"
    groups: Width = 64
    width: Width = 32


class ConvReadout(ReadoutConfig):
    """Transposed convolutions that grow an image of all k-mers.

    ``channels`` are those of the layers from the smallest image on; each but the
    last doubles its sides, and the last layer writes the full image.
    """

    kind: Literal["conv"] = "conv"
    channels: Annotated[tuple[Width, ...], Field(min_length=1, max_length=8)] = (128, 64, 32, 16, 8)
    negative_slope: Annotated[float, Field(ge=0.0, le=1.0)] = 0.3


class PretrainedReadout(ReadoutConfig):
    """Linear to the code of an autoencoder, and its frozen decoder from there.

    ``weights`` is a file of `kvae.pretrain` with codes of ``code`` numbers. It is
    read when a run starts, and is part of the model from then on.
    """

    for_gates: ClassVar[bool] = False
    kind: Literal["pretrained"] = "pretrained"
    code: Width = 128
    weights: str | None = None


def readout_kind(name: object) -> type[ReadoutConfig]:
    """Look up the configuration class of a kind.

    Raises
    ------
    ValueError
        For an unknown kind; the message lists the known ones.
    """
    if not isinstance(name, str) or name not in ReadoutConfig.kinds:
        known = ", ".join(sorted(ReadoutConfig.kinds))
        raise ValueError(
            f"unknown readout kind {name!r}, known: {known} (one of your own needs --plugin)"
        )
    return ReadoutConfig.kinds[name]


def _readout_of_kind(value: object) -> object:
    """Make a configuration of a mapping with ``kind``, or of the kind alone."""
    if isinstance(value, str):
        value = {"kind": value}
    if not isinstance(value, Mapping):
        return value
    return part(readout_kind(value.get("kind")), value)


Readout = Annotated[SerializeAsAny[ReadoutConfig], BeforeValidator(_readout_of_kind)]
