"""The picture of the demo."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def draw(
    path: Path,
    latents: Matrix,
    fourmers: Matrix,
    labels: NDArray[np.int32],
    names: list[str],
    metrics: Path,
) -> None:
    """Draw both spaces by their first two principal components, and the training."""
    figure = Figure(figsize=(13.5, 5), layout="constrained")
    axes: Any = figure.subplots(1, 3)
    _scatter(axes[0], "latent space", latents, labels, names)
    _scatter(axes[1], "4-mers, z-scored", fourmers, labels, names)
    _curves(axes[2], metrics)
    handles, texts = axes[0].get_legend_handles_labels()
    figure.legend(
        handles, texts, loc="outside lower center", ncols=5, frameon=False, markerscale=2.5
    )
    figure.savefig(path, dpi=150)


def principal_components(vectors: Matrix, n: int = 2) -> tuple[Matrix, Matrix]:
    """Project on the directions of largest variance, and tell its shares."""
    centred = vectors - vectors.mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    return left[:, :n] * values[:n], (values**2 / (values**2).sum())[:n]


def _scatter(
    axes: Any, title: str, vectors: Matrix, labels: NDArray[np.int32], names: list[str]
) -> None:
    points, shares = principal_components(vectors)
    colours = mpl.colormaps["tab20"]
    for label, name in enumerate(names):
        here = labels == label
        axes.scatter(
            points[here, 0], points[here, 1], s=7, color=colours(label % 20), label=name, alpha=0.8
        )
    axes.set_title(title)
    axes.set_xlabel(f"PC 1 ({shares[0]:.0%} of the variance)")
    axes.set_ylabel(f"PC 2 ({shares[1]:.0%})")
    axes.set_xticks([])
    axes.set_yticks([])


def _curves(axes: Any, metrics: Path) -> None:
    epochs = [json.loads(line) for line in metrics.read_text().splitlines()]
    x = [epoch["epoch"] for epoch in epochs]
    training = [epoch["train"]["loss"] for epoch in epochs]
    validation = [epoch["validation"]["loss"] for epoch in epochs]
    best = min(range(len(x)), key=validation.__getitem__)
    axes.plot(x, training, label="training")
    axes.plot(x, validation, label="validation (a genome left out)")
    axes.plot(x[best], validation[best], "o", color="C1", label="kept")
    # The first validation can be far off and would flatten all the rest.
    shown = training + validation[1:] + [validation[best]]
    margin = 0.05 * (max(shown) - min(shown))
    axes.set_ylim(min(shown) - margin, max(shown) + 4 * margin)
    axes.set_title("loss")
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
