"""Nearest rows of a query among the latents of a file or an index."""

from __future__ import annotations

from kvae.searching.indexing import LatentIndex, index
from kvae.searching.run import Hits, search

__all__ = ["Hits", "LatentIndex", "index", "search"]
