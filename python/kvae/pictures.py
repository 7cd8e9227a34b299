"""Figures as files: text stays text, and the same figure gives the same bytes."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

__all__ = ["save_figure"]

_UNDATED = {"Date": None, "Creator": None}


def save_figure(figure: Figure, path: Path, kind: str, dpi: float = 100) -> None:
    """Write a figure to a path, whatever its suffix.

    Parameters
    ----------
    figure
        The figure.
    path
        The file to write.
    kind
        ``svg`` or ``png``.
    dpi
        Pixels per inch; an SVG has none but for what it holds as pixels.
    """
    # The identifiers within an SVG are random otherwise.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "kvae"}):
        figure.savefig(path, format=kind, dpi=dpi, metadata=_UNDATED if kind == "svg" else None)
