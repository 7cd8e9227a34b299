"""What was found out about a run, before it is written down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kvae.reporting.attributes import Category, Quantity
from kvae.reporting.calibration import Calibration
from kvae.reporting.curves import Curve
from kvae.reporting.dimensions import Dimensions
from kvae.reporting.embedding import LatentMap
from kvae.reporting.histograms import Histogram
from kvae.reporting.points import Points
from kvae.reporting.reading import RunFacts
from kvae.reporting.scores import Scores

__all__ = ["Findings"]


@dataclass(frozen=True)
class Findings:
    """All that a page shows.

    Attributes
    ----------
    run
        The run.
    title
        Heading of the page.
    n_parameters, fingerprint, graph
        Of the model: its size, a hash of its weights (None without), its picture (SVG).
    curves, gate
        Figures over epochs; the accuracy of presence stands apart.
    calibration, scores, units, histograms
        As far as they could be found.
    points, map, attributes
        Rows, those on the map and what they are coloured by; None and empty without.
    was_encoded
        Whether the rows were encoded for this page.
    missing
        By section, a sentence about what is not there and why.
    """

    run: RunFacts
    title: str
    n_parameters: int
    fingerprint: str | None
    graph: str
    curves: Sequence[Curve]
    gate: Curve | None
    calibration: Calibration | None
    scores: Scores | None
    units: Dimensions | None
    histograms: Sequence[Histogram]
    points: Points | None
    map: LatentMap | None
    attributes: Sequence[Category | Quantity]
    was_encoded: bool
    missing: Mapping[str, str]
