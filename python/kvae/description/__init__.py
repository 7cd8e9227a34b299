"""The k-mer space of a feature file: what varies, what is present, how rows look."""

from __future__ import annotations

from kvae.description.scan import Description, describe

__all__ = ["Description", "describe"]
