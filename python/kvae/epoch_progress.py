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
        Learning rate of its last step; unless the schedule is cosine, that of all.
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
        bce = f" BCE {v['BCE']:.3f}" if "BCE" in v else ""
        groups = (("mse4", "4-mer"), ("mse3", "3-mer"), ("mse_gc", "GC"))
        parts = [
            f"epoch {self.epoch}/{epochs} loss {self.train['loss']:.1f} (val {v['loss']:.1f}) "
            f"KL {v['KL']:.1f}{bce}{_likelihood(v)}",
            f"gateAcc {v['gateAcc']:.1%} (majority {v['gateAcc_majority']:.1%}, "
            f"per-k-mer {v['gateAcc_per_kmer_majority']:.1%}) avgPresent {v['avgPresent']:,.0f}",
            f"valMSE {v['valMSE']:.2g} (constant {v['valMSE_constant']:.2g}) "
            f"outMSE {v['outMSE_present']:.2g}/{v['outMSE_absent']:.2g} pres/abs",
            f"nz {v['nz']:.3g} z {v['z']:.3g} %nz {v['%nz']:.1f}",
            " ".join(
                f"{label} {v[key]:.2g} ({v[f'{key}_constant']:.2g})"
                for key, label in groups
                if key in v
            ),
            f"active {v['active_units']:.0f}/{n_latent} lr {self.lr:.2g} "
            f"{self.rows_per_second:,.0f} rows/s {self.samples_per_parameter:.2g} rows/param",
        ]
        return " | ".join(parts) + (" *" if self.is_best else "")

    def details(self) -> str:
        """Further validation figures, in one line."""
        v = self.validation
        parts = [
            f"reconstruction {v['reconstruction']:.1f} beta {v['beta']:.2g}",
            f"mse7 {v['mse7']:.2g} ({v['mse7_constant']:.2g})",
            f"{v['active_units_0.1']:.0f} units above 0.1 nat",
        ]
        parts += [
            f"{key} {v[key]:.1%} ({v[f'{key}_majority']:.1%})"
            for key in v
            if f"{key}_majority" in v and key.startswith("outAcc@")
        ]
        parts += [f"{key} {v[key]:.3g}" for key in _FURTHER if key in v]
        return "  " + " | ".join(parts)


def _likelihood(v: Mapping[str, float]) -> str:
    """Figures of designs with a likelihood, and of latents that are contrasted."""
    text = ""
    if "nats" in v:
        text += f" nats {v['nats']:.3f} (mean profile {v['nats_constant']:.3f})"
    if "contrast" in v:
        text += f" contrast {v['contrast']:.2f}"
    return text


# Terms that only some losses have.
_FURTHER = ("mse7_weighted", "cos7", "cos4", "cos3", "excess_absent")


class TrainProgress(Progress):
    """Receives the progress of a training run; this base class keeps silent."""

    def epoch(self, record: EpochRecord, line: str) -> None:
        """Receive the figures of a finished epoch and their summary in one line."""
