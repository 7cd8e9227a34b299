"""Configuration of the latent: one vector, or parts for the scales of k-mers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from kvae.config.base import Frozen, Width, first_problem, part

_WIDTH: TypeAdapter[int] = TypeAdapter(Width)


class LatentPart(Frozen):
    """Latent units that belong to one block."""

    block: str
    units: Width


class HierarchicalLatent(Frozen):
    """Latent in parts: some units for single blocks, the rest shared by all.

    The part of a block is inferred from that block's branch alone and seen by
    that block's branch of the decoder alone; the shared part goes through the
    shared layers of both. A latent's units are the parts in their order, then
    the shared ones.
    """

    parts: Annotated[tuple[LatentPart, ...], Field(min_length=1)] = (
        LatentPart(block="7-mers", units=128),
        LatentPart(block="4-mers", units=64),
        LatentPart(block="3-mers", units=32),
    )
    shared: Width = 32


def _latent(value: Any) -> int | HierarchicalLatent:
    """Read a number of units, the word ``hierarchical``, or a mapping of parts.

    By hand rather than as a union, whose messages would name the alternatives
    and not the mistake.
    """
    if isinstance(value, HierarchicalLatent):
        return value
    if value == "hierarchical":
        return HierarchicalLatent()
    if isinstance(value, Mapping):
        return part(HierarchicalLatent, value)
    try:
        return _WIDTH.validate_python(value)
    except ValidationError as error:
        raise ValueError(first_problem(error)) from None


Latent = Annotated[int | HierarchicalLatent, BeforeValidator(_latent)]
