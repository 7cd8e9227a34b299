"""What a training run tells while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from kvae.progress import Progress


@dataclass(frozen=True)
class EpochRecord:
    """One line of ``metrics.jsonl``.

    Attributes
    ----------
    epoch
        Counted from 1.
    lr
        Learning rate the epoch was trained with.
    seconds, rows_per_second
        Wall time of epoch and validation; training rows per second of training.
    samples_per_parameter
        Training rows per parameter of the model.
    is_best
        Whether the validation loss is the lowest so far.
    train, validation
        `kvae.training.metrics.EpochSums.result` and the scores of
        `kvae.training.baselines.constant_scores`. Training figures are those of
        the batches as they were trained on, with the weights of that moment.
    """

    epoch: int
    lr: float
    seconds: float
    rows_per_second: float
    samples_per_parameter: float
    is_best: bool
    train: Mapping[str, float]
    validation: Mapping[str, float]

    def as_json(self) -> dict[str, Any]:
        """Plain dictionary for ``metrics.jsonl``."""
        return asdict(self)

    def line(self, epochs: int, n_latent: int) -> str:
        """Sum up the epoch in one line: validation figures, with the baselines beside them."""
        v = self.validation
        parts = [
            f"epoch {self.epoch}/{epochs}",
            f"loss {self.train['loss']:.1f} (val {v['loss']:.1f})",
            f"KL {v['KL']:.1f}",
        ]
        if "BCE" in v:
            parts += [
                f"BCE {v['BCE']:.3f}",
                f"gateAcc {v['gateAcc']:.1%} (majority {v['gateAcc_majority']:.1%}, "
                f"per-k-mer {v['gateAcc_per_kmer_majority']:.1%})",
            ]
        parts.append(f"valMSE {v['valMSE']:.2g} (constant {v['valMSE_constant']:.2g})")
        for key, label in (("mse4", "4-mer"), ("mse3", "3-mer"), ("mse_gc", "GC")):
            if key in v:
                parts.append(f"{label} {v[key]:.2g} ({v[f'{key}_constant']:.2g})")
        parts += [
            f"active {v['active_units']:.0f}/{n_latent} "
            f"({v['active_units_0.1']:.0f} above 0.1 nat)",
            f"lr {self.lr:.2g}",
            f"{self.rows_per_second:,.0f} rows/s",
        ]
        return " ".join(parts) + (" *" if self.is_best else "")

    def details(self) -> str:
        """Further validation figures, in one line."""
        v = self.validation
        return (
            f"  7-mers: avgPresent {v['avgPresent']:,.0f} "
            f"outMSE {v['outMSE_present']:.2g} present, {v['outMSE_absent']:.2g} absent "
            f"nz {v['nz']:.3g} z {v['z']:.3g} %nz {v['%nz']:.1f} "
            f"rows per parameter {self.samples_per_parameter:.2g}"
        )


class TrainProgress(Progress):
    """Receives the progress of a training run; this base class keeps silent."""

    def epoch(self, record: EpochRecord, line: str) -> None:
        """Receive the figures of a finished epoch and their summary in one line."""
