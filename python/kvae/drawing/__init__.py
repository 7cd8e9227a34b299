"""Models as graphs: what a model is made of, read from the model itself."""

from __future__ import annotations

from kvae.drawing.graphing import graph
from kvae.drawing.nodes import ModelGraph, Node

__all__ = ["ModelGraph", "Node", "graph"]
