"""Configuration of models, losses and training runs.

Everything that shapes a model or its training is a frozen, validated pydantic
model, so that a run can be written to ``config.json`` and read back without
guessing: unknown keys are errors, numbers have bounds, and nothing is patched
on loading. No torch here: the command line reads configurations without it.
"""

from __future__ import annotations

from kvae.config.base import Frozen, parse_config
from kvae.config.changes import override, read_changes, read_setting, resolve_key
from kvae.config.encoders import (
    BranchConfig,
    EncoderBranchConfig,
    EncoderConfig,
    ProfileEncoderConfig,
)
from kvae.config.latent import HierarchicalLatent, LatentPart
from kvae.config.model import (
    AutoencoderConfig,
    DecoderConfig,
    HiddenConfig,
    ModelConfig,
    SparseBranchConfig,
)
from kvae.config.readouts import (
    ConvReadout,
    DenseReadout,
    DotReadout,
    GroupedReadout,
    LowRankReadout,
    PretrainedReadout,
    ReadoutConfig,
)
from kvae.config.run import LossConfig, RunConfig, SequencesConfig, TrainConfig

__all__ = [
    "AutoencoderConfig",
    "BranchConfig",
    "ConvReadout",
    "DecoderConfig",
    "DenseReadout",
    "DotReadout",
    "EncoderBranchConfig",
    "EncoderConfig",
    "Frozen",
    "GroupedReadout",
    "HiddenConfig",
    "HierarchicalLatent",
    "LatentPart",
    "LossConfig",
    "LowRankReadout",
    "ModelConfig",
    "PretrainedReadout",
    "ProfileEncoderConfig",
    "ReadoutConfig",
    "RunConfig",
    "SequencesConfig",
    "SparseBranchConfig",
    "TrainConfig",
    "override",
    "parse_config",
    "read_changes",
    "read_setting",
    "resolve_key",
]
