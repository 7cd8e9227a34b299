"""Models as graphs: what a model is made of, read from the model itself."""

from __future__ import annotations

from kvae.drawing.graphing import draw_config, graph
from kvae.drawing.nodes import ModelGraph, Node

__all__ = ["ModelGraph", "Node", "draw_config", "graph"]
