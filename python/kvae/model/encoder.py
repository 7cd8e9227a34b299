"""From a feature row to the approximate posterior of its latent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from kvae.config import EncoderConfig
from kvae.model.layers import (
    SkipStack,
    find_block,
    hidden_stack,
    in_float32,
    log_floor,
    random_row,
)
from kvae.model.posterior import LOG_VAR_LIMIT, Latent
from kvae.model.profile_encoder import ProfileEncoder

if TYPE_CHECKING:
    from kvae.config import ModelConfig
    from kvae.layout import Layout


class Encoder(nn.Module):
    """One branch per block, concatenated, then shared layers and two linear heads.

    Every branch sees its own block followed by copies of the context fields (GC
    and length). The rows come in log space, and the row of a random sequence is
    subtracted from them. The bias of the first layer could do that as well, and
    BatchNorm takes out what is left, so the model is the same; its training is
    not. With 8,192 inputs near -11 every step of an optimizer moves the first
    layer's mean by many of its standard deviations, the running statistics lag
    behind, and validation is meaningless at first and noisy ever after.
    """

    reference: Tensor

    def __init__(self, config: ModelConfig, layout: Layout) -> None:
        super().__init__()
        encoder = cast(EncoderConfig, config.encoder)
        self._floor = log_floor(config, layout)
        self._clips = config.log_floor is not None
        context = [find_block(layout, name).slice for name in encoder.context]
        n_context = sum(part.stop - part.start for part in context)
        self._inputs: dict[str, list[slice]] = {}
        self.branches = nn.ModuleDict()
        for branch in encoder.branches:
            block = find_block(layout, branch.block)
            self._inputs[branch.block] = [block.slice, *context]
            widths = (block.size + n_context, *branch.hidden)
            stack = SkipStack if branch.skip else hidden_stack
            self.branches[branch.block] = stack(widths, config)
        self.register_buffer("reference", random_row(layout, self._floor), persistent=False)
        self.dropout = nn.Dropout(encoder.input_dropout)
        n_out = {branch.block: branch.hidden[-1] for branch in encoder.branches}
        self.shared = hidden_stack((sum(n_out.values()), *encoder.shared), config)
        self.mean = nn.Linear(encoder.shared[-1], config.shared_latent)
        self.log_var = nn.Linear(encoder.shared[-1], config.shared_latent)
        # Parts of a hierarchical latent come from the branches of their blocks.
        self.part_mean = nn.ModuleDict()
        self.part_log_var = nn.ModuleDict()
        for name, n_units in config.latent_parts.items():
            self.part_mean[name] = nn.Linear(n_out[name], n_units)
            self.part_log_var[name] = nn.Linear(n_out[name], n_units)

    def forward(self, x_BF: Tensor) -> Latent:
        """Encode feature rows of shape (rows, fields)."""
        x_BF = self.dropout(self.clipped(x_BF) - self.reference)
        branches = {
            name: branch(torch.cat([x_BF[:, part] for part in self._inputs[name]], dim=1))
            for name, branch in self.branches.items()
        }
        h_BH = self.shared(torch.cat(list(branches.values()), dim=1))
        # In float32 whatever the layers before them compute in: the noise is added to
        # the mean, and the KL is the difference of numbers that are nearly equal.
        means = [in_float32(head, branches[name]) for name, head in self.part_mean.items()]
        log_vars = [in_float32(head, branches[name]) for name, head in self.part_log_var.items()]
        mean_BL = torch.cat([*means, in_float32(self.mean, h_BH)], dim=1)
        log_var_BL = torch.cat([*log_vars, in_float32(self.log_var, h_BH)], dim=1)
        return Latent(mean_BL, log_var_BL.clamp(-LOG_VAR_LIMIT, LOG_VAR_LIMIT))

    def clipped(self, x_BF: Tensor) -> Tensor:
        """Rows with nothing below the floor."""
        return x_BF.clamp(min=self._floor) if self._clips else x_BF

    def first_layers(self) -> Iterator[tuple[nn.Linear, list[slice]]]:
        """Every branch's first layer, and the fields of a row that are its inputs."""
        for name, branch in self.branches.items():
            stack = branch.first if isinstance(branch, SkipStack) else branch
            yield cast(nn.Linear, cast(nn.Sequential, stack)[0]), self._inputs[name]


def build_encoder(config: ModelConfig, layout: Layout) -> Encoder | ProfileEncoder:
    """Build the encoder that a configuration stands for."""
    if isinstance(config.encoder, EncoderConfig):
        return Encoder(config, layout)
    return ProfileEncoder(config, layout)
