"""Words, tables and key figures of a page's sections."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kvae.latents import Latents
from kvae.reporting import words
from kvae.reporting.calibration import Calibration
from kvae.reporting.curves import Curve
from kvae.reporting.embedding import TITLES
from kvae.reporting.findings import Findings
from kvae.reporting.histograms import Histogram
from kvae.reporting.numbers import NONE, number, percent
from kvae.reporting.reading import RunFacts
from kvae.reporting.scores import Scores, best_figures

__all__ = [
    "best_table",
    "calibration_words",
    "glance",
    "histogram_words",
    "map_words",
    "model_words",
    "presence_words",
    "scores_words",
    "training_words",
    "units_words",
]


def glance(found: Findings) -> list[dict[str, str]]:
    """Key figures, each with what it is to be compared with."""
    figures: list[dict[str, str]] = []
    run = found.run
    if found.scores and found.scores.useful:
        figures += _glance_useful(run, found.scores)
    by_key = {curve.key: curve for curve in found.curves}
    if "nats" in by_key:
        figures.append(_glance_curve(by_key["nats"], run, "A 7-mer costs", "nats"))
    elif "mse4" in by_key:
        figures.append(_glance_curve(by_key["mse4"], run, "Error of 4-mers", ""))
    if found.gate is not None:
        figures.append(_glance_curve(found.gate, run, "Presence guessed right", ""))
    if found.calibration is not None:
        error = 100.0 * found.calibration.error
        rows = "held out rows" if found.calibration.are_held_out else "rows"
        figures.append(
            {
                "name": "Calibration error",
                "value": f"{error:.1f}",
                "unit": "percentage points",
                "beside": f"mean over {found.calibration.rows:,} {rows}; 0 is perfect",
            }
        )
    if found.units is not None:
        n = len(found.units.variance)
        figures.append(
            {
                "name": "Directions in use",
                "value": f"{found.units.effective:.1f}",
                "unit": f"of {n}",
                "beside": "as many alike ones would have the latents' covariance",
            }
        )
    return figures[:5]


def _glance_useful(run: RunFacts, scores: Scores) -> list[dict[str, str]]:
    useful = scores.useful[0]
    ours = next((line for line in useful.lines if line.is_model), None)
    others = [line for line in useful.lines if not line.is_model and line.values[0]]
    if ours is None or not ours.values or ours.values[0] is None:
        return []
    beside = ""
    if others:
        best = max(others, key=lambda line: line.values[0][0] if line.values[0] else 0.0)
        assert best.values[0] is not None
        beside = f"best without a model: {best.values[0][0]:.3f}, {best.name}"
    if _was_trained_on(run, scores):
        beside += "; of rows trained on"
    return [
        {
            "name": f"{useful.figures[0]} by {useful.label}",
            "value": f"{ours.values[0][0]:.3f}",
            "unit": "",
            "beside": beside,
        }
    ]


def _glance_curve(curve: Curve, run: RunFacts, name: str, unit: str) -> dict[str, str]:
    value = _at_best(curve, run, curve.validation)
    text = NONE if value is None else (percent if curve.is_share else number)(value)
    return {"name": name, "value": text, "unit": unit, "beside": words.beside(curve)}


def _at_best(curve: Curve, run: RunFacts, values: Sequence[float | None]) -> float | None:
    return values[curve.epochs.index(run.epochs[run.best or 0]["epoch"])]


def map_words(found: Findings) -> dict[str, Any] | None:
    """Say what the map shows, how far it can be trusted, and what the cloud is."""
    drawn, points = found.map, found.points
    if drawn is None or points is None:
        return None
    n, total = len(drawn.rows), points.of_rows
    method = TITLES[drawn.method]
    where = _origin(found, points.latents)
    rows = f"{n:,} rows{where}"
    if n < total:
        rows = f"{n:,} of {total:,} rows{where}, as many of each file as there are"
    lead = (
        "Every point is a piece of sequence, and pieces of similar composition lie together."
        f" These are {rows}, drawn by {method}."
    )
    trust = (
        f"Of a row's ten nearest rows in the latent, {percent(drawn.kept_neighbours, 0)} are"
        f" among its ten nearest on the map ({percent(drawn.chance_neighbours)} by chance)"
    )
    if drawn.method == "pca":
        caution = "; PCA is a shadow of the latent: what overlaps here may be apart there."
    else:
        caution = "; distances between far groups, and sizes of groups, mean little."
    shade = f" The grey cloud behind is the density of all {len(points):,} rows"
    if len(points) < total:
        shade = f" The grey cloud behind is the density of these rows, a sample of {total:,}"
    elif drawn.anchors is not None:
        shade += f", each where the most similar of {drawn.anchors:,} rows of the map is"
    label = f"Map of {n:,} rows by {method}; the legend lists the groups"
    return {
        "lead": lead,
        "caption": f"{trust}{caution}{shade}.",
        "axes": drawn.axes,
        "label": label,
    }


def _origin(found: Findings, latents: Latents) -> str:
    name = str(latents.path).rpartition("/")[2]
    return f" of {name}, encoded for this page" if found.was_encoded else f" of {name}"


def training_words(run: RunFacts) -> str:
    """Say what the curves are."""
    text = (
        "Blue is what counts: rows that were held out. Orange is the rows trained on, averaged"
        " while the model changes, with its noise switched on. Grey lines are predictors that"
        " know nothing of a row."
    )
    if run.in_halves:
        text += " Every figure is of one half of a row, predicted from the other half."
    return text


def best_table(found: Findings) -> list[dict[str, str]]:
    """Figures of the best epoch, a line for each curve."""
    run = found.run
    if not run.epochs:
        return []
    lines = []
    for curve in [*found.curves, *([found.gate] if found.gate else [])]:
        show = percent if curve.is_share else number
        train, validation = (
            _at_best(curve, run, values) for values in (curve.train, curve.validation)
        )
        lines.append(
            {
                "title": curve.title,
                "unit": curve.unit,
                "train": NONE if train is None else show(train),
                "validation": NONE if validation is None else show(validation),
                "beside": words.beside(curve) or NONE,
            }
        )
    return lines


def presence_words(found: Findings) -> str:
    """Say why presence has a ceiling, and where it is."""
    if found.gate is None and found.calibration is None:
        return ""
    what = "half a row" if found.run.in_halves else "a row"
    text = (
        f"A few thousand 7-mers are drawn from {what}, and there are 8,192 kinds: whether one"
        " occurs is largely chance, and no model can know it."
    )
    limit = found.calibration.limit if found.calibration else None
    if limit is not None:
        text += (
            f" On the rows below, guesses by the true composition would be right in about"
            f" {percent(limit.expected_accuracy)}; what a model shows above that is memory,"
            " not merit."
        )
    else:
        text += (
            " So accuracy has a ceiling well below 100"
            "\u202f%; with the features at hand this page estimates it."
        )
    return text


def calibration_words(found: Calibration | None) -> dict[str, Any] | None:
    """Caption and table of the calibration."""
    if found is None:
        return None
    rows = "rows that the run was not trained on" if found.are_held_out else "rows"
    halves = ", each half predicted from the other" if found.in_halves else ""
    table = [
        ("the model", percent(found.score.accuracy), number(found.score.bce)),
        ("the more frequent class", percent(found.majority), NONE),
    ]
    if found.limit is not None:
        origin = {
            "genome": "the other rows of its file, without the row itself",
            "chain": "a Markov chain of order 2 of what the model sees",
        }[found.truth]
        table.append((origin, percent(found.limit.accuracy), number(found.limit.bce)))
        table.append(
            (
                "the same, if it were the truth: the limit of sampling",
                percent(found.limit.expected_accuracy),
                NONE,
            )
        )
    note = "" if found.are_held_out else " The run may have been trained on some of them."
    return {
        "words": (
            "Of all 7-mers that the model gives a probability of 30\u202f%, three in ten should"
            " occur: points on the dashed line. Columns show how many 7-mers each point stands"
            f" for. Mean distance from the line: {100 * found.error:.1f} percentage points."
        ),
        "about": f"{found.rows:,} {rows}{halves}, frequency above {number(found.threshold)}.{note}",
        "table": table,
    }


def scores_words(found: Findings) -> dict[str, Any] | None:
    """Tables of an evaluation."""
    scores = found.scores
    if scores is None:
        return None
    about = f"{scores.about}."
    if _was_trained_on(found.run, scores):
        about += " The run was trained on rows of this file, which favours its latent."
    tables = []
    for useful in scores.useful:
        best = best_figures(useful.lines)
        lines = [
            {
                "name": "latent, this model" if line.is_model else line.name,
                "is_model": line.is_model,
                "cells": [_cell(value, top) for value, top in zip(line.values, best, strict=True)],
            }
            for line in useful.lines
        ]
        size = f"{useful.labels:,} labels, {useful.rows:,} rows"
        tables.append(
            {"label": useful.label, "size": size, "figures": useful.figures, "lines": lines}
        )
    return {"about": about, "tables": tables, "words": scores.words}


def _was_trained_on(run: RunFacts, scores: Scores) -> bool:
    names = [Path(str(entry["path"])).name for entry in run.data.get("inputs", ())]
    return scores.features in names


def _cell(value: tuple[float, float | None] | None, best: float) -> dict[str, Any]:
    if value is None:
        return {"text": NONE, "spread": "", "width": 0, "is_best": False}
    mean, spread = value
    return {
        "text": f"{mean:.3f}",
        "spread": "" if spread is None else f"{spread:.3f}",
        "width": round(100 * min(max(mean, 0.0), 1.0), 1),
        "is_best": mean == best,
    }


def units_words(found: Findings) -> dict[str, Any] | None:
    """Say what is known of single units, and which pictures show it."""
    units = found.units
    if units is None:
        return None
    n = len(units.variance)
    text = (
        f"The covariance of {units.rows:,} latents is that of {units.effective:.1f} directions"
        f" used alike, of {n} that there are."
    )
    charts = [
        {
            "id": "variance",
            "title": "Variance of each unit",
            "words": "How much each unit of the latent differs between rows, largest first;"
            " single units have no meaning of their own, their number does.",
        }
    ]
    if units.is_sphere:
        text += (
            " All latents have the same length, so they lie on a sphere and only their directions"
            " count: a unit's divergence from a normal prior says nothing there and is left out."
        )
    elif units.kl is not None:
        active = int((units.kl > 0.1).sum())
        text += (
            f" {active} of {n} units carry more than 0.1 nat about a row, and all of them"
            f" {units.kl.sum():.1f} nats."
        )
        charts.append(
            {
                "id": "kl",
                "title": "Divergence of each unit",
                "words": "KL divergence from the prior, averaged over rows: a unit near 0 tells"
                " nothing about a row.",
            }
        )
    else:
        text += (
            " What each unit tells about a row needs the posteriors' variances: latents of"
            " kvae encode --with-logvar."
        )
    return {"words": text, "charts": charts}


def histogram_words(i: int, histogram: Histogram) -> dict[str, str]:
    """Caption of a histogram."""
    low, middle, high = (number(q) for q in histogram.quantiles)
    total = sum(histogram.counts)
    return {
        "id": f"histogram-{i}",
        "title": histogram.title,
        "words": f"{total:,} rows: half of them have {middle} {histogram.unit} or less, nine in ten"
        + (f" have {low}." if low == high else f" between {low} and {high}."),
    }


def model_words(found: Findings) -> str:
    """Say how to read the model's graph."""
    return (
        "Boxes are layers, with the numbers that they read and write; the encoder turns a row"
        f" into {found.run.model.n_latent} numbers, the decoder turns these back into a"
        f" composition. {found.n_parameters:,} parameters in all."
    )
