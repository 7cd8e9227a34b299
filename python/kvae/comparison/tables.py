"""The comparison as tables: for programs (TSV, JSON) and for people (Markdown)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kvae.comparison.outcome import Outcome, Value, metric_names

_EPOCHS: tuple[Literal["last", "best"], ...] = ("last", "best")


def as_tsv(outcomes: Sequence[Outcome]) -> str:
    """One line per configuration, every number in full, nothing where there is none."""
    names = metric_names(outcomes)
    header = [*outcomes[0].facts(), *(f"{epoch}_{name}" for epoch in _EPOCHS for name in names)]
    lines = ["\t".join(header)]
    for outcome in outcomes:
        values: list[Value] = list(outcome.facts().values())
        for epoch in _EPOCHS:
            values += [outcome.metrics(epoch).get(name) for name in names]
        lines.append("\t".join("" if value is None else str(value) for value in values))
    return "\n".join(lines) + "\n"


def as_json(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """One object per configuration, which is in it as a whole."""
    return [
        {
            **outcome.facts(),
            "problem": outcome.problem,
            "config": outcome.entry.config.model_dump(mode="json"),
            **{epoch: dict(outcome.metrics(epoch)) for epoch in _EPOCHS},
        }
        for outcome in outcomes
    ]


@dataclass(frozen=True)
class Section:
    """A table for people: a line per figure, a column per configuration."""

    title: str
    header: list[str]
    lines: list[list[str]]


def sections(outcomes: Sequence[Outcome]) -> list[Section]:
    """Facts, then the validation figures of the last and the best epoch.

    Figures that no configuration has are left out, and the best epochs where they
    are the last ones.
    """
    header = ["", *(outcome.entry.name for outcome in outcomes)]
    facts = [outcome.facts() for outcome in outcomes]
    lines = [_line(key, facts) for key in facts[0] if key != "name"]
    made = [Section("configurations", header, lines)]
    is_same = all(outcome.last == outcome.best for outcome in outcomes)
    for epoch in _EPOCHS[:1] if is_same else _EPOCHS:
        metrics = [outcome.metrics(epoch) for outcome in outcomes]
        known = [name for name in metric_names(outcomes) if any(name in m for m in metrics)]
        title = "validation, last epoch (the best)" if is_same else f"validation, {epoch} epoch"
        made.append(Section(title, header, [_line(name, metrics) for name in known]))
    return made


def _line(name: str, values: Sequence[Mapping[str, Value]]) -> list[str]:
    return [name, *(_text(name, value.get(name)) for value in values)]


def as_markdown(outcomes: Sequence[Outcome], about: str) -> str:
    """Write the sections as Markdown, below a line that says what they are about."""
    parts = ["# Comparison", about]
    for section in sections(outcomes):
        rule = ["---", *("---:" for _ in section.header[1:])]
        rows = [section.header, rule, *section.lines]
        table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        parts += [f"## {section.title.capitalize()}", table]
    parts += [f"`{o.entry.name}` failed: {o.problem}" for o in outcomes if o.problem]
    return "\n\n".join(parts) + "\n"


def _text(name: str, value: Value) -> str:
    """Write a figure for people, in four digits; accuracies in percent."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    if "Acc" in name:
        return f"{value:.2%}"
    if name == "seconds" or (value.is_integer() and abs(value) < 1e6):
        return f"{value:,.0f}"
    return f"{value:.4g}"
