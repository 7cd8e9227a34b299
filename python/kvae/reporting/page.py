"""A report as one HTML file."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from kvae._core import __version__
from kvae.reporting import sections, words
from kvae.reporting.findings import Findings
from kvae.reporting.payload import chart_data, embedded

__all__ = ["render"]

_SECTIONS = (
    ("map", "Map"),
    ("run", "Run"),
    ("training", "Training"),
    ("presence", "Presence"),
    ("usefulness", "Usefulness"),
    ("units", "Units"),
    ("rows", "Rows"),
    ("model", "Model"),
)


def render(found: Findings) -> str:
    """Write the page; the same findings give the same text."""
    script = _file("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    run = found.run
    return _template().render(
        title=found.title,
        version=__version__,
        sections=_SECTIONS,
        style=Markup(_file("report.css")),
        script=Markup(script),
        script_hash=f"sha256-{digest}",
        data=Markup(embedded(chart_data(found))),
        graph=Markup(found.graph),
        lead=words.lead(run, found.n_parameters),
        glance=sections.glance(found),
        facts=words.facts(run, found.n_parameters, found.fingerprint),
        command=words.command(run),
        map=sections.map_words(found),
        curves=found.curves,
        training_words=sections.training_words(run),
        best_epoch=run.epochs[run.best or 0]["epoch"] if run.epochs else 0,
        best_table=sections.best_table(found),
        gate=found.gate,
        presence_words=sections.presence_words(found),
        calibration=sections.calibration_words(found.calibration),
        scores=sections.scores_words(found),
        units=sections.units_words(found),
        histograms=[sections.histogram_words(i, h) for i, h in enumerate(found.histograms)],
        model_words=sections.model_words(found),
        missing={name: _marked(text) for name, text in found.missing.items()},
    )


@cache
def _file(name: str) -> str:
    return (files("kvae.reporting") / "page" / name).read_text(encoding="utf-8").strip()


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=False, keep_trailing_newline=True
    )
    return environment.from_string(_file("report.html") + "\n")


def _marked(text: str) -> Markup:
    """Set what stands between backticks as code."""
    parts = text.split("`")
    made = [
        Markup("<code>{}</code>").format(p) if i % 2 else Markup.escape(p)
        for i, p in enumerate(parts)
    ]
    return Markup("").join(made)
