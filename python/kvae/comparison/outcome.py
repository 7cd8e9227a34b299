"""What became of each configuration, and which of its figures are compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from kvae.comparison.entries import Entry

Status = Literal["unfinished", "finished", "failed"]
Value = str | int | float | None

# Metrics that lead the table, in this order; all others follow.
_LEADING = (
    "loss",
    "reconstruction",
    "KL",
    "active_units",
    "active_units_0.1",
    "BCE",
    "BCE_per_kmer",
    "gateAcc",
    "gateAcc_majority",
    "gateAcc_per_kmer_majority",
    "valMSE",
    "valMSE_constant",
    "outMSE_present",
    "outMSE_absent",
    "nz",
    "z",
    "%nz",
    "avgPresent",
    "mse4",
    "mse4_constant",
    "mse3",
    "mse3_constant",
    "mse_gc",
    "mse_gc_constant",
)


@dataclass(frozen=True)
class Outcome:
    """A configuration and how far its training came.

    Attributes
    ----------
    entry
        Its name and configuration.
    status
        ``unfinished`` until it is ``finished`` or has ``failed``.
    problem
        Why it failed, in one line.
    n_parameters
        Parameters of the model, where one was trained.
    epochs
        The lines of its ``metrics.jsonl``.
    """

    entry: Entry
    status: Status = "unfinished"
    problem: str | None = None
    n_parameters: int | None = None
    epochs: Sequence[Mapping[str, Any]] = field(default=(), repr=False)

    @property
    def last(self) -> Mapping[str, Any] | None:
        """Record of the last epoch."""
        return self.epochs[-1] if self.epochs else None

    @property
    def best(self) -> Mapping[str, Any] | None:
        """Record of the epoch whose weights the run keeps."""
        return next((record for record in reversed(self.epochs) if record["is_best"]), None)

    def facts(self) -> dict[str, Value]:
        """Everything but metrics."""
        last, best = self.last, self.best
        return {
            "name": self.entry.name,
            "status": self.status,
            "preset": self.entry.config.preset,
            "presence_threshold": self.entry.config.model.presence_threshold,
            "parameters": self.n_parameters,
            "rows_per_parameter": last["samples_per_parameter"] if last else None,
            "epochs": len(self.epochs),
            "best_epoch": best["epoch"] if best else None,
            "seconds": sum(record["seconds"] for record in self.epochs),
        }

    def metrics(self, which: Literal["last", "best"]) -> Mapping[str, float]:
        """Metrics and baselines of the validation rows in one of the two epochs."""
        record = self.last if which == "last" else self.best
        return record["validation"] if record else {}


def metric_names(outcomes: Iterable[Outcome]) -> list[str]:
    """Metrics of any of the runs in the order of the table.

    A metric that the order does not know stands after the one whose name it
    begins with (``X_majority`` after ``X``), else at the end.
    """
    found: dict[str, None] = {}
    for outcome in outcomes:
        found |= dict.fromkeys(outcome.metrics("last"))
    names = list(_LEADING)
    for name in sorted(found.keys() - set(_LEADING), key=list(found).index):
        family = [i for i, known in enumerate(names) if name.startswith(f"{known}_")]
        names.insert(family[-1] + 1 if family else len(names), name)
    return names
