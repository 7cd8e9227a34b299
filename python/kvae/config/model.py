"""Configuration of a model's architecture."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from kvae.config.base import Fraction, Frozen, HiddenWidths, Positive, Width
from kvae.config.readouts import Readout


class BranchConfig(Frozen):
    """Hidden layers of one feature block, in the encoder or in the decoder."""

    block: str
    hidden: HiddenWidths


class EncoderConfig(Frozen):
    """One branch per block, each with copies of the context fields, then shared layers."""

    branches: tuple[BranchConfig, ...] = Field(min_length=1)
    context: tuple[str, ...] = ("gc", "length")
    shared: HiddenWidths


class SparseBranchConfig(Frozen):
    """Decoder branch of the block whose k-mers are mostly absent (the 7-mers).

    With ``gate_hidden`` a second pathway predicts which k-mers are present at
    all; without it the values stand alone.
    """

    block: str = "7-mers"
    value_hidden: HiddenWidths
    gate_hidden: HiddenWidths | None
    readout: Readout


class DecoderConfig(Frozen):
    """Shared layers, then one branch for the sparse block and one per dense block."""

    shared: HiddenWidths
    sparse: SparseBranchConfig
    dense: tuple[BranchConfig, ...]

    @property
    def dense_blocks(self) -> tuple[str, ...]:
        """Blocks decoded beside the sparse one, in the order of the output."""
        return tuple(branch.block for branch in self.dense)


class ModelConfig(Frozen):
    """Architecture of a `kvae.model.KmerVAE`; widths of the blocks come from the layout.

    ``output_space`` is where the 7-mer values live: ``linear`` for frequencies
    (softplus of the readout, times the gate), ``log`` for log frequencies
    (``gate * value + (1 - gate) * floor``). A 7-mer is *present* in a row where
    its frequency exceeds ``presence_threshold``. With ``log_floor`` no log
    frequency is taken for lower than that, neither as input nor as target.

    BatchNorm's epsilon and LeakyReLU's slope are Keras's defaults, which the
    design was tuned with. BatchNorm's momentum is torch's (0.1, in Keras's
    notation 0.9 rather than 0.99): with Keras's the running statistics, and with
    them every validation figure, lag hundreds of steps behind a short run.
    """

    encoder: EncoderConfig
    latent: Width
    decoder: DecoderConfig
    output_space: Literal["linear", "log"]
    presence_threshold: Annotated[float, Field(gt=0.0, lt=1.0)] = 1e-5
    log_floor: Annotated[float, Field(ge=-13.8, lt=0.0)] | None = None
    negative_slope: Annotated[float, Field(ge=0.0, le=1.0)] = 0.3
    batch_norm_eps: Positive = 1e-3
    batch_norm_momentum: Fraction = 0.1

    @model_validator(mode="after")
    def _check_blocks(self) -> Self:
        decoded = [self.decoder.sparse.block, *(b.block for b in self.decoder.dense)]
        encoded = [b.block for b in self.encoder.branches]
        for side, names in (("encoder", encoded), ("decoder", decoded)):
            twice = {name for name in names if names.count(name) > 1}
            if twice:
                raise ValueError(f"the {side} has two branches for {', '.join(sorted(twice))}")
        return self
