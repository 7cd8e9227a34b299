"""Metrics of an epoch: exact means over rows, in the terms of the design log.

Sums are accumulated over all batches and divided once, so a smaller last batch
weighs what its rows weigh, and several processes could add theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kvae.model.losses import dense_name, reconstruction_loss

if TYPE_CHECKING:
    from kvae.config import LossConfig
    from kvae.model.losses import Elbo

# A latent unit is active where its KL divergence, averaged over rows, exceeds
# this many nats.
ACTIVE_NATS = 0.01
# Early in training every unit carries a little by chance; this many nats it does
# not carry by chance.
CLEARLY_ACTIVE_NATS = 0.1
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
    """

    def __init__(self, loss: LossConfig, beta: float, n_target: int, pseudocount: float) -> None:
        self._loss = loss
        self._beta = beta
        self._n_target = n_target
        self._pseudocount = pseudocount
        self._sums: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self, elbo: Elbo) -> None:
        """Add a batch. Nothing is read back from the device."""
        for name, value in self._batch_sums(elbo).items():
            # MPS has no double precision; its batches are added up on the CPU.
            value = value.cpu().double() if value.device.type == "mps" else value.double()
            self._sums[name] = self._sums[name] + value if name in self._sums else value

    def _batch_sums(self, elbo: Elbo) -> dict[str, Tensor]:
        decoded, target, parts = elbo.decoded, elbo.target, elbo.parts
        present_BK = target.present
        log_BK = target.log_frequency
        n_rows = log_BK.new_full((), float(len(log_BK)))
        n_present = present_BK.sum()
        out_BK = decoded.kmers().float()
        error_BK = (out_BK - target.value).square_()
        sums = {
            "rows": n_rows,
            "cells": n_rows * log_BK.shape[1],
            "present": n_present,
            "out": error_BK.sum(),
            "out_present": error_BK.mul_(present_BK).sum(),
            "kl_L": elbo.latent.kl().sum(dim=0),
            "mse_gc": parts["mse_gc"] * n_rows,
        }
        # Every row has as many fields in a block: its mean error weighs one row.
        sums |= {dense_name(name): parts[dense_name(name)] * n_rows for name in target.dense}
        if decoded.gate_logit is None:
            sums["value"] = parts["valMSE"] * sums["cells"]
        else:
            hits_BK = (decoded.gate_logit > 0.0) == present_BK
            sums["gate_hits"] = hits_BK.sum()
            sums["bce"] = parts["BCE"] * sums["cells"]
            sums["value"] = parts["valMSE"] * n_present.clamp(min=1)
        if decoded.space == "linear":
            out_BK = out_BK.add(self._pseudocount).log_()
        nonzero_BK = log_BK > NONZERO_LOG
        log_error_BK = (out_BK - log_BK).square_()
        sums["log_error"] = log_error_BK.sum()
        sums["log_error_nonzero"] = log_error_BK.mul_(nonzero_BK).sum()
        sums["nonzero"] = nonzero_BK.sum()
        return sums

    def result(self) -> dict[str, float]:
        """Metrics of all batches so far.

        Returns
        -------
        dict
            ``loss``, ``reconstruction``, ``KL`` (nats), ``beta``, ``BCE``,
            ``valMSE``, ``mse7`` (of the gated output), ``mse4``, ``mse3``,
            ``mse_gc``, ``gateAcc``, ``outMSE_present``, ``outMSE_absent``,
            ``avgPresent``, ``nz`` and ``z`` (squared log-space errors of non-zero
            and zero 7-mers), ``%nz``, ``active_units`` (above 0.01 nat) and
            ``active_units_0.1`` (above 0.1 nat). Without a gate there is no ``BCE``
            and no ``gateAcc``. Fractions are between 0 and 1, but ``%nz`` is in
            percent.
        """
        kl_L = (self._sums["kl_L"] / self._sums["rows"]).cpu()
        s = {name: float(value) for name, value in self._sums.items() if name != "kl_L"}
        rows, cells, present = s["rows"], s["cells"], s["present"]
        parts: dict[str, float] = {}
        if "bce" in s:
            parts["BCE"] = s["bce"] / cells
            parts["valMSE"] = s["value"] / max(present, 1.0)
        else:
            parts["valMSE"] = s["value"] / cells
        parts |= {name: s[name] / rows for name in s if name.startswith("mse")}
        reconstruction = reconstruction_loss(parts, self._n_target, self._loss)
        kl = float(kl_L.sum())
        metrics = {
            "loss": reconstruction + self._beta * kl,
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
            "active_units": float((kl_L > ACTIVE_NATS).sum()),
            "active_units_0.1": float((kl_L > CLEARLY_ACTIVE_NATS).sum()),
        }
        if "gate_hits" in s:
            metrics["gateAcc"] = s["gate_hits"] / cells
        return metrics


def _rest(total: float, part: float) -> float:
    """Return what a part leaves of a sum of squares; rounding must not make it negative."""
    return max(total - part, 0.0)
