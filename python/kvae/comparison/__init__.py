"""Several configurations trained on the same rows, side by side."""

from __future__ import annotations

from kvae.comparison.run import Comparison, ComparisonInterrupted, compare

__all__ = ["Comparison", "ComparisonInterrupted", "compare"]
