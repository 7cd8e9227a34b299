"""Curves over epochs: the loss and what it is made of, beside what needs no model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from kvae.reporting.numbers import number
from kvae.reporting.reading import RunFacts

__all__ = ["Curve", "Line", "curves", "gate_curve"]

# Of longer runs, as many epochs are drawn, evenly spread.
_POINTS = 1000
# A curve whose largest value is so many times its smallest is told better by ratios.
_RATIO = 6.0


@dataclass(frozen=True)
class Line:
    """A level to compare a curve with.

    Attributes
    ----------
    name
        What reaches it.
    value
        The level.
    is_limit
        Whether it is what can be reached at all, not what is reached without a model.
    """

    name: str
    value: float
    is_limit: bool = False


@dataclass(frozen=True)
class Curve:
    """A figure over epochs.

    Attributes
    ----------
    key
        Its name in ``metrics.jsonl``.
    title, unit, words
        What it is called, in what it is measured, and what it means.
    epochs
        Numbers of the epochs.
    train, validation
        The figure in each of them; None where it is not finite.
    lines
        Levels of predictors that know no row.
    is_log
        Whether it is drawn by ratios.
    is_share
        Whether it is a fraction, shown in percent.
    """

    key: str
    title: str
    unit: str
    words: str
    epochs: tuple[int, ...]
    train: tuple[float | None, ...]
    validation: tuple[float | None, ...]
    lines: tuple[Line, ...]
    is_log: bool
    is_share: bool = False


# Key, title, unit, words, and the baseline's key and name.
_KNOWN: tuple[tuple[str, str, str, str, str | None, str], ...] = (
    (
        "nats",
        "7-mer profile",
        "nats per 7-mer",
        "How many nats it costs to tell one 7-mer of a row from the decoded profile; lower is"
        " better, and a profile that knows nothing costs 9.011.",
        "nats_constant",
        "mean profile",
    ),
    (
        "BCE",
        "Presence of 7-mers",
        "nats per 7-mer and row",
        "Cross-entropy of whether each 7-mer occurs; most of it is the chance of sampling, and no"
        " model can remove that.",
        "BCE_per_kmer",
        "each 7-mer's own rate",
    ),
    (
        "valMSE",
        "Values of present 7-mers",
        "squared {value}",
        "Squared error of how often a present 7-mer occurs.",
        "valMSE_constant",
        "a constant",
    ),
    (
        "mse7",
        "7-mers, all",
        "squared {value}",
        "Squared error over all 7-mers, absent ones included.",
        "mse7_constant",
        "mean row",
    ),
    (
        "mse4",
        "4-mers",
        "squared natural logarithm",
        "Squared error of the logarithms of 4-mer frequencies.",
        "mse4_constant",
        "mean row",
    ),
    (
        "mse3",
        "3-mers",
        "squared natural logarithm",
        "Squared error of the logarithms of 3-mer frequencies.",
        "mse3_constant",
        "mean row",
    ),
    (
        "mse_gc",
        "GC",
        "squared natural logarithm",
        "Squared error of the logarithm of the GC fraction.",
        "mse_gc_constant",
        "mean row",
    ),
    (
        "contrast",
        "Contrast",
        "nats per row",
        "How surely a row finds those of its own class among all others of a batch by their"
        " latents; lower is better.",
        None,
        "",
    ),
    (
        "KL",
        "Information in the latent",
        "nats per row",
        "Divergence of the latents from the prior, summed over units: not an error but the room"
        " that the latent uses.",
        None,
        "",
    ),
)


def curves(run: RunFacts) -> list[Curve]:
    """Curves of a run: the loss first, then its groups, each that the run has.

    Values that are drawn by one number for all, or in no epoch, are left out.
    """
    if not run.epochs:
        return []
    space = "natural logarithm" if run.model.output_space == "log" else "frequency"
    found = [
        _curve(
            run,
            "loss",
            "Loss",
            "loss per row",
            "What training makes small; the weights of the epoch with the lowest validation loss"
            " are the model.",
        )
    ]
    has_gate = any("BCE" in epoch["validation"] for epoch in run.epochs)
    for key, title, unit, words, baseline, name in _KNOWN:
        if (key == "mse7" and has_gate) or not any(key in e["validation"] for e in run.epochs):
            continue
        lines = _line(run, baseline, name) if baseline else ()
        found.append(_curve(run, key, title, unit.format(value=space), words, lines))
    return found


def gate_curve(run: RunFacts, limit: Line | None = None) -> Curve | None:
    """Accuracy of presence over epochs, beside the two majorities and the limit of sampling."""
    if not any("gateAcc" in epoch["validation"] for epoch in run.epochs):
        return None
    lines = (
        *_line(run, "gateAcc_majority", "the more frequent class"),
        *_line(run, "gateAcc_per_kmer_majority", "each 7-mer's majority"),
        *(() if limit is None else (limit,)),
    )
    threshold = run.model.presence_threshold
    words = (
        "Share of 7-mers of which is guessed right whether their frequency exceeds"
        f" {number(threshold)}."
    )
    return _curve(
        run, "gateAcc", "Accuracy of presence", "share of 7-mers guessed right", words, lines, True
    )


def _line(run: RunFacts, key: str, name: str) -> tuple[Line, ...]:
    """Level of a baseline on the validation rows."""
    value = run.baselines.get("validation", {}).get(key)
    if value is None:
        value = run.epochs[-1]["validation"].get(key)
    return () if value is None or not math.isfinite(value) else (Line(name, float(value)),)


def _curve(
    run: RunFacts,
    key: str,
    title: str,
    unit: str,
    words: str,
    lines: tuple[Line, ...] = (),
    is_share: bool = False,
) -> Curve:
    kept = _kept(len(run.epochs), run.best)
    epochs = tuple(int(run.epochs[i]["epoch"]) for i in kept)
    train, validation = (
        tuple(_finite(run.epochs[i][part].get(key)) for i in kept)
        for part in ("train", "validation")
    )
    values = [v for v in (*train, *validation) if v is not None]
    values += [line.value for line in lines]
    is_log = (
        not is_share and len(values) > 0 and min(values) > 0 and max(values) > _RATIO * min(values)
    )
    return Curve(key, title, unit, words, epochs, train, validation, lines, is_log, is_share)


def _kept(n: int, best: int | None) -> Sequence[int]:
    """Positions to draw: all, or evenly many with the best and the last."""
    if n <= _POINTS:
        return range(n)
    step = -(-n // _POINTS)
    return sorted({*range(0, n, step), n - 1, best or 0})


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
