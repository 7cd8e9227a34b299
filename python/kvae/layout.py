"""The feature layout, as the Rust extension defines it.

Nothing here knows a width or an order: every number comes from the extension
or from the metadata of a file.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from kvae import _core

__all__ = ["Block", "Layout", "default_layout", "kmers"]


@dataclass(frozen=True)
class Block:
    """Consecutive fields of a row that belong together.

    Attributes
    ----------
    name
        ``"length"``, ``"gc"`` or, for instance, ``"7-mers"``.
    k
        k of a k-mer block, else None.
    start, stop
        The fields, half-open.
    """

    name: str
    k: int | None
    start: int
    stop: int

    @property
    def size(self) -> int:
        """Number of fields."""
        return self.stop - self.start

    @property
    def slice(self) -> slice:
        """The fields as a slice of a row."""
        return slice(self.start, self.stop)


@dataclass(frozen=True)
class Layout:
    """What each field of a row means.

    Attributes
    ----------
    blocks
        The blocks in the order of their fields.
    fingerprint
        Equal exactly where rows mean the same.
    pseudocount
        Added to frequencies before the logarithm.
    """

    blocks: tuple[Block, ...]
    fingerprint: str
    pseudocount: float

    @classmethod
    def from_ks(cls, ks: Sequence[int]) -> Layout:
        """Make the layout with blocks of these k, in any order."""
        return cls.from_dict(json.loads(_core.layout(list(ks))))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Layout:
        """Read a layout as it stands in the metadata of files."""
        blocks = tuple(Block(**block) for block in data["blocks"])
        return cls(blocks, str(data["fingerprint"]), float(data["pseudocount"]))

    @property
    def n_fields(self) -> int:
        """Number of fields in a row."""
        return self.blocks[-1].stop

    @property
    def ks(self) -> tuple[int, ...]:
        """The k of the k-mer blocks, in the order of their fields."""
        return tuple(block.k for block in self.blocks if block.k is not None)

    @property
    def target(self) -> slice:
        """The fields that a model reconstructs: all from the first k-mer to GC."""
        return slice(self.blocks[0].stop, self.block("gc").stop)

    def block(self, name: str) -> Block:
        """Find a block by its name.

        Raises
        ------
        KeyError
            If the layout has no such block.
        """
        for block in self.blocks:
            if block.name == name:
                return block
        raise KeyError(name)

    def kmers(self, k: int) -> list[str]:
        """List the canonical k-mers of a block, in the order of its fields."""
        return kmers(k)


@cache
def default_layout() -> Layout:
    """Return the layout of the 7-, 4- and 3-mers."""
    return Layout.from_ks((7, 4, 3))


def kmers(k: int) -> list[str]:
    """List the canonical k-mers, ``1 <= k <= 8``, in lexicographic order."""
    text = _core.kmers(k)
    return [text[start : start + k] for start in range(0, len(text), k)]
