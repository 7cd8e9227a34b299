"""Configuration of a model's architecture."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from kvae.config.base import Fraction, Frozen, HiddenWidths, Positive, Width
from kvae.config.encoders import AnyEncoder, BranchConfig, EncoderConfig
from kvae.config.latent import HierarchicalLatent, Latent
from kvae.config.readouts import PretrainedReadout, Readout

# Less than one occurrence in a row of 100,000 letters, which few are longer than.
ONCE = 1e-5


class HiddenConfig(Frozen):
    """Settings of all hidden layers.

    BatchNorm's epsilon and LeakyReLU's slope are Keras's defaults, which the
    design was tuned with. BatchNorm's momentum is torch's (0.1, in Keras's
    notation 0.9 rather than 0.99): with Keras's the running statistics, and with
    them every validation figure, lag hundreds of steps behind a short run.
    """

    negative_slope: Annotated[float, Field(ge=0.0, le=1.0)] = 0.3
    batch_norm_eps: Positive = 1e-3
    batch_norm_momentum: Fraction = 0.1


class SparseBranchConfig(Frozen):
    """Decoder branch of the block whose k-mers are mostly absent (the 7-mers).

    With ``gate_hidden`` a second pathway predicts which k-mers are present at
    all; without it the values stand alone. Both end in a readout like
    ``readout`` unless the gate has a ``gate_readout`` of its own.
    """

    block: str = "7-mers"
    value_hidden: HiddenWidths
    gate_hidden: HiddenWidths | None
    readout: Readout
    gate_readout: Readout | None = None

    @model_validator(mode="after")
    def _check_gate(self) -> Self:
        if self.gate_hidden is None:
            if self.gate_readout is not None:
                raise ValueError(
                    "gate_readout is the last layer of a gate, but there is none: "
                    "give gate_hidden, or set gate_readout to null"
                )
        elif not (self.gate_readout or self.readout).for_gates:
            kind = (self.gate_readout or self.readout).kind
            raise ValueError(
                f"a {kind} readout writes log frequencies, not the logits of a gate: set "
                "gate_readout to another kind, or gate_hidden to null"
            )
        return self


class DecoderConfig(Frozen):
    """Shared layers, then one branch for the sparse block and one per dense block.

    The blocks of ``derived`` have no branch: their frequencies are sums of the
    decoded 7-mers'.
    """

    shared: HiddenWidths
    sparse: SparseBranchConfig
    dense: tuple[BranchConfig, ...]
    derived: tuple[str, ...] = ()

    @property
    def dense_blocks(self) -> tuple[str, ...]:
        """Blocks decoded beside the sparse one, in the order of the output."""
        return (*(branch.block for branch in self.dense), *self.derived)


class ModelConfig(HiddenConfig):
    """Architecture of a `kvae.model.KmerVAE`; widths of the blocks come from the layout.

    ``output_space`` is where the 7-mer values live: ``linear`` for frequencies
    (softplus of the readout, times the gate), ``log`` for log frequencies
    (``gate * value + (1 - gate) * floor``), ``profile`` for probabilities: gate times
    value as in ``linear``, divided by their sum over all 7-mers. A 7-mer is *present*
    in a row where its frequency exceeds ``presence_threshold``. With ``log_floor`` no log
    frequency is taken for lower than that, neither as input nor as target.

    ``latent`` is a number of units, or their division among the blocks.
    """

    encoder: AnyEncoder
    latent: Latent
    decoder: DecoderConfig
    output_space: Literal["linear", "log", "profile"]
    presence_threshold: Annotated[float, Field(gt=0.0, lt=1.0)] = ONCE
    log_floor: Annotated[float, Field(ge=-13.8, lt=0.0)] | None = None

    @property
    def ks(self) -> tuple[int, ...]:
        """The k of all k-mer blocks that the encoder or the decoder names, in a layout's order."""
        decoder = self.decoder
        names = {*self.encoder.encoded, decoder.sparse.block, *decoder.dense_blocks}
        ks = (name.removesuffix("-mers") for name in names if name.endswith("-mers"))
        return tuple(sorted((int(k) for k in ks if k.isdecimal()), reverse=True))

    @property
    def latent_parts(self) -> dict[str, int]:
        """Latent units of single blocks; empty where all units are shared."""
        if isinstance(self.latent, int):
            return {}
        return {part.block: part.units for part in self.latent.parts}

    @property
    def shared_latent(self) -> int:
        """Latent units that belong to no block."""
        return self.latent if isinstance(self.latent, int) else self.latent.shared

    @property
    def n_latent(self) -> int:
        """Number of latent units."""
        return sum(self.latent_parts.values()) + self.shared_latent

    @model_validator(mode="after")
    def _check_blocks(self) -> Self:
        decoder = self.decoder
        parts = [] if isinstance(self.latent, int) else [part.block for part in self.latent.parts]
        encoded = self.encoder.encoded
        branches = [decoder.sparse.block, *(branch.block for branch in decoder.dense)]
        decoded = [*branches, *decoder.derived]
        for side, names in (("encoder", encoded), ("decoder", decoded), ("latent", parts)):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                either = ", one of its own and a derived one" if twice[0] in decoder.derived else ""
                what = "parts" if side == "latent" else "branches"
                raise ValueError(f"the {side} has two {what} for {', '.join(twice)}{either}")
        for name in parts:
            if name not in encoded:
                raise ValueError(
                    f"the latent has a part for {name}, but the encoder has no branch to infer it"
                )
            if name not in branches:
                raise ValueError(
                    f"the latent has a part for {name}, but the decoder has no branch to see it"
                )
        return self

    @model_validator(mode="after")
    def _check_profile(self) -> Self:
        if isinstance(self.latent, HierarchicalLatent) and not isinstance(
            self.encoder, EncoderConfig
        ):
            raise ValueError(
                "a profile encoder has no branches that parts of a latent could come from: "
                "give latent as a number of units"
            )
        if self.output_space != "profile":
            return self
        if self.decoder.sparse.gate_hidden is None:
            raise ValueError("the profile output space is gate times value: give gate_hidden")
        if self.decoder.dense:
            raise ValueError(
                "in the profile output space everything follows from the 7-mers: name "
                f"{self.decoder.dense[0].block} in derived, not in dense"
            )
        if self.log_floor is not None:
            raise ValueError("a log_floor belongs to log frequencies, not to a profile")
        if self.presence_threshold > ONCE:
            raise ValueError(
                "in the profile output space a k-mer is present where it occurs: leave "
                f"presence_threshold at {ONCE:g}"
            )
        return self

    @model_validator(mode="after")
    def _check_floor(self) -> Self:
        if self.log_floor is None or self.output_space != "log":
            return self
        if self.decoder.sparse.gate_hidden is None and self.log_floor > math.log(
            self.presence_threshold
        ):
            raise ValueError(
                f"an output at the log_floor of {self.log_floor:g} would count as present at a "
                f"presence_threshold of {self.presence_threshold:g}: raise the threshold to "
                f"{math.exp(self.log_floor):.2g} or more"
            )
        if isinstance(self.decoder.sparse.readout, PretrainedReadout):
            raise ValueError(
                "a pretrained readout has learned log frequencies without a log_floor and is "
                "frozen: leave log_floor out"
            )
        return self


class AutoencoderConfig(HiddenConfig):
    """Architecture of a `kvae.model.autoencoder.KmerAutoencoder`."""

    block: str = "7-mers"
    code: Width = 128
