"""Places for the nodes of a graph: in layers, with few crossings and straight edges.

The method of Sugiyama, Tagawa and Toda. Nodes stand in layers, each below all it
reads. An edge that spans several layers gets an invisible node in each of those it
passes, so that it has a place of its own there. The order within layers follows the
neighbours' mean position, and the final positions are those closest to the
neighbours' that keep the order and the distances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

from kvae.drawing.nodes import Node

_SWEEPS = 24
# How wide the lane of a passing edge is.
_LANE = 24.0


@dataclass(eq=False)
class Place:
    """Where a node stands, or where an edge passes a layer (without a node)."""

    layer: int
    width: float
    node: Node | None = None
    x: float = 0.0
    above: list[Place] = field(default_factory=list, repr=False)
    below: list[Place] = field(default_factory=list, repr=False)


@dataclass(frozen=True)
class Arrangement:
    """Places by layers, from left to right, and the edges as chains of places."""

    layers: list[list[Place]]
    edges: list[list[Place]]


def arrange(nodes: Sequence[Node], widths: Sequence[float], gap: float) -> Arrangement:
    """Arrange a graph.

    Parameters
    ----------
    nodes
        All nodes, inputs before what reads them.
    widths
        How wide each is drawn.
    gap
        Least distance between neighbours in a layer.
    """
    places: dict[Node, Place] = {}
    for node, width in zip(nodes, widths, strict=True):
        layer = 1 + max((places[source].layer for source in node.inputs), default=-1)
        places[node] = Place(layer, width, node)
    layers: list[list[Place]] = [[] for _ in range(1 + max(p.layer for p in places.values()))]
    for place in places.values():
        layers[place.layer].append(place)
    edges = [_chain(places[s], places[node], layers) for node in nodes for s in node.inputs]
    _order(layers)
    _position(layers, gap)
    return Arrangement(layers, edges)


def _chain(source: Place, target: Place, layers: list[list[Place]]) -> list[Place]:
    """Connect two places by way of every layer between them."""
    passing = [Place(layer, _LANE) for layer in range(source.layer + 1, target.layer)]
    for place in passing:
        layers[place.layer].append(place)
    chain = [source, *passing, target]
    for upper, lower in pairwise(chain):
        upper.below.append(lower)
        lower.above.append(upper)
    return chain


def crossings(layers: Sequence[Sequence[Place]]) -> int:
    """Count the pairs of edges that cross."""
    total = 0
    for upper, lower in pairwise(layers):
        rank = {id(place): i for i, place in enumerate(lower)}
        ends = [[rank[id(end)] for end in place.below] for place in upper]
        total += sum(
            a > b
            for i, left in enumerate(ends)
            for right in ends[i + 1 :]
            for a in left
            for b in right
        )
    return total


def _order(layers: list[list[Place]]) -> None:
    """Order the layers by their neighbours, downwards and upwards in turn; keep the best."""
    best = [list(layer) for layer in layers]
    fewest = crossings(layers)
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        pairs = list(pairwise(layers if down else layers[::-1]))
        for fixed, moving in pairs:
            rank = {id(place): float(i) for i, place in enumerate(fixed)}
            keys = {}
            for i, place in enumerate(moving):
                ends = [rank[id(end)] for end in (place.above if down else place.below)]
                # What has no neighbour there keeps its relative position.
                own = i * len(fixed) / len(moving)
                keys[id(place)] = sum(ends) / len(ends) if ends else own
            moving.sort(key=lambda place: keys[id(place)])
        if (now := crossings(layers)) < fewest:
            fewest, best = now, [list(layer) for layer in layers]
    layers[:] = best


def _position(layers: list[list[Place]], gap: float) -> None:
    """Move every layer towards its neighbours, without changing its order.

    Upwards first, so that the inputs stand above what they meet in; downwards last,
    so that whatever has one input stands straight below it. Medians, not means: one
    far neighbour must not bend a straight line.
    """
    for layer in layers:
        _place(layer, [0.0] * len(layer), gap)
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 1
        for layer in layers if down else reversed(layers):
            near = [place.above if down else place.below for place in layer]
            wanted = [
                median(end.x for end in ends) if ends else place.x
                for place, ends in zip(layer, near, strict=True)
            ]
            _place(layer, wanted, gap)
    left = min(place.x - place.width / 2 for layer in layers for place in layer)
    for layer in layers:
        for place in layer:
            place.x -= left


def _place(layer: list[Place], wanted: list[float], gap: float) -> None:
    """Put places as close to the wanted positions as their distances allow.

    Least squares, exactly: without the distances that must be kept it is the
    closest ascending sequence, which merging neighbours that are out of order
    finds (pool adjacent violators).
    """
    offsets = [0.0]
    for left, right in pairwise(layer):
        offsets.append(offsets[-1] + (left.width + right.width) / 2 + gap)
    pools: list[tuple[float, int]] = []
    for want, offset in zip(wanted, offsets, strict=True):
        total, count = want - offset, 1
        while pools and pools[-1][0] / pools[-1][1] >= total / count:
            before = pools.pop()
            total, count = total + before[0], count + before[1]
        pools.append((total, count))
    found = [total / count for total, count in pools for _ in range(count)]
    for place, x, offset in zip(layer, found, offsets, strict=True):
        place.x = x + offset
