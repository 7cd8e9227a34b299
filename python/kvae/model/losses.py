"""Reconstruction targets and the negative ELBO.

The four groups of a row (7-mers, 4-mers, 3-mers, GC) count alike, whatever
their number of fields::

    reconstruction = (w7 L7 + L4 + L3 + Lgc) * n_target / (w7 + 3)

L4, L3 and Lgc are mean squared errors of log frequencies. L7 is the binary
cross-entropy of presence plus the mean squared error of the values of the
7-mers that are present; without a gate it is the mean squared error over all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from kvae.errors import KvaeError
from kvae.model.layers import find_block

if TYPE_CHECKING:
    from kvae.config import LossConfig, ModelConfig
    from kvae.layout import Layout
    from kvae.model.decoder import Decoded
    from kvae.model.encoder import Latent

Scalar = TypeVar("Scalar", Tensor, float)


@dataclass(frozen=True)
class Target:
    """What the decoder of a row should say.

    Attributes
    ----------
    log_frequency
        Log frequencies of the 7-mers as stored, shape (rows, 8192).
    frequency
        The same as frequencies: exp(log) minus the pseudocount, at least 0.
    present
        Where the frequency exceeds the presence threshold (bool).
    value
        The target of the values: frequencies or log frequencies.
    dense
        Log frequencies of the other blocks by name.
    gc
        Log GC fraction, shape (rows, 1).
    """

    log_frequency: Tensor
    frequency: Tensor
    present: Tensor
    value: Tensor
    dense: dict[str, Tensor]
    gc: Tensor


class TargetReader:
    """Reads the target out of feature rows; knows the layout and the threshold."""

    def __init__(self, config: ModelConfig, layout: Layout) -> None:
        self._sparse = find_block(layout, config.decoder.sparse.block).slice
        self._dense = {
            branch.block: find_block(layout, branch.block).slice for branch in config.decoder.dense
        }
        self._gc = find_block(layout, "gc").slice
        self._pseudocount = layout.pseudocount
        self._threshold = config.presence_threshold
        self._linear = config.output_space == "linear"
        self.n_target = layout.target.stop - layout.target.start
        position = layout.target.start
        for part in (self._sparse, *self._dense.values(), self._gc):
            if part.start != position:
                break
            position = part.stop
        if position != layout.target.stop:
            wanted = [b.name for b in layout.blocks if b.k and b.stop <= layout.target.stop]
            raise KvaeError(
                f"the decoder needs one branch for each of {', '.join(wanted)}, in this order"
            )

    def __call__(self, x_BF: Tensor) -> Target:
        """Target of feature rows of shape (rows, fields)."""
        x_BF = x_BF.float()
        log_BK = x_BF[:, self._sparse]
        frequency_BK = log_BK.exp().sub_(self._pseudocount).clamp_(min=0.0)
        return Target(
            log_frequency=log_BK,
            frequency=frequency_BK,
            present=frequency_BK > self._threshold,
            value=frequency_BK if self._linear else log_BK,
            dense={name: x_BF[:, part] for name, part in self._dense.items()},
            gc=x_BF[:, self._gc],
        )


def dense_name(block: str) -> str:
    """Name of a block's error in losses and metrics: ``mse4`` for ``4-mers``."""
    return f"mse{block.removesuffix('-mers')}"


def loss_parts(decoded: Decoded, target: Target) -> dict[str, Tensor]:
    """Mean errors of each group over a batch, all scalars.

    ``BCE`` (with a gate only) and ``valMSE`` make up the 7-mers, ``mse4``,
    ``mse3`` and ``mse_gc`` are the other groups.
    """
    error_BK = (decoded.value.float() - target.value).square_()
    parts: dict[str, Tensor] = {}
    if decoded.gate_logit is None:
        parts["valMSE"] = error_BK.mean()
    else:
        present_BK = target.present.float()
        parts["BCE"] = functional.binary_cross_entropy_with_logits(
            decoded.gate_logit.float(), present_BK
        )
        n_present = present_BK.sum().clamp(min=1.0)
        parts["valMSE"] = (error_BK * present_BK).sum() / n_present
    for name, log_BK in decoded.dense.items():
        parts[dense_name(name)] = functional.mse_loss(log_BK.float(), target.dense[name])
    parts["mse_gc"] = functional.mse_loss(decoded.gc.float(), target.gc)
    return parts


def reconstruction_loss(parts: Mapping[str, Scalar], n_target: int, config: LossConfig) -> Scalar:
    """Weigh the group errors of `loss_parts` into one number.

    Works on tensors in training and on floats where an epoch's exact means are
    combined.
    """
    l7 = parts["valMSE"]
    if "BCE" in parts:
        l7 = l7 + config.bce_weight * parts["BCE"]
    others = [value for name, value in parts.items() if name not in ("BCE", "valMSE")]
    total = config.w7 * l7
    for value in others:
        total = total + value
    return total * (n_target / (config.w7 + len(others)))


@dataclass(frozen=True)
class Elbo:
    """Negative evidence lower bound of a batch and what it is made of.

    Attributes
    ----------
    loss
        ``reconstruction + beta * kl``, a scalar; minimised.
    reconstruction, kl
        Weighted reconstruction error; KL divergence in nats, summed over latent
        units, averaged over rows.
    beta
        Weight of the KL divergence.
    parts
        Group errors, see `loss_parts`.
    latent, decoded, target
        What they were computed from, for the metrics.
    """

    loss: Tensor
    reconstruction: Tensor
    kl: Tensor
    beta: float
    parts: dict[str, Tensor]
    latent: Latent
    decoded: Decoded
    target: Target


def negative_elbo(
    latent: Latent,
    decoded: Decoded,
    target: Target,
    n_target: int,
    config: LossConfig,
    beta: float,
) -> Elbo:
    """Assemble the loss of a batch, in float32 whatever the network computed in."""
    with torch.autocast(target.gc.device.type, enabled=False):
        parts = loss_parts(decoded, target)
        reconstruction = reconstruction_loss(parts, n_target, config)
        kl = latent.kl().sum(dim=1).mean()
        loss = reconstruction + beta * kl
    return Elbo(loss, reconstruction, kl, beta, parts, latent, decoded, target)
