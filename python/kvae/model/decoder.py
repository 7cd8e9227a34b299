"""From a latent to the composition of the row it stands for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from kvae.model.derive import DerivedBlock, DerivedGC
from kvae.model.layers import find_block, hidden_stack, in_float32, log_floor
from kvae.model.readout import build_readout

if TYPE_CHECKING:
    from kvae.config import BranchConfig, ModelConfig, SparseBranchConfig
    from kvae.layout import Block, Layout

# The least probability of a 7-mer: no logarithm and no division fails.
LEAST_FREQUENCY = 1e-9
# A genome of unknown composition: half of its bases are G or C.
_UNIFORM_GC = math.log(0.5)


@dataclass(frozen=True)
class Decoded:
    """What the decoder says about each row.

    Attributes
    ----------
    value
        7-mer values if present, shape (rows, 8192): frequencies in the linear
        output space, natural logarithms of frequencies in the log space. In the
        profile space the gate is part of them, and each row adds up to 1.
    gate_logit
        Logits of the probability that a 7-mer is present, or None without a gate.
    dense
        Log frequencies of the other blocks by name, each of shape (rows, k-mers).
    gc
        Log GC fraction, the average over all branches, shape (rows, 1).
    space
        Where ``value`` lives.
    floor
        Log frequency of an absent 7-mer.
    """

    value: Tensor
    gate_logit: Tensor | None
    dense: dict[str, Tensor]
    gc: Tensor
    space: Literal["linear", "log", "profile"]
    floor: float

    def detach(self) -> Decoded:
        """Drop the way back for gradients."""
        return Decoded(
            self.value.detach(),
            None if self.gate_logit is None else self.gate_logit.detach(),
            {name: log_BK.detach() for name, log_BK in self.dense.items()},
            self.gc.detach(),
            self.space,
            self.floor,
        )

    def kmers(self) -> Tensor:
        """7-mer output with the gate applied, in the output space, shape (rows, 8192)."""
        if self.gate_logit is None or self.space == "profile":
            return self.value
        gate_BK = torch.sigmoid(self.gate_logit)
        if self.space == "linear":
            return gate_BK * self.value
        return gate_BK * self.value + (1.0 - gate_BK) * self.floor

    def frequency(self, pseudocount: float) -> Tensor:
        """7-mer output as frequencies, shape (rows, 8192)."""
        if self.space != "log":
            return self.kmers()
        # No frequency is above 1, and nothing above it may overflow.
        return (self.kmers().clamp(max=0.0).exp() - pseudocount).relu()

    def profile(self, pseudocount: float) -> Tensor:
        """Probability of each 7-mer to be the next one of the row, shape (rows, 8192)."""
        if self.space == "profile":
            return self.value
        # What a design takes for impossible is rare.
        frequency_BK = self.frequency(pseudocount).float().clamp(min=LEAST_FREQUENCY)
        return frequency_BK / frequency_BK.sum(dim=1, keepdim=True)

    def presence_logit(self, n_windows_B1: Tensor) -> Tensor | None:
        """Logits of the probability that a 7-mer is present, or None without a gate.

        In the profile space a 7-mer of probability p is found in n windows with
        probability 1 - exp(-n p); elsewhere the gate says.
        """
        if self.space != "profile":
            return self.gate_logit
        expected_BK = (n_windows_B1 * self.value).clamp(min=LEAST_FREQUENCY)
        # log(exp(x) - 1), of which the exponential alone would overflow.
        return expected_BK + torch.log(-torch.expm1(-expected_BK))

    def row(self) -> Tensor:
        """Whole output in the order of the reconstruction target, shape (rows, 8361)."""
        return torch.cat([self.kmers(), *self.dense.values(), self.gc], dim=1)


@dataclass(frozen=True)
class Readouts:
    """What the last layers of the decoder say, whatever it stands for.

    Attributes
    ----------
    value, gate_logit
        Of the 7-mers, shape (rows, 8192); there may be no gate.
    dense
        Log frequencies of the other blocks by name, as far as they have branches.
    gcs
        Log GC fraction, shape (rows, 1), of every branch that says one.
    """

    value: Tensor
    gate_logit: Tensor | None
    dense: dict[str, Tensor]
    gcs: list[Tensor]


class SparseBranch(nn.Module):
    """Branch of the 7-mers: a value pathway, a gate pathway beside it, and a GC head."""

    def __init__(
        self, branch: SparseBranchConfig, n_in: int, block: Block, config: ModelConfig
    ) -> None:
        super().__init__()
        # softplus(-ln n) is 1/n to four digits: the uniform profile in both spaces.
        uniform = -math.log(block.size)
        n_value = branch.value_hidden[-1]
        self.value = hidden_stack((n_in, *branch.value_hidden), config)
        self.value_readout = build_readout(branch.readout, n_value, block, uniform)
        self.gc: nn.Linear | None = None
        if config.output_space != "profile":
            self.gc = nn.Linear(n_value, 1)
            nn.init.constant_(self.gc.bias, _UNIFORM_GC)
        self.gate: nn.Module | None = None
        self.gate_readout: nn.Module | None = None
        if branch.gate_hidden is not None:
            n_gate = branch.gate_hidden[-1]
            gate_readout = branch.gate_readout or branch.readout
            self.gate = hidden_stack((n_in, *branch.gate_hidden), config)
            self.gate_readout = build_readout(gate_readout, n_gate, block, 0.0)

    def forward(self, h_BH: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Value logits and gate logits (rows, 8192), log GC (rows, 1) if it has a head."""
        value_BH = self.value(h_BH)
        gate_logit_BK: Tensor | None = None
        if self.gate is not None and self.gate_readout is not None:
            gate_logit_BK = self.gate_readout(self.gate(h_BH))
        # Values and GC are logarithms of about -9 and -0.7, or become frequencies of
        # about 1e-4: rounded to 8 bits, -9 is off by up to 3 % of a frequency.
        value_BK = in_float32(self.value_readout, value_BH)
        gc_B1 = None if self.gc is None else in_float32(self.gc, value_BH)
        return value_BK, gate_logit_BK, gc_B1


class DenseBranch(nn.Module):
    """Branch of a block whose k-mers are all present: log frequencies and log GC."""

    def __init__(self, branch: BranchConfig, n_in: int, n_out: int, config: ModelConfig) -> None:
        super().__init__()
        self.hidden = hidden_stack((n_in, *branch.hidden), config)
        self.output = nn.Linear(branch.hidden[-1], n_out + 1)
        with torch.no_grad():
            self.output.bias.fill_(-math.log(n_out))
            self.output.bias[-1] = _UNIFORM_GC

    def forward(self, h_BH: Tensor) -> tuple[Tensor, Tensor]:
        """Log frequencies (rows, k-mers) and log GC (rows, 1)."""
        out_BK = in_float32(self.output, self.hidden(h_BH))
        return out_BK[:, :-1], out_BK[:, -1:]


class Decoder(nn.Module):
    """Shared layers, then one branch per block; GC is the average of all branches'.

    The shared layers see the shared units of the latent; a branch sees their
    output and the units that belong to its block, if there are any.
    """

    derived_weight: Tensor

    def __init__(self, config: ModelConfig, layout: Layout) -> None:
        super().__init__()
        decoder = config.decoder
        self.space = config.output_space
        self.floor = log_floor(config, layout)
        self._pseudocount = layout.pseudocount
        self._parts = config.latent_parts
        self._n_shared = config.shared_latent
        self.shared = hidden_stack((config.shared_latent, *decoder.shared), config)
        n_trunk = decoder.shared[-1]
        sparse = find_block(layout, decoder.sparse.block)
        n_in = n_trunk + self._parts.get(sparse.name, 0)
        self._sparse = sparse.name
        self.sparse = SparseBranch(decoder.sparse, n_in, sparse, config)
        self.dense = nn.ModuleDict()
        for branch in decoder.dense:
            block = find_block(layout, branch.block)
            n_in = n_trunk + self._parts.get(block.name, 0)
            self.dense[block.name] = DenseBranch(branch, n_in, block.size, config)
        self.derived = nn.ModuleDict(
            {name: DerivedBlock(sparse, find_block(layout, name)) for name in decoder.derived}
        )

        if config.output_space == "profile":
            self.derived_gc = DerivedGC(sparse)
            # All of it at once: blocks and, last, GC.
            parts = [cast(DerivedBlock, derive).weight for derive in self.derived.values()]
            weight_KD = torch.cat([*parts, self.derived_gc.weight], dim=1)
            self.register_buffer("derived_weight", weight_KD, persistent=False)

    def forward(self, z_BL: Tensor) -> Decoded:
        """Decode latents of shape (rows, latent units)."""
        said = self.readouts(z_BL)
        value_BK, gate_logit_BK, gcs_B1 = said.value, said.gate_logit, said.gcs
        if self.space != "log":
            value_BK = functional.softplus(value_BK)
        if self.space == "profile":
            value_BK = value_BK * torch.sigmoid(cast(Tensor, gate_logit_BK).float())
            value_BK = value_BK / value_BK.sum(dim=1, keepdim=True)
            derived_gc_B1 = in_float32(self.derived_gc, value_BK)
            gcs_B1 = [(derived_gc_B1 + self._pseudocount).log(), *gcs_B1]
        gc_B1 = mean_gc(gcs_B1)
        decoded = Decoded(value_BK, gate_logit_BK, said.dense, gc_B1, self.space, self.floor)
        if self.derived:
            frequency_BK = decoded.frequency(self._pseudocount)
            for name, derive in self.derived.items():
                said.dense[name] = (in_float32(derive, frequency_BK) + self._pseudocount).log()
        return decoded

    def readouts(self, z_BL: Tensor) -> Readouts:
        """Decode latents as far as the readouts, whatever the output space is."""
        *parts, shared_BL = torch.split(z_BL, [*self._parts.values(), self._n_shared], dim=1)
        part_of = dict(zip(self._parts, parts, strict=True))
        trunk_BH = self.shared(shared_BL)

        def seen_by(name: str) -> Tensor:
            if name not in part_of:
                return cast(Tensor, trunk_BH)
            return torch.cat([trunk_BH, part_of[name]], dim=1)

        value_BK, gate_logit_BK, gc_B1 = self.sparse(seen_by(self._sparse))
        dense: dict[str, Tensor] = {}
        gcs_B1 = [] if gc_B1 is None else [gc_B1]
        for name, branch in self.dense.items():
            dense[name], branch_gc_B1 = branch(seen_by(name))
            gcs_B1.append(branch_gc_B1)
        return Readouts(value_BK, gate_logit_BK, dense, gcs_B1)

    def name_derived(self, derived_BD: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Logarithms of what `derived_weight` gives, by block; and of GC."""
        widths = [cast(DerivedBlock, derive).weight.shape[1] for derive in self.derived.values()]
        *dense, gc_B1 = torch.split((derived_BD + self._pseudocount).log(), [*widths, 1], dim=1)
        return dict(zip(self.derived, dense, strict=True)), gc_B1


def mean_gc(gcs_B1: Sequence[Tensor]) -> Tensor:
    """Log GC as the average of what all branches say."""
    return cast(Tensor, sum(gcs_B1)) / len(gcs_B1)
