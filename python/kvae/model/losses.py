"""The negative ELBO and what it is made of.

The groups of a row (7-mers, 4-mers, 3-mers, GC) count alike, whatever their
number of fields::

    reconstruction = (w7 L7 + L4 + L3 + Lgc) * n_target / (w7 + 3)

L4, L3 and Lgc are mean squared errors of log frequencies. L7 is the binary
cross-entropy of presence plus the mean squared error of the values of the
7-mers that are present; without a gate it is the mean squared error over all.
`kvae.config.LossConfig` can add to these or take their place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from kvae.config import LossConfig
    from kvae.model.decoder import Decoded
    from kvae.model.encoder import Latent
    from kvae.model.targets import Target

Scalar = TypeVar("Scalar", Tensor, float)

# Keeps the cosine of an output of zeros finite, as in the log.
_COSINE_EPS = 1e-8


@dataclass(frozen=True)
class Mean:
    """A mean as its sum and count, so that those of several batches can be pooled."""

    total: Tensor
    count: Tensor

    @property
    def value(self) -> Tensor:
        """The mean, 0 where there is nothing to average."""
        return self.total / self.count.clamp(min=1.0)


def dense_name(block: str) -> str:
    """Name of a block's error in losses and metrics: ``mse4`` for ``4-mers``."""
    return f"mse{block.removesuffix('-mers')}"


def cosine_name(block: str) -> str:
    """Name of a block's cosine distance: ``cos4`` for ``4-mers``."""
    return f"cos{block.removesuffix('-mers')}"


def loss_terms(decoded: Decoded, target: Target, config: LossConfig) -> dict[str, Mean]:
    """Errors of each group over a batch.

    Returns
    -------
    dict
        ``valMSE``, the squared error of the values of present 7-mers; ``BCE``
        of presence with a gate, without one ``mse7`` over all 7-mers (and
        ``mse7_weighted``, where absent ones count less); ``mse4``, ``mse3`` and
        ``mse_gc``. Where the loss uses them, also the cosine distances ``cos7``,
        ``cos4`` and ``cos3``, and ``excess_absent``, the squared error of the
        absent 7-mers whose output is too large.
    """
    value_BK = decoded.value.float()
    error_BK = (value_BK - target.value).square()
    present_BK = target.present.float()
    n_cells = present_BK.new_tensor(float(present_BK.numel()))
    n_rows = present_BK.new_tensor(float(len(present_BK)))
    n_present = present_BK.sum()
    terms = {"valMSE": Mean((error_BK * present_BK).sum(), n_present)}
    if decoded.gate_logit is None:
        terms["mse7"] = Mean(error_BK.sum(), n_cells)
        if config.zero_weight != 1.0:
            weight_BK = present_BK + (1.0 - present_BK) * config.zero_weight
            terms["mse7_weighted"] = Mean((error_BK * weight_BK).sum(), n_cells)
    else:
        bce = functional.binary_cross_entropy_with_logits(
            decoded.gate_logit.float(), present_BK, reduction="sum"
        )
        terms["BCE"] = Mean(bce, n_cells)
    if config.cosine_weight > 0.0 or config.zero_penalty > 0.0:
        out_BK = decoded.kmers().float()
    if config.cosine_weight > 0.0:
        terms["cos7"] = Mean(_cosine_distance(out_BK, target.value).sum(), n_rows)
    if config.zero_penalty > 0.0:
        excess_BK = (out_BK - target.value).relu().square() * (1.0 - present_BK)
        terms["excess_absent"] = Mean(excess_BK.sum(), n_cells - n_present)
    for name, log_BK in decoded.dense.items():
        wanted_BK = target.dense[name]
        error = (log_BK.float() - wanted_BK).square().sum()
        terms[dense_name(name)] = Mean(error, n_rows * wanted_BK.shape[1])
        if config.cosine_weight > 0.0:
            distance_B = _cosine_distance(log_BK.float(), wanted_BK)
            terms[cosine_name(name)] = Mean(distance_B.sum(), n_rows)
    terms["mse_gc"] = Mean((decoded.gc.float() - target.gc).square().sum(), n_rows)
    return terms


def _cosine_distance(a_BK: Tensor, b_BK: Tensor) -> Tensor:
    """One minus the cosine of each pair of rows."""
    norms_B: Tensor = torch.linalg.vector_norm(a_BK, dim=1) * torch.linalg.vector_norm(b_BK, dim=1)
    return 1.0 - (a_BK * b_BK).sum(dim=1) / (norms_B + _COSINE_EPS)


def reconstruction_loss(parts: Mapping[str, Scalar], n_target: int, config: LossConfig) -> Scalar:
    """Weigh the means of `loss_terms` into one number.

    Works on tensors in training and on floats where an epoch's exact means are
    combined.
    """
    if "BCE" in parts:
        l7 = config.mse_weight * parts["valMSE"] + config.bce_weight * parts["BCE"]
    else:
        l7 = config.mse_weight * parts.get("mse7_weighted", parts["mse7"])
    if "cos7" in parts:
        l7 = l7 + config.cosine_weight * parts["cos7"]
    if "excess_absent" in parts:
        l7 = l7 + config.zero_penalty * parts["excess_absent"]
    total = config.w7 * l7 + parts["mse_gc"]
    dense = [name for name in parts if name.startswith("mse") and name[3:].isdigit()]
    dense = [name for name in dense if name != "mse7"]
    for name in dense:
        total = total + config.mse_weight * parts[name]
        cosine = f"cos{name[3:]}"
        if cosine in parts:
            total = total + config.cosine_weight * parts[cosine]
    return total * (n_target / (config.w7 + len(dense) + 1))


@dataclass(frozen=True)
class Elbo:
    """Negative evidence lower bound of a batch and what it is made of.

    Attributes
    ----------
    loss
        ``reconstruction + beta * kl``, a scalar; minimised. Of a part of a batch it
        is that part's share: those of all parts add up to the loss of the batch.
    reconstruction, kl
        Weighted reconstruction error; KL divergence in nats, summed over latent
        units, averaged over rows.
    beta
        Weight of the KL divergence.
    terms
        Group errors, see `loss_terms`.
    latent, decoded, target
        What they were computed from, for the metrics.
    """

    loss: Tensor
    reconstruction: Tensor
    kl: Tensor
    beta: float
    terms: dict[str, Mean]
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
    pool: Callable[[Tensor], Tensor] | None = None,
) -> Elbo:
    """Assemble the loss of a batch, in float32 whatever the network computed in.

    Where the rows are a part of a batch, ``pool`` turns the counts of this part
    into those of the batch. The loss is linear in the sums, so the gradients of
    all parts' shares add up to the batch's, which those of the parts' means would
    not: their counts differ.
    """
    with torch.autocast(target.gc.device.type, enabled=False):
        terms = loss_terms(decoded, target, config)
        kl_BL = latent.kl()
        counts = torch.stack(
            [*(term.count for term in terms.values()), kl_BL.new_tensor(float(len(kl_BL)))]
        )
        *term_counts, n_rows = (counts if pool is None else pool(counts)).unbind()
        means = {
            name: Mean(term.total, count).value
            for (name, term), count in zip(terms.items(), term_counts, strict=True)
        }
        reconstruction = reconstruction_loss(means, n_target, config)
        kl = kl_BL.sum() / n_rows
        loss = reconstruction + beta * kl
    return Elbo(loss, reconstruction, kl, beta, terms, latent, decoded, target)
