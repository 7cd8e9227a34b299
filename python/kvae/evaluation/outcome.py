"""What an evaluation found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kvae.evaluation.scores import Reconstruction
from kvae.evaluation.usefulness import Usefulness

__all__ = ["FORMAT", "LATENT", "Evaluation", "WithinGroups"]

FORMAT = "kvae-evaluation-1"
# The name of the model's own vectors.
LATENT = "latent"


@dataclass(frozen=True)
class WithinGroups:
    """Scores of a label within the groups of another, such as species within a genus.

    Attributes
    ----------
    label, group
        The two labels.
    vectors
        By kind of vector.
    """

    label: str
    group: str
    vectors: Mapping[str, Usefulness]


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    Attributes
    ----------
    facts
        What was evaluated, and how: model, features, rows, seeds, metric and so on.
    reconstruction
        Scores of what the model decodes, beside other predictors.
    usefulness
        By label and kind of vector; the model's is ``latent``. Empty without labels.
    within
        Scores within genera, None without genera that have two species.
    unlabelled
        By label, how many of the rows have none.
    words
        Sentences about the figures: which are at the limit of their noise, and which
        differences are larger than chance.
    """

    facts: Mapping[str, Any]
    reconstruction: Reconstruction
    usefulness: Mapping[str, Mapping[str, Usefulness]]
    within: WithinGroups | None
    unlabelled: Mapping[str, int]
    words: Sequence[str] = ()

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain values, as it stands in ``evaluation.json``."""
        within = self.within
        return {
            "format": FORMAT,
            **self.facts,
            "reconstruction": self.reconstruction.as_dict(),
            "usefulness": {label: _plain(vectors) for label, vectors in self.usefulness.items()},
            "within": None
            if within is None
            else {
                "label": within.label,
                "group": within.group,
                "vectors": _plain(within.vectors),
            },
            "unlabelled": dict(self.unlabelled),
            "words": list(self.words),
        }


def _plain(vectors: Mapping[str, Usefulness]) -> dict[str, Any]:
    return {name: useful.as_dict() for name, useful in vectors.items()}
