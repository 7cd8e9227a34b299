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
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from kvae.model.decoder import LEAST_FREQUENCY

if TYPE_CHECKING:
    from kvae.config import LossConfig
    from kvae.model.decoder import Decoded
    from kvae.model.posterior import Latent
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
        absent 7-mers whose output is too large. In the profile space ``nats`` is
        the negative log likelihood per 7-mer, and ``BCE`` that of being found.
    """
    n_rows = decoded.value.new_tensor(float(len(decoded.value)), dtype=torch.float32)
    terms: dict[str, Mean] = {}
    if decoded.space == "profile":
        log_BK = (decoded.value.float() + LEAST_FREQUENCY).log()
        terms["nats"] = Mean(-(target.frequency * log_BK).sum(), n_rows)
    if not config.counts_errors:
        # They are figures to look at then, and need no gradients.
        decoded = decoded.detach()
    value_BK = decoded.value.float()
    error_BK = (value_BK - target.value).square()
    present_BK = target.present.float()
    n_cells = present_BK.new_tensor(float(present_BK.numel()))
    n_present = present_BK.sum()
    terms["valMSE"] = Mean((error_BK * present_BK).sum(), n_present)
    presence_logit_BK = decoded.presence_logit(target.n_windows)
    if presence_logit_BK is None:
        terms["mse7"] = Mean(error_BK.sum(), n_cells)
        if config.zero_weight != 1.0:
            weight_BK = present_BK + (1.0 - present_BK) * config.zero_weight
            terms["mse7_weighted"] = Mean((error_BK * weight_BK).sum(), n_cells)
    else:
        bce = functional.binary_cross_entropy_with_logits(
            presence_logit_BK.float(), present_BK, reduction="sum"
        )
        terms["BCE"] = Mean(bce, n_cells)
    if config.cosine_weight > 0.0 or config.zero_penalty > 0.0:
        out_BK = decoded.kmers().float()
    if config.cosine_weight > 0.0:
        terms["cos7"] = Mean(_cosine_distance(out_BK, target.value).sum(), n_rows)
    if config.zero_penalty > 0.0:
        excess_BK = (out_BK - target.value).relu().square() * (1.0 - present_BK)
        terms["excess_absent"] = Mean(excess_BK.sum(), n_cells - n_present)
    if config.cosine_weight > 0.0:
        for name, log_BK in decoded.dense.items():
            distance_B = _cosine_distance(log_BK.float(), target.dense[name])
            terms[cosine_name(name)] = Mean(distance_B.sum(), n_rows)
    return terms | narrow_terms(decoded.dense, decoded.gc, target.dense, target.gc)


def narrow_terms(
    dense: Mapping[str, Tensor],
    gc_B1: Tensor,
    wanted: Mapping[str, Tensor],
    wanted_gc_B1: Tensor,
) -> dict[str, Mean]:
    """Squared errors of the blocks that are narrow, by name, and of GC."""
    n_rows = gc_B1.new_tensor(float(len(gc_B1)), dtype=torch.float32)
    terms: dict[str, Mean] = {}
    for name, log_BK in dense.items():
        error = (log_BK.float() - wanted[name]).square().sum()
        terms[dense_name(name)] = Mean(error, n_rows * log_BK.shape[1])
    terms["mse_gc"] = Mean((gc_B1.float() - wanted_gc_B1).square().sum(), n_rows)
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
    if not config.counts_errors:
        return config.nats_weight * parts["nats"]
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
    total = total * (n_target / (config.w7 + len(dense) + 1))
    return total + config.nats_weight * parts["nats"] if "nats" in parts else total


def contrast(mean_BL: Tensor, classes_B: Tensor, temperature: float) -> Mean:
    """Supervised contrast of latents: how well each tells its own class from the others.

    Parameters
    ----------
    mean_BL
        Means of the latents, shape (rows, latent units); their directions count.
    classes_B
        Class of every row, shape (rows,).
    temperature
        Differences in cosine that are worth a factor of e.

    Returns
    -------
    Mean
        Cross-entropy in nats, over the rows that are not alone in their class, of
        choosing one of those of the same class among all others [1]_.

    References
    ----------
    .. [1] Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020.
    """
    unit_BL = functional.normalize(mean_BL.float(), dim=1)
    logit_BB = unit_BL @ unit_BL.T / temperature
    itself_BB = torch.eye(len(logit_BB), dtype=torch.bool, device=logit_BB.device)
    logit_BB = logit_BB.masked_fill(itself_BB, -torch.inf)
    log_p_BB = logit_BB - logit_BB.logsumexp(dim=1, keepdim=True)
    alike_BB = (classes_B[:, None] == classes_B) & ~itself_BB
    n_alike_B = alike_BB.sum(dim=1)
    loss_B = -log_p_BB.masked_fill(~alike_BB, 0.0).sum(dim=1) / n_alike_B.clamp(min=1)
    return Mean(loss_B.sum(), (n_alike_B > 0).sum().to(loss_B.dtype))


@dataclass(frozen=True)
class Elbo:
    """Negative evidence lower bound of a batch and what it is made of.

    Attributes
    ----------
    loss
        ``reconstruction + beta * kl``, and the weighted contrast where there is one; a
        scalar, minimised. Of a part of a batch it
        is that part's share: those of all parts add up to the loss of the batch.
    reconstruction, kl
        Weighted reconstruction error; KL divergence in nats, summed over latent
        units, averaged over rows.
    beta
        Weight of the KL divergence.
    terms
        Group errors, see `loss_terms`.
    latent, decoded, target
        What they were computed from. In one pass (`kvae.model.one_pass`) neither
        outputs nor targets exist as a whole, and these are None.
    sums
        Of such a pass: sums for the metrics by name.
    """

    loss: Tensor
    reconstruction: Tensor
    kl: Tensor
    beta: float
    terms: dict[str, Mean]
    latent: Latent
    decoded: Decoded | None
    target: Target | None
    sums: Mapping[str, Tensor] | None = None


def negative_elbo(
    latent: Latent,
    decoded: Decoded,
    target: Target,
    n_target: int,
    config: LossConfig,
    beta: float,
    pool: Callable[[Tensor], Tensor] | None = None,
    classes_B: Tensor | None = None,
) -> Elbo:
    """Assemble the loss of a batch, in float32 whatever the network computed in.

    Where the rows are a part of a batch, ``pool`` turns the counts of this part
    into those of the batch. The loss is linear in the sums, so the gradients of
    all parts' shares add up to the batch's, which those of the parts' means would
    not: their counts differ.
    """
    with torch.autocast(target.gc.device.type, enabled=False):
        terms = loss_terms(decoded, target, config)
    elbo = weighed(latent, terms, n_target, config, beta, pool, classes_B)
    return replace(elbo, decoded=decoded, target=target)


def weighed(
    latent: Latent,
    terms: dict[str, Mean],
    n_target: int,
    config: LossConfig,
    beta: float,
    pool: Callable[[Tensor], Tensor] | None = None,
    classes_B: Tensor | None = None,
    sums: Mapping[str, Tensor] | None = None,
) -> Elbo:
    """Weigh the terms of a batch, see `negative_elbo`."""
    with torch.autocast(latent.mean.device.type, enabled=False):
        if config.contrast_weight > 0.0 and classes_B is not None:
            terms["contrast"] = contrast(latent.mean, classes_B, config.temperature)
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
        if "contrast" in means:
            loss = loss + config.contrast_weight * means["contrast"]
    return Elbo(loss, reconstruction, kl, beta, terms, latent, None, None, sums)
