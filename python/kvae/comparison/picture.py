"""The comparison as a picture: small multiples of the validation curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from kvae.comparison.outcome import Outcome
from kvae.pictures import save_figure

# Metric, title, its baselines with what they stand for, and whether small
# values matter as much as large ones.
_PANELS: tuple[tuple[str, str, dict[str, str], bool], ...] = (
    ("loss", "loss", {}, False),
    ("KL", "KL, nats", {}, False),
    (
        "gateAcc",
        "gateAcc",
        {"gateAcc_majority": "majority", "gateAcc_per_kmer_majority": "per-k-mer majority"},
        False,
    ),
    ("BCE", "BCE", {"BCE_per_kmer": "per-k-mer rate"}, False),
    ("mse4", "4-mers, MSE", {"mse4_constant": "constant"}, True),
    ("mse3", "3-mers, MSE", {"mse3_constant": "constant"}, True),
    ("mse_gc", "GC, MSE", {"mse_gc_constant": "constant"}, True),
    ("active_units", "active units", {}, False),
)
_GREY = "0.35"
# The first figures may be far off, and would flatten all the rest: so many of the
# epochs may leave the picture.
_UNSETTLED = 0.25
# Where figures differ by more than this factor, the small ones need a logarithm.
_WIDE = 30.0


def draw(paths: Sequence[tuple[Path, str]], outcomes: Sequence[Outcome], title: str) -> None:
    """Draw the figure once and write it to each path in its format."""
    drawn = [outcome for outcome in outcomes if outcome.epochs]
    with mpl.rc_context({"font.size": 10}):
        spacing = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)
        figure = Figure(figsize=(16, 8.4), layout=spacing)
        for axes, panel in zip(figure.subplots(2, 4).flat, _PANELS, strict=True):
            _panel(axes, panel, drawn)
        handles, names = figure.axes[0].get_legend_handles_labels()
        about = f"{title}; a point is the best epoch, dashed lines are baselines"
        figure.suptitle(about, fontsize=11, color=_GREY, parse_math=False)
        figure.legend(
            handles, names, loc="outside lower center", ncols=6, frameon=False, fontsize=11
        )
        for path, kind in paths:
            save_figure(figure, path, kind)


def _panel(
    axes: Any, panel: tuple[str, str, dict[str, str], bool], outcomes: Sequence[Outcome]
) -> None:
    metric, title, baselines, logarithmic = panel
    settled: list[float] = []
    for i, outcome in enumerate(outcomes):
        points = [
            (record["epoch"], record["validation"][metric])
            for record in outcome.epochs
            if metric in record["validation"]
        ]
        colour, style = _look(i)
        x, y = zip(*points, strict=True) if points else ((), ())
        axes.plot(x, y, color=colour, linestyle=style, linewidth=1.8, label=outcome.entry.name)
        best = outcome.best
        if points and best is not None:
            axes.plot(
                best["epoch"], best["validation"][metric], marker="o", color=colour, markersize=6
            )
        first = max(1.0, _UNSETTLED * len(outcome.epochs))
        settled += [value for epoch, value in points if epoch > first] or list(y)
    for key, meaning in baselines.items():
        settled += _baseline(axes, key, meaning, outcomes)
    axes.set_title(title)
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.92")
    if settled:
        low, high = min(settled), max(settled)
        wide = logarithmic or high > _WIDE * low
        _set_limits(axes, low, high, logarithmic=low > 0 and wide)
    else:
        axes.text(0.5, 0.5, "none of these has it", transform=axes.transAxes, ha="center")


def _baseline(axes: Any, key: str, meaning: str, outcomes: Sequence[Outcome]) -> list[float]:
    """Draw a baseline once where all runs share it, else in the colour of each."""
    values = {
        i: outcome.metrics("last")[key]
        for i, outcome in enumerate(outcomes)
        if key in outcome.metrics("last")
    }
    distinct = sorted(set(values.values()))
    # Two baselines of a panel may be close: their names stand at different ends.
    is_plain_majority = key == "gateAcc_majority"
    dashes = (0, (2, 2)) if is_plain_majority else (0, (6, 3))
    for value in distinct:
        owners = [i for i, own in values.items() if own == value]
        colour = _GREY if len(distinct) == 1 else _look(owners[0])[0]
        axes.axhline(value, color=colour, linestyle=dashes, linewidth=1.2)
        axes.annotate(
            meaning,
            (0.02 if is_plain_majority else 1.0, value),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="left" if is_plain_majority else "right",
            fontsize=8.5,
            color=colour,
        )
    return distinct


def _set_limits(axes: Any, low: float, high: float, *, logarithmic: bool) -> None:
    if logarithmic:
        axes.set_yscale("log")
        for ticks in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            ticks(_plain)
        axes.set_ylim(low / 1.15, high * 1.3)
    else:
        margin = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
        axes.set_ylim(low - margin, high + margin)


def _plain(value: float, position: int) -> str:
    """Label 1, 2 and 5 of every decade, without powers of ten."""
    return f"{value:g}" if f"{value:e}"[0] in "125" else ""


def _look(i: int) -> tuple[Any, str]:
    """Colour and line of the i-th configuration: lines differ where colours repeat."""
    return mpl.colormaps["tab10"](i % 10), ("-", "--", ":")[i // 10 % 3]
