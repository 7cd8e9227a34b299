"""An evaluation as tables for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kvae.evaluation.estimates import Estimate
from kvae.evaluation.outcome import Evaluation
from kvae.evaluation.presence import THRESHOLDS
from kvae.evaluation.scores import Nats
from kvae.evaluation.usefulness import Usefulness

__all__ = ["Section", "as_markdown", "sections"]

# Columns of the short table, which a terminal has room for.
_SHORT = {
    "knn5": "5-NN",
    "recall@1": "R@1",
    "recall@10": "R@10",
    "kmeans_ari": "ARI",
    "kmeans_nmi": "NMI",
    "kmeans_f1": "F1",
    "kmeans_bp_f1": "bp F1",
    "hdbscan_clusters": "clusters",
    "hdbscan_clustered": "in them",
    "hdbscan_ari": "their ARI",
}


@dataclass(frozen=True)
class Section:
    """A table: a line per predictor or kind of vector, a column per figure."""

    title: str
    header: list[str]
    lines: list[list[str]]


def sections(evaluation: Evaluation, *, full: bool = False) -> list[Section]:
    """Tables of reconstruction, then of usefulness by label.

    Parameters
    ----------
    evaluation
        What was found.
    full
        Every figure, with its spread over seeds; otherwise those that a terminal has
        room for.
    """
    made = [_profiles(evaluation, full), _presence(evaluation), _errors(evaluation)]
    for label, vectors in evaluation.usefulness.items():
        made.append(_useful(label, vectors, full))
        if full:
            made += _by_length(label, vectors)
    within = evaluation.within
    if within is not None:
        made.append(_useful(f"{within.label} within {within.group}", within.vectors, full))
    return made


def as_markdown(evaluation: Evaluation) -> str:
    """Write everything as Markdown: first in words, then in tables."""
    words = "\n".join(f"- {sentence}" for sentence in evaluation.words)
    parts = ["# Evaluation", describe(evaluation), words]
    for section in sections(evaluation, full=True):
        rule = ["---", *("---:" for _ in section.header[1:])]
        rows = [section.header, rule, *section.lines]
        table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        parts += [f"## {section.title[0].upper()}{section.title[1:]}", table]
    return "\n\n".join(part for part in parts if part) + "\n"


def describe(evaluation: Evaluation) -> str:
    """Say in a sentence or two what was evaluated."""
    facts = evaluation.facts
    learned = (
        "the reference rows"
        if evaluation.reconstruction.learned_from == "reference"
        else "the evaluated rows themselves"
    )
    text = (
        f"`{facts['model']}` on {facts['rows']:,} of {facts['of_rows']:,} rows of"
        f" `{facts['features']}` ({facts['sources']:,} files). What baselines learn, they learn"
        f" from {learned}."
    )
    missing = {label: n for label, n in evaluation.unlabelled.items() if n}
    if missing:
        counts = ", ".join(f"{n:,} by {label}" for label, n in missing.items())
        text += f" Rows left out for lack of a label: {counts}."
    return text


def _profiles(evaluation: Evaluation, full: bool) -> Section:
    scores = evaluation.reconstruction.profiles
    has_cross = any(score.cross is not None for score in scores.values())
    header = ["nats per k-mer", "own row"]
    if has_cross:
        header += ["other half", "less the model's"]
    header += [f"present > {t:g}" for t in THRESHOLDS.values()]
    if full:
        header += [f"BCE {t:g}" for t in THRESHOLDS.values()]
        header += [f"expected {t:g}" for t in THRESHOLDS.values()]
    lines = []
    for name, score in scores.items():
        line = [name, _nats(score.own)]
        if has_cross:
            line += ["", ""] if score.cross is None else [_nats(score.cross), _less(score.cross)]
        presence = [score.presence[key] for key in THRESHOLDS]
        line += [f"{p.accuracy:.2%}" for p in presence]
        if full:
            line += [f"{p.bce:.4f}" for p in presence]
            line += [f"{p.expected_accuracy:.2%}" for p in presence]
        lines.append(line)
    return Section("reconstruction of 7-mers", header, lines)


def _nats(nats: Nats) -> str:
    return f"{nats.mean:.4f} ± {nats.error:.4f}"


def _less(nats: Nats) -> str:
    value, error = nats.minus_model
    return "" if error == 0.0 and value == 0.0 else f"{value:+.4f} ± {error:.4f}"


def _presence(evaluation: Evaluation) -> Section:
    found = evaluation.reconstruction
    lines = []
    for key, threshold in THRESHOLDS.items():
        for title, score in (
            ("majority", found.majority[key]),
            ("per-k-mer majority", found.kmer_majority[key]),
        ):
            lines.append([f"> {threshold:g}, {title}", f"{score.accuracy:.2%}", f"{score.bce:.4f}"])
    if found.gate is not None:
        lines.append(
            [
                f"> {found.gate_threshold:g}, the model's own gate",
                f"{found.gate.accuracy:.2%}",
                f"{found.gate.bce:.4f}",
            ]
        )
    return Section("presence without a profile", ["presence", "accuracy", "BCE"], lines)


def _errors(evaluation: Evaluation) -> Section:
    lines = [
        [
            name,
            f"{mse['model']:.4g}",
            f"{mse['constant']:.4g}",
            f"{mse['noise']:.4g}",
            _explained(mse),
        ]
        for name, mse in evaluation.reconstruction.mse.items()
    ]
    header = ["MSE of logarithms", "model", "constant", "noise", "explained"]
    return Section("squared errors", header, lines)


def _explained(mse: Mapping[str, float]) -> str:
    """Share of what there is to explain, noise being none of it."""
    there_is = mse["constant"] - mse["noise"]
    return f"{(mse['constant'] - mse['model']) / there_is:.1%}" if there_is > 0 else ""


def _useful(label: str, vectors: Mapping[str, Usefulness], full: bool) -> Section:
    first = next(iter(vectors.values()))
    title = f"{label}: {first.labels:,} labels, {first.rows:,} rows"
    found = dict.fromkeys(name for v in vectors.values() for name in v.scores)
    names = list(found) if full else [name for name in _SHORT if name in found]
    header = ["vectors", *(name if full else _SHORT[name] for name in names)]
    lines = [
        [name, *(_estimate(key, useful.scores.get(key), full) for key in names)]
        for name, useful in vectors.items()
    ]
    return Section(title, header, lines)


def _by_length(label: str, vectors: Mapping[str, Usefulness]) -> list[Section]:
    made = []
    bins = dict.fromkeys(name for v in vectors.values() for name in v.by_length)
    for name in bins:
        lines = []
        about: Mapping[str, Estimate] = {}
        for kind, useful in vectors.items():
            about = useful.by_length.get(name, about)
            values = [about.get("knn5"), about.get("kmeans_ari")]
            lines.append([kind, *(_estimate("", value, True) for value in values)])
        n_labels, n_rows = about["labels"].mean, about["rows"].mean
        title = f"{label}, {name}: {n_labels:,.0f} labels, {n_rows:,.0f} rows"
        made.append(Section(title, ["vectors", "knn5", "kmeans_ari"], lines))
    return made


def _estimate(name: str, value: Estimate | None, full: bool) -> str:
    if value is None:
        return ""
    if name.endswith("_clusters"):
        return f"{value.mean:,.0f}"
    spread = value.sd
    return f"{value.mean:.3f}" + (f" ± {spread:.3f}" if full and spread is not None else "")
