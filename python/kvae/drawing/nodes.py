"""The graph of a model: blocks and what flows between them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass
class Node:
    """A block of a model, or an operation that joins blocks.

    Attributes
    ----------
    name
        What it is called in the model: ``7-mers``, ``shared``, ``7-mers gate``.
    what
        What it does: ``Linear + BN + LReLU``, ``concatenation``.
    path
        Dotted name of the module, empty for operations.
    width
        Numbers that it writes per row.
    n_in
        Numbers that it reads per row, None for operations.
    n_parameters
        Parameters and running statistics.
    inputs
        Nodes whose output it reads, in the order of reading.
    """

    name: str
    what: str
    path: str = ""
    width: int = 0
    n_in: int | None = None
    n_parameters: int = 0
    inputs: list[Node] = field(default_factory=list)

    # Nodes are places in a graph: two that look the same are not the same.
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


@dataclass(frozen=True)
class ModelGraph:
    """A model as a graph.

    Attributes
    ----------
    title, settings
        Which model it is, and what was changed of it, as ``key=value``.
    nodes
        In the order of computation: inputs come before what reads them.
    blocks
        Names of the k-mer blocks, the longest k-mers first.
    n_parameters
        Of the whole model, the sum of the nodes'.
    """

    title: str
    settings: tuple[str, ...]
    nodes: tuple[Node, ...]
    blocks: tuple[str, ...]
    n_parameters: int

    def table(self) -> list[tuple[str, str, int, int]]:
        """Name, kind, output width and parameters of every node."""
        return [(node.name, node.what, node.width, node.n_parameters) for node in self.nodes]


def reachable(ends: Iterable[Node]) -> list[Node]:
    """Nodes that the given ones depend on, themselves included, inputs first."""
    found: dict[Node, None] = {}

    def visit(node: Node) -> None:
        if node not in found:
            for source in node.inputs:
                visit(source)
            found[node] = None

    for node in ends:
        visit(node)
    return list(found)
