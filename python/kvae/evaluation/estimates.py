"""Figures that were found once, or several times with other random numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Estimate", "pooled_scores"]


@dataclass(frozen=True)
class Estimate:
    """A figure and how much chance is in it.

    Attributes
    ----------
    values
        One per seed; a single one where nothing is random.
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return math.fsum(self.values) / len(self.values)

    @property
    def sd(self) -> float | None:
        """Standard deviation over seeds, None where there is one value."""
        n = len(self.values)
        if n < 2:
            return None
        return math.sqrt(math.fsum((v - self.mean) ** 2 for v in self.values) / (n - 1))

    def as_dict(self) -> dict[str, Any]:
        """Mean, standard deviation and number of values."""
        return {"mean": self.mean, "sd": self.sd, "n": len(self.values)}


def pooled_scores(
    parts: Sequence[Mapping[str, Estimate]], weights: Iterable[float] | None = None
) -> dict[str, Estimate]:
    """Put the values of several runs of the same thing together.

    Parameters
    ----------
    parts
        Figures by name; a name that a part lacks is taken from the others.
    weights
        Where given, values are averaged over the parts with these weights, seed by
        seed, instead of standing side by side.
    """
    names = dict.fromkeys(name for part in parts for name in part)
    if weights is None:
        return {
            name: Estimate(tuple(v for p in parts if name in p for v in p[name].values))
            for name in names
        }
    weighted = list(zip(parts, weights, strict=True))
    found = {}
    for name in names:
        known = [(part[name].values, weight) for part, weight in weighted if name in part]
        n = max(len(values) for values, _ in known)
        total = math.fsum(weight for _, weight in known)
        found[name] = Estimate(
            tuple(
                math.fsum(values[i % len(values)] * weight for values, weight in known) / total
                for i in range(n)
            )
        )
    return found
