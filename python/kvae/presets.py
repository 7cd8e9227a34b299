"""Named designs: data, not code. First those of the design log, in its order.

A preset is a model with the loss it was designed for. Training settings are not
part of it: they depend on the machine and the amount of data.
"""

from __future__ import annotations

from kvae.config import (
    BranchConfig,
    DecoderConfig,
    DenseReadout,
    DotReadout,
    EncoderBranchConfig,
    EncoderConfig,
    Frozen,
    LossConfig,
    LowRankReadout,
    ModelConfig,
    ProfileEncoderConfig,
    ReadoutConfig,
    SparseBranchConfig,
)
from kvae.errors import KvaeError


class Preset(Frozen):
    """A model and the loss that goes with it."""

    model: ModelConfig
    loss: LossConfig


# What all designs of the log but the first have in common.
_BRANCHES = (
    EncoderBranchConfig(block="7-mers", hidden=(512, 256)),
    EncoderBranchConfig(block="4-mers", hidden=(128, 64)),
    EncoderBranchConfig(block="3-mers", hidden=(64, 32)),
)
_DENSE = (
    BranchConfig(block="4-mers", hidden=(64, 128)),
    BranchConfig(block="3-mers", hidden=(32, 64)),
)
_SHARED = (512, 352)

# The first request: wide layers, mirrored; 94,490,195 parameters.
_OUTLINE = Preset(
    model=ModelConfig(
        encoder=EncoderConfig(
            branches=(
                EncoderBranchConfig(block="7-mers", hidden=(4096, 2048)),
                EncoderBranchConfig(block="4-mers", hidden=(64, 32)),
                EncoderBranchConfig(block="3-mers", hidden=(16, 8)),
            ),
            shared=(1024, 512),
        ),
        latent=512,
        decoder=DecoderConfig(
            shared=(512, 1024, 2088),
            sparse=SparseBranchConfig(
                value_hidden=(2048, 4096), gate_hidden=None, readout=DenseReadout()
            ),
            dense=(
                BranchConfig(block="4-mers", hidden=(32, 64)),
                BranchConfig(block="3-mers", hidden=(8, 16)),
            ),
        ),
        output_space="log",
    ),
    loss=LossConfig(),
)

# Narrower and deeper, the branches more alike in width; 19,065,099 parameters.
_DEEP = Preset(
    model=ModelConfig(
        encoder=EncoderConfig(
            branches=(EncoderBranchConfig(block="7-mers", hidden=(1024, 512, 256)), *_BRANCHES[1:]),
            shared=(512,),
        ),
        latent=256,
        decoder=DecoderConfig(
            shared=_SHARED,
            sparse=SparseBranchConfig(
                value_hidden=(256, 512, 1024), gate_hidden=None, readout=DenseReadout()
            ),
            dense=_DENSE,
        ),
        output_space="log",
    ),
    loss=LossConfig(),
)


def _gated(latent: int, readout: ReadoutConfig) -> Preset:
    """Values and gate in log space, each with a pathway of its own."""
    return Preset(
        model=ModelConfig(
            encoder=EncoderConfig(branches=_BRANCHES, shared=(512,)),
            latent=latent,
            decoder=DecoderConfig(
                shared=_SHARED,
                sparse=SparseBranchConfig(
                    value_hidden=(512, 1024), gate_hidden=(256, 512), readout=readout
                ),
                dense=_DENSE,
            ),
            output_space="log",
        ),
        loss=LossConfig(),
    )


# A gate beside the values: 18,725,643 parameters.
_SLIM = _gated(256, DenseReadout())

# A bottleneck before each of the wide outputs: 8,830,475 parameters.
_LOWRANK = _gated(512, LowRankReadout(rank=128))

# Gated embedding dot product with linear 7-mer frequencies: 6,954,379 parameters.
_DOT = Preset(
    model=ModelConfig(
        encoder=EncoderConfig(branches=_BRANCHES, shared=(512,)),
        latent=512,
        decoder=DecoderConfig(
            shared=_SHARED,
            sparse=SparseBranchConfig(
                value_hidden=(512,), gate_hidden=(256,), readout=DotReadout(embedding=64)
            ),
            dense=_DENSE,
        ),
        output_space="linear",
    ),
    # The log's validation losses fit a weight of 2 and a KL of 72 to 85 nats.
    loss=LossConfig(bce_weight=2.0),
)

# What the log did not ask: a latent that is of use beyond its own decoder. Compositions
# as square roots, whitened; latents of contigs that agree between halves; gate times
# value as the profile of a likelihood.
_KVAE = Preset(
    model=ModelConfig(
        encoder=ProfileEncoderConfig(),
        latent=64,
        decoder=DecoderConfig(
            shared=_SHARED,
            sparse=SparseBranchConfig(
                value_hidden=(512,), gate_hidden=(256,), readout=DotReadout(embedding=64)
            ),
            dense=(),
            derived=("4-mers", "3-mers"),
        ),
        output_space="profile",
    ),
    loss=LossConfig(
        target="half",
        mse_weight=0.0,
        bce_weight=0.0,
        nats_weight=500.0,
        beta=0.1,
        contrast_weight=500.0,
    ),
)

PRESETS: dict[str, Preset] = {
    "outline": _OUTLINE,
    "deep": _DEEP,
    "slim": _SLIM,
    "lowrank": _LOWRANK,
    "dot": _DOT,
    "kvae": _KVAE,
}


def get_preset(name: str) -> Preset:
    """Look up a preset.

    Raises
    ------
    KvaeError
        For an unknown name; the message lists the known ones.
    """
    try:
        return PRESETS[name]
    except KeyError:
        known = ", ".join(PRESETS)
        raise KvaeError(f"unknown preset {name!r}, known: {known}") from None


def loss_for(model: ModelConfig) -> LossConfig:
    """Choose the loss for an architecture: that of its preset, or of one with its output."""
    chosen = [preset for preset in PRESETS.values() if preset.model == model]
    alike = [p for p in PRESETS.values() if p.model.output_space == model.output_space]
    return (chosen or alike)[0].loss
