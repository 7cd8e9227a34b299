"""Configuration of encoders: from a row to its latent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from kvae.config.base import Frozen, HiddenWidths, NonNegative, Width, part


class BranchConfig(Frozen):
    """Hidden layers of one feature block, in the encoder or in the decoder."""

    block: str
    hidden: HiddenWidths


class EncoderBranchConfig(BranchConfig):
    """Hidden layers of one block in the encoder.

    With ``skip`` the first hidden layer's output, made as wide as the last one's,
    is added to it.
    """

    skip: bool = False

    @model_validator(mode="after")
    def _check_skip(self) -> Self:
        if self.skip and len(self.hidden) < 2:
            raise ValueError(
                "skip leads from the first hidden layer to the last, but there is only one"
            )
        return self


class EncoderConfig(Frozen):
    """One branch per block, each with copies of the context fields, then shared layers.

    ``input_dropout`` is the share of inputs that are hidden in training: they
    appear as those of a random sequence.
    """

    kind: Literal["branches"] = "branches"
    branches: tuple[EncoderBranchConfig, ...] = Field(min_length=1)
    context: tuple[str, ...] = ("gc", "length")
    shared: HiddenWidths
    input_dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0

    @property
    def encoded(self) -> tuple[str, ...]:
        """Blocks that are encoded."""
        return tuple(branch.block for branch in self.branches)


class ProfileEncoderConfig(Frozen):
    """A linear discriminant map of whitened compositions, and a network that corrects it.

    Inputs are square roots of frequencies: all of ``blocks``, and the first
    ``components`` principal components of the ``compressed`` one. They are whitened
    by their scatter within contigs (or whatever classes a run has positives of),
    which is learned from the rows before training starts and kept with the model.
    ``hidden`` are the widths of the correction; in training its inputs receive
    normal noise of standard deviation ``noise``, one being the scatter within a
    class, and its hidden units are dropped with probability ``dropout``. In use, the
    correction is ``share`` of what it is in training.

    The means of the latent lie on a sphere of radius √(latent units), on average
    where a normal prior has its mass: neighbours by distance and by angle are the
    same.
    """

    kind: Literal["profile"] = "profile"
    blocks: Annotated[tuple[str, ...], Field(min_length=1)] = ("4-mers",)
    compressed: str = "7-mers"
    components: Width = 256
    hidden: HiddenWidths = (1024, 1024)
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.05
    noise: NonNegative = 0.1
    share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.6

    @model_validator(mode="after")
    def _check_blocks(self) -> Self:
        if self.compressed in self.blocks:
            raise ValueError(f"{self.compressed} are encoded twice: as they are and compressed")
        return self

    @property
    def encoded(self) -> tuple[str, ...]:
        """Blocks that are encoded."""
        return (*self.blocks, self.compressed)


# By their kinds.
ENCODERS: dict[Any, type[Frozen]] = {"branches": EncoderConfig, "profile": ProfileEncoderConfig}


def _encoder(value: Any) -> Any:
    """Read a mapping by its ``kind``, that of branches where there is none."""
    if not isinstance(value, Mapping):
        return value
    kind = value.get("kind", "branches")
    if not isinstance(kind, str) or kind not in ENCODERS:
        raise ValueError(f"unknown encoder kind {kind!r}, known: {', '.join(ENCODERS)}")
    return part(ENCODERS[kind], value)


AnyEncoder = Annotated[EncoderConfig | ProfileEncoderConfig, BeforeValidator(_encoder)]
