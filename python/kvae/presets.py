"""Named designs: data, not code.

A preset is a model with the loss it was designed for. Training settings are not
part of it: they depend on the machine and the amount of data.
"""

from __future__ import annotations

from kvae.config import (
    BranchConfig,
    DecoderConfig,
    DotReadout,
    EncoderConfig,
    Frozen,
    LossConfig,
    ModelConfig,
    SparseBranchConfig,
)
from kvae.errors import KvaeError


class Preset(Frozen):
    """A model and the loss that goes with it."""

    model: ModelConfig
    loss: LossConfig


# Gated embedding dot product with linear 7-mer frequencies: 6,954,379 parameters.
_DOT = Preset(
    model=ModelConfig(
        encoder=EncoderConfig(
            branches=(
                BranchConfig(block="7-mers", hidden=(512, 256)),
                BranchConfig(block="4-mers", hidden=(128, 64)),
                BranchConfig(block="3-mers", hidden=(64, 32)),
            ),
            shared=(512,),
        ),
        latent=512,
        decoder=DecoderConfig(
            shared=(512, 352),
            sparse=SparseBranchConfig(
                value_hidden=(512,),
                gate_hidden=(256,),
                readout=DotReadout(embedding=64),
            ),
            dense=(
                BranchConfig(block="4-mers", hidden=(64, 128)),
                BranchConfig(block="3-mers", hidden=(32, 64)),
            ),
        ),
        output_space="linear",
    ),
    loss=LossConfig(bce_weight=2.0),
)

PRESETS: dict[str, Preset] = {"dot": _DOT}


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
