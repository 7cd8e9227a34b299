"""``kvae demo``."""

from __future__ import annotations


def demo() -> None:
    """Featurize, train and encode embedded genomes, and say what to try next."""
