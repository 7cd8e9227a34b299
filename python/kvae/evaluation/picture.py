"""An evaluation as a picture: nats, presence, and what the vectors are good for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from kvae.evaluation.outcome import LATENT, Evaluation
from kvae.evaluation.presence import THRESHOLDS
from kvae.evaluation.reconstruction import GATE, MODEL, REFINED, TILTED
from kvae.evaluation.scores import Reconstruction
from kvae.evaluation.usefulness import Usefulness
from kvae.labels import SOURCE
from kvae.pictures import save_figure

__all__ = ["draw"]

_OURS, _THEIRS, _GREY = "#c44e52", "#4c72b0", "0.35"
_SHADES = ("#9ecae1", "#4292c6", "#08519c")
# More kinds of labels do not fit beside each other.
_LABELS = 3


def draw(paths: Sequence[tuple[Path, str]], evaluation: Evaluation, title: str) -> None:
    """Draw the figure once and write it to each path in its format."""
    shown = _shown(evaluation)
    with mpl.rc_context({"font.size": 9}):
        spacing = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)
        n = 2 + len(shown)
        figure = Figure(figsize=(5.2 * n, 5.6), layout=spacing)
        axes = figure.subplots(1, n)
        _nats(axes[0], evaluation.reconstruction)
        _presence(axes[1], evaluation.reconstruction)
        for i, (panel, (label, vectors)) in enumerate(zip(axes[2:], shown, strict=True)):
            _useful(panel, label, vectors)
            # All panels of vectors have the same ones.
            panel.tick_params(labelleft=i == 0)
        figure.suptitle(title, fontsize=10, color=_GREY, parse_math=False)
        for path, kind in paths:
            save_figure(figure, path, kind)


def _shown(evaluation: Evaluation) -> list[tuple[str, Mapping[str, Usefulness]]]:
    """Labels that there is room for: files give way to what the user labelled."""
    found = dict(evaluation.usefulness)
    within = evaluation.within
    room = _LABELS if within is None else _LABELS - 1
    if len(found) > room:
        found.pop(SOURCE, None)
    shown = list(found.items())[:room]
    if within is not None:
        shown.append((f"{within.label} within {within.group}", within.vectors))
    return shown


def _nats(axes: Any, scores: Reconstruction) -> None:
    names = [name for name in scores.profiles if name not in ("uniform", "mean")]
    for i, name in enumerate(names):
        score = scores.profiles[name]
        colour = _OURS if name in (MODEL, GATE, TILTED, REFINED) else _THEIRS
        hollow = {"markerfacecolor": "white", "markeredgecolor": colour}
        axes.plot(score.own.mean, i, "o", markersize=6, **hollow)
        if score.cross is not None:
            # What differs between genomes is the same for all predictors.
            error = score.cross.minus_model[1]
            axes.errorbar(score.cross.mean, i, xerr=error, fmt="o", color=colour)
    _name_lines(axes, names)
    axes.set_title("nats per k-mer: ● other half, ○ own row")
    axes.set_xlabel("less is better; bars: error of the difference to the model")


def _presence(axes: Any, scores: Reconstruction) -> None:
    names = list(scores.profiles)
    for (key, threshold), colour in zip(THRESHOLDS.items(), _SHADES, strict=True):
        values = [scores.profiles[name].presence[key].accuracy for name in names]
        axes.plot(values, range(len(names)), "o", color=colour, label=f"> {threshold:g}")
        majority = scores.majority[key].accuracy
        axes.axvline(majority, color=colour, linestyle=(0, (4, 3)), linewidth=1)
    _name_lines(axes, names)
    axes.set_title("accuracy of presence")
    axes.set_xlabel("dashed: majority class")
    axes.legend(frameon=False, fontsize=8)


def _useful(axes: Any, label: str, vectors: Mapping[str, Usefulness]) -> None:
    names = list(vectors)
    for i, name in enumerate(names):
        colour = _OURS if name == LATENT else _THEIRS
        scores = vectors[name].scores
        if "knn5" in scores:
            axes.plot(scores["knn5"].mean, i, "D", color=colour, markersize=5)
        ari = scores["kmeans_ari"]
        axes.errorbar(ari.mean, i, xerr=ari.sd or 0.0, fmt="o", color=colour)
    _name_lines(axes, names)
    axes.set_xlim(-0.05, 1.05)
    axes.set_title(label, parse_math=False)
    axes.set_xlabel("◆ 5-NN accuracy, ● ARI of k-means")


def _name_lines(axes: Any, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color="0.92")
