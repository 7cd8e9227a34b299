"""Metrics of an epoch: exact means over rows, in the terms of the design log.

Sums are accumulated over all batches and divided once, so a smaller last batch
weighs what its rows weigh, and several processes could add theirs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kvae.model.losses import reconstruction_loss
from kvae.model.one_pass import Watch
from kvae.training.processes import Processes

if TYPE_CHECKING:
    from kvae.config import LossConfig
    from kvae.model.losses import Elbo

# A latent unit is active where its KL divergence, averaged over rows, exceeds
# this many nats.
ACTIVE_NATS = 0.01
# Early in training every unit carries a little by chance; this many nats it does
# not carry by chance.
CLEARLY_ACTIVE_NATS = 0.1
# Frequencies at which the output as a whole is held against the rows, whatever a
# design calls present: designs with and without a gate, and with gates trained
# for different thresholds, are comparable in these.
OUTPUT_THRESHOLDS = {"1e-5": 1e-5, "2e-4": 2e-4, "5e-4": 5e-4}
# A 7-mer counts as non-zero in the log-space errors nz and z above this.
NONZERO_LOG = -10.0


class EpochSums:
    """Accumulates the metrics of one pass over a part of the data.

    Parameters
    ----------
    loss
        Weights of the loss, applied to the exact means at the end.
    beta
        Weight of the KL divergence in this epoch.
    n_target
        Fields of the reconstruction target.
    pseudocount
        Added to linear outputs before the logarithm of ``nz`` and ``z``.
    processes
        Those that hold a part of every batch each.
    at_thresholds
        Also compare the output with the rows at each of `OUTPUT_THRESHOLDS`.
    """

    def __init__(
        self,
        loss: LossConfig,
        beta: float,
        n_target: int,
        pseudocount: float,
        processes: Processes | None = None,
        *,
        at_thresholds: bool = False,
    ) -> None:
        self._loss = loss
        self._beta = beta
        self._n_target = n_target
        self._pseudocount = pseudocount
        self._thresholds = OUTPUT_THRESHOLDS if at_thresholds else {}
        self._processes = processes or Processes()
        self._sums: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self, elbo: Elbo) -> None:
        """Add a batch. Nothing is read back from the device."""
        for name, value in self._batch_sums(elbo).items():
            # MPS has no double precision; its batches are added up on the CPU.
            value = value.cpu().double() if value.device.type == "mps" else value.double()
            self._sums[name] = self._sums[name] + value if name in self._sums else value

    def state(self) -> dict[str, Tensor]:
        """All sums by name, in double precision, those of all processes together."""
        # Sorted: sums that come back from a file come in another order, and the last
        # bit of the loss depends on it.
        return self._processes.add_all(dict(sorted(self._sums.items())))

    def restore(self, state: Mapping[str, Tensor], device: torch.device) -> None:
        """Go on from sums that `state` gave."""
        where = "cpu" if device.type == "mps" else device
        # They are of all processes; one of them has to go on with them.
        share = float(self._processes.is_first)
        self._sums = {name: value.to(where) * share for name, value in state.items()}

    @property
    def watch(self) -> Watch:
        """What a pass over a batch has to sum for this."""
        return Watch(self._thresholds, NONZERO_LOG)

    def _batch_sums(self, elbo: Elbo) -> dict[str, Tensor]:
        kl_BL = elbo.latent.kl()
        n_rows = kl_BL.new_full((), float(len(kl_BL)))
        sums = {"rows": n_rows, "kl_L": kl_BL.sum(dim=0)}
        for name, term in elbo.terms.items():
            sums[f"total {name}"], sums[f"count {name}"] = term.total, term.count
        wide = self._wide_sums(elbo) if elbo.sums is None else elbo.sums
        return {**sums, **wide}

    def _wide_sums(self, elbo: Elbo) -> dict[str, Tensor]:
        """Sum what `kvae.model.one_pass` does, from outputs and targets as a whole."""
        decoded, target = elbo.decoded, elbo.target
        assert decoded is not None
        assert target is not None
        present_BK = target.present
        log_BK = target.log_frequency
        out_BK = decoded.kmers().float()
        error_BK = (out_BK - target.value).square_()
        sums = {
            "cells": log_BK.new_full((), float(log_BK.numel())),
            "present": present_BK.sum(),
            "out": error_BK.sum(),
            "out_present": error_BK.mul_(present_BK).sum(),
        }
        presence_logit_BK = decoded.presence_logit(target.n_windows)
        if presence_logit_BK is None:
            says_BK = out_BK > self._cut(target.threshold, decoded.space)
        else:
            says_BK = presence_logit_BK > 0.0
        sums["gate_hits"] = (says_BK == present_BK).sum()
        for name, threshold in self._thresholds.items():
            says_BK = out_BK > self._cut(threshold, decoded.space)
            sums[f"hits {name}"] = (says_BK == (target.frequency > threshold)).sum()
        nonzero_BK = target.frequency > math.exp(NONZERO_LOG) - self._pseudocount
        if decoded.space != "log":
            out_BK = out_BK.add(self._pseudocount).log_().clamp_(min=decoded.floor)
        log_error_BK = (out_BK - log_BK).square_()
        sums["log_error"] = log_error_BK.sum()
        sums["log_error_nonzero"] = log_error_BK.mul_(nonzero_BK).sum()
        sums["nonzero"] = nonzero_BK.sum()
        return sums

    def _cut(self, threshold: float, space: str) -> float:
        """Output above which a 7-mer's frequency exceeds a threshold."""
        return threshold if space != "log" else math.log(threshold + self._pseudocount)

    def result(self) -> dict[str, float]:
        """Metrics of all batches so far.

        Returns
        -------
        dict
            ``loss``, ``reconstruction``, ``KL`` (nats), ``beta``, the means of
            `kvae.model.losses.loss_terms`, ``mse7`` (of the whole output),
            ``gateAcc``, ``outMSE_present``, ``outMSE_absent``, ``avgPresent``,
            ``nz`` and ``z`` (squared log-space errors of non-zero and zero
            7-mers), ``%nz``, ``active_units`` (above 0.01 nat) and
            ``active_units_0.1`` (above 0.1 nat). Without a gate ``gateAcc`` is the
            accuracy of "the output exceeds the threshold" and there is no ``BCE``.
            With ``at_thresholds`` also ``outAcc@<threshold>``. Fractions are
            between 0 and 1, but ``%nz`` is in percent.
        """
        sums = self.state()
        kl_L = (sums["kl_L"] / sums["rows"]).cpu()
        s = {name: float(value) for name, value in sums.items() if name != "kl_L"}
        rows, cells, present = s["rows"], s["cells"], s["present"]
        names = [name.removeprefix("total ") for name in s if name.startswith("total ")]
        parts = {name: s[f"total {name}"] / max(s[f"count {name}"], 1.0) for name in names}
        reconstruction = reconstruction_loss(parts, self._n_target, self._loss)
        kl = float(kl_L.sum())
        metrics = {
            "loss": reconstruction
            + self._beta * kl
            + self._loss.contrast_weight * parts.get("contrast", 0.0),
            "reconstruction": reconstruction,
            "KL": kl,
            "beta": self._beta,
            **parts,
            "mse7": s["out"] / cells,
            "outMSE_present": s["out_present"] / max(present, 1.0),
            "outMSE_absent": _rest(s["out"], s["out_present"]) / max(cells - present, 1.0),
            "avgPresent": present / rows,
            "nz": s["log_error_nonzero"] / max(s["nonzero"], 1.0),
            "z": _rest(s["log_error"], s["log_error_nonzero"]) / max(cells - s["nonzero"], 1.0),
            "%nz": 100.0 * s["nonzero"] / cells,
            "gateAcc": s["gate_hits"] / cells,
            "active_units": float((kl_L > ACTIVE_NATS).sum()),
            "active_units_0.1": float((kl_L > CLEARLY_ACTIVE_NATS).sum()),
        }
        metrics |= {f"outAcc@{name}": s[f"hits {name}"] / cells for name in self._thresholds}
        return metrics


def _rest(total: float, part: float) -> float:
    """Return what a part leaves of a sum of squares; rounding must not make it negative."""
    return max(total - part, 0.0)
