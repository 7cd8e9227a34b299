"""A model's graph as a picture, SVG and PNG from the same drawing."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from pathlib import Path as FilePath
from typing import Any

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyBboxPatch, PathPatch, Polygon, Rectangle
from matplotlib.path import Path
from matplotlib.textpath import TextPath

from kvae.drawing.layered import Place, arrange
from kvae.drawing.nodes import ModelGraph, Node
from kvae.pictures import save_figure

# Pixels at normal zoom.
_TEXT, _LINE, _PADDING = 12.0, 16.0, 10.0
_GAP, _LAYER_GAP, _MARGIN = 22.0, 34.0, 28.0
_TITLE, _TITLE_SIZE = 40.0, 16.0
_DPI = 100.0
_LABEL = 26.0

# Fill and edge. Blocks of k-mers take theirs in turn, from the longest k-mers on.
_BLOCKS = (
    ("#dbe9f9", "#3b73b9"),
    ("#dff1dc", "#3f8f45"),
    ("#fdebd3", "#c77a1c"),
    ("#fbe1ea", "#b8447a"),
    ("#dff3f3", "#2a8a8c"),
)
_GATE = ("#fbdedb", "#c0453b")
_LATENT = ("#e8e0f5", "#7350ad")
_PLAIN = ("#eef0f2", "#66707a")
_INK, _EDGE, _BAND = "#1d2430", "#8a94a0", "#f7f8fa"


def draw(graph: ModelGraph, path: FilePath, kind: str) -> None:
    """Draw a graph.

    Parameters
    ----------
    graph
        The graph.
    path
        The file to write.
    kind
        ``svg`` or ``png``.
    """
    texts = {node: _lines(node) for node in graph.nodes if node.width}
    nodes = list(texts)
    # All boxes as wide as the widest: what belongs together stands in straight columns.
    width = 2 * _PADDING + max(
        _measure(line, i == 0) for lines in texts.values() for i, line in enumerate(lines)
    )
    arrangement = arrange(nodes, [width] * len(nodes), _GAP)
    layers = arrangement.layers
    heights = [
        max(_LINE * len(texts[p.node]) + _PADDING for p in layer if p.node) for layer in layers
    ]
    header = [f"{graph.n_parameters:,} parameters", *graph.settings]
    middles, y = [], _TITLE + _LINE * len(header) + _MARGIN
    for height in heights:
        middles.append(y + height / 2)
        y += height + _LAYER_GAP
    right = max(place.x + place.width / 2 for layer in layers for place in layer)
    needed = [_TITLE_SIZE / _TEXT * _measure(graph.title, bold=True), *map(_measure, header)]
    size = (
        max(right + _LABEL + 2 * _MARGIN, max(needed) + 2 * _MARGIN),
        y - _LAYER_GAP + _MARGIN,
    )
    canvas = _Canvas(*size)
    for name, first, last in _bands(layers):
        top = middles[first] - heights[first] / 2 - _LAYER_GAP / 3
        bottom = middles[last] + heights[last] / 2 + _LAYER_GAP / 3
        canvas.band(_MARGIN / 2, top, size[0] - _MARGIN, bottom - top, name)
    canvas.header(graph.title, header)
    corner = _MARGIN + _LABEL
    for chain in arrangement.edges:
        canvas.edge(_route(chain, corner, middles, heights, texts))
    for layer, middle in zip(layers, middles, strict=True):
        for place in layer:
            if place.node:
                colours = _colours(place.node, graph.blocks)
                canvas.box(corner + place.x, middle, place.width, texts[place.node], colours)
    canvas.save(path, kind)


def _lines(node: Node) -> list[str]:
    """Write what a box says: name, what it does, widths and parameters."""
    lines = [line for line in (node.name, node.what) if line]
    width = f"{node.width:,}" if node.n_in is None else f"{node.n_in:,} → {node.width:,}"
    lines.append(width)
    if node.n_parameters:
        lines.append(f"{node.n_parameters:,} parameters")
    return lines


@cache
def _measure(text: str, bold: bool = False) -> float:
    font = FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")
    return float(TextPath((0, 0), text, size=_TEXT, prop=font).get_extents().width)


def _colours(node: Node, blocks: tuple[str, ...]) -> tuple[str, str]:
    parts = node.path.split(".")
    if "gate" in parts or "gate_readout" in parts:
        return _GATE
    for name, colours in zip(blocks, _BLOCKS * len(blocks), strict=False):
        if name in parts or node.name.startswith(name):
            return colours
    if "sparse" in parts:
        return _BLOCKS[0]
    is_latent = node.what == "sample" or (parts[0] == "encoder" and "shared" not in parts)
    return _LATENT if is_latent else _PLAIN


def _bands(layers: list[list[Place]]) -> list[tuple[str, int, int]]:
    """Find the layers of the encoder and of the decoder, which ends above the output."""
    own = {
        part: [
            i
            for i, layer in enumerate(layers)
            for place in layer
            if place.node and place.node.path.startswith(f"{part}.")
        ]
        for part in ("encoder", "decoder")
    }
    first, last = min(own["decoder"]), max(*own["decoder"], len(layers) - 2)
    return [("encoder", min(own["encoder"]), max(own["encoder"])), ("decoder", first, last)]


def _route(
    chain: list[Place],
    corner: float,
    middles: list[float],
    heights: list[float],
    texts: dict[Node, list[str]],
) -> list[tuple[float, float, float, float]]:
    """Pieces of an edge from one layer to the next: where each starts and ends.

    Arrows end side by side on a box, in the order in which they come.
    """
    pieces = []
    for upper, lower in pairwise(chain):
        y1 = middles[upper.layer] + (_half(upper, texts) or heights[upper.layer] / 2)
        y2 = middles[lower.layer] - (_half(lower, texts) or heights[lower.layer] / 2)
        x2 = lower.x
        if lower.node:
            rank = sorted(lower.above, key=lambda place: place.x).index(upper)
            step = min(16.0, lower.width / (len(lower.above) + 1))
            x2 += (rank - (len(lower.above) - 1) / 2) * step
        pieces.append((corner + upper.x, y1, corner + x2, y2))
    return pieces


def _half(place: Place, texts: dict[Node, list[str]]) -> float | None:
    return (_LINE * len(texts[place.node]) + _PADDING) / 2 if place.node else None


class _Canvas:
    """A figure with one unit per pixel, the origin at the upper left."""

    def __init__(self, width: float, height: float) -> None:
        self._figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
        self._axes: Any = self._figure.add_axes((0, 0, 1, 1))
        self._axes.set_xlim(0, width)
        self._axes.set_ylim(height, 0)
        self._axes.axis("off")

    def header(self, title: str, lines: list[str]) -> None:
        y = _TITLE / 2 + 4
        self._text(_MARGIN, y, title, size=_TITLE_SIZE, bold=True, align="left")
        for i, line in enumerate(lines):
            self._text(_MARGIN, _TITLE + (i + 0.5) * _LINE, line, align="left")

    def band(self, x: float, y: float, width: float, height: float, name: str) -> None:
        self._axes.add_patch(Rectangle((x, y), width, height, facecolor=_BAND, edgecolor="none"))
        self._text(x + 14, y + height / 2, name, colour=_EDGE, size=14, rotation=90)

    def box(
        self, x: float, y: float, width: float, lines: list[str], colours: tuple[str, str]
    ) -> None:
        height = _LINE * len(lines) + _PADDING
        fill, edge = colours
        style = "round,pad=0,rounding_size=6"
        corner = (x - width / 2, y - height / 2)
        self._axes.add_patch(
            FancyBboxPatch(
                corner, width, height, boxstyle=style, facecolor=fill, edgecolor=edge, linewidth=1.1
            )
        )
        for i, line in enumerate(lines):
            at = y + (i - (len(lines) - 1) / 2) * _LINE
            self._text(x, at, line, bold=i == 0)

    def edge(self, pieces: list[tuple[float, float, float, float]]) -> None:
        """Draw a curve through all pieces, straight where it passes a layer."""
        points, codes = [pieces[0][:2]], [Path.MOVETO]
        for x1, y1, x2, y2 in pieces:
            if points[-1] != (x1, y1):
                points.append((x1, y1))
                codes.append(Path.LINETO)
            bend = (y2 - y1) / 2
            points += [(x1, y1 + bend), (x2, y2 - bend), (x2, y2)]
            codes += [Path.CURVE4] * 3
        curve = Path(points, codes)
        self._axes.add_patch(PathPatch(curve, facecolor="none", edgecolor=_EDGE, linewidth=1.2))
        x, y = points[-1]
        head = [(x, y), (x - 4, y - 8), (x + 4, y - 8)]
        self._axes.add_patch(Polygon(head, facecolor=_EDGE, edgecolor="none"))

    def save(self, path: FilePath, kind: str) -> None:
        # Twice as many pixels as needed, to be read when it is enlarged.
        save_figure(self._figure, path, kind, 2 * _DPI)

    def _text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = _TEXT,
        bold: bool = False,
        align: str = "center",
        colour: str = _INK,
        rotation: float = 0,
    ) -> None:
        self._axes.text(
            x,
            y,
            text,
            # Points: there are 72 in an inch.
            fontsize=size * 72 / _DPI,
            fontweight="bold" if bold else "normal",
            # matplotlib brings the first; viewers without it take their own, which are
            # no wider.
            fontfamily=["DejaVu Sans", "sans-serif"],
            horizontalalignment=align,
            verticalalignment="center",
            color=colour,
            rotation=rotation,
            parse_math=False,
        )
