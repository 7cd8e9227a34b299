"""The k-mer space as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from kvae.pictures import save_figure

if TYPE_CHECKING:
    from kvae.description.scan import Description

_BAR = "#4477aa"
_LABELS = {
    "total_variance": "variance of the log-space field",
    "presence_rate": "presence rate",
    "variance_when_present": "variance when present",
    "mean_frequency": "mean frequency",
}


def draw(path: Path, kind: str, described: Description) -> None:
    """Draw presence and variances against each other, their distributions, and GC."""
    kmers = described.kmers
    with mpl.rc_context({"font.size": 10}):
        figure = Figure(figsize=(16, 9), layout="constrained")
        axes: Any = figure.subplots(2, 3)
        points = _scatter(axes[0, 0], kmers, "presence_rate", "total_variance")
        _scatter(axes[0, 1], kmers, "presence_rate", "variance_when_present")
        _by_gc(axes[0, 2], kmers)
        for place, name in zip(axes[1], list(_LABELS)[:3], strict=True):
            _histogram(place, name, kmers[name], described.k)
        figure.colorbar(points, ax=axes[0, 1], label="GC of the k-mer")
        for place in axes.flat:
            place.spines[["top", "right"]].set_visible(False)
        rows = len(described.rows["length"])
        about = f"{len(kmers['kmer']):,} canonical {described.k}-mers in {rows:,} rows of"
        figure.suptitle(f"{about} {described.features.name}", fontsize=12, parse_math=False)
        save_figure(figure, path, kind)


def _scatter(axes: Any, kmers: Any, x: str, y: str) -> Any:
    # Thousands of points: as pixels even in the SVG, which stays small so.
    points = axes.scatter(
        kmers[x], kmers[y], c=kmers["gc"], s=5, alpha=0.6, cmap="viridis", rasterized=True
    )
    axes.set_xlabel(_LABELS[x])
    axes.set_ylabel(_LABELS[y])
    return points


def _by_gc(axes: Any, kmers: Any) -> None:
    shares = np.unique(kmers["gc"])
    groups = [kmers["presence_rate"][kmers["gc"] == share] for share in shares]
    width = 0.6 / len(shares)
    axes.boxplot(
        groups,
        positions=shares,
        widths=width,
        manage_ticks=False,
        patch_artist=True,
        boxprops={"facecolor": "#cfe0f0", "edgecolor": _BAR},
        medianprops={"color": "#bb5500"},
        whiskerprops={"color": _BAR},
        capprops={"color": _BAR},
        flierprops={"marker": ".", "markersize": 3, "markeredgecolor": _BAR},
    )
    axes.set_xlabel("GC of the k-mer")
    axes.set_ylabel(_LABELS["presence_rate"])


def _histogram(axes: Any, name: str, values: Any, k: int) -> None:
    known = values[~np.isnan(values)]
    axes.hist(known, bins=60, color=_BAR)
    if len(known):
        median = float(np.median(known))
        axes.axvline(median, color="#bb5500", linewidth=1.2)
        axes.set_title(f"median {median:.3g}", fontsize=10, color="#bb5500")
    axes.set_xlabel(_LABELS[name])
    axes.set_ylabel(f"{k}-mers")
