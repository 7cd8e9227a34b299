"""Configuration of models, losses and training runs.

Everything that shapes a model or its training is a frozen, validated pydantic
model, so that a run can be written to ``config.json`` and read back without
guessing: unknown keys are errors, numbers have bounds, and nothing is patched
on loading. No torch here: the command line reads configurations without it.
"""

from __future__ import annotations

from kvae.config.base import Frozen, parse_config
from kvae.config.changes import override, read_changes, read_setting, resolve_key
from kvae.config.model import (
    BranchConfig,
    DecoderConfig,
    EncoderConfig,
    ModelConfig,
    SparseBranchConfig,
)
from kvae.config.readouts import DenseReadout, DotReadout, LowRankReadout, ReadoutConfig
from kvae.config.run import LossConfig, RunConfig, TrainConfig

__all__ = [
    "BranchConfig",
    "DecoderConfig",
    "DenseReadout",
    "DotReadout",
    "EncoderConfig",
    "Frozen",
    "LossConfig",
    "LowRankReadout",
    "ModelConfig",
    "ReadoutConfig",
    "RunConfig",
    "SparseBranchConfig",
    "TrainConfig",
    "override",
    "parse_config",
    "read_changes",
    "read_setting",
    "resolve_key",
]
