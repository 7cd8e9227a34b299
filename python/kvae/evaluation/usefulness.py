"""What vectors are good for: finding and grouping rows of the same label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvae.errors import KvaeError
from kvae.evaluation.clustering import (
    agreement,
    density_clusters,
    density_scores,
    k_means,
)
from kvae.evaluation.estimates import Estimate, pooled_scores
from kvae.evaluation.neighbours import nearest, neighbour_scores
from kvae.nearest import unit_rows

__all__ = ["BINS", "Space", "Usefulness", "merged", "score", "score_within"]

Codes = NDArray[np.int64]

METRICS = ("euclidean", "cosine")
# Edges of the bins of length in bases; the last bin is open.
BINS = (1000, 2500, 5000, 10_000)
# Smaller bins say nothing.
MIN_BIN_ROWS = 200
# Distances between all pairs of so many rows take 800 MB.
DENSITY_ROWS = 10_000
_DENSITY_STREAM = 0x1D5


@dataclass(frozen=True)
class Usefulness:
    """Scores of one kind of vector by one kind of label.

    Attributes
    ----------
    rows, labels
        Rows scored, and different labels among them.
    scores
        ``knn5`` and ``recall@K`` (see `kvae.evaluation.neighbours.neighbour_scores`);
        ``kmeans_*`` (see `kvae.evaluation.clustering.agreement`) of k-means told the
        number of labels; ``hdbscan_*`` (see
        `kvae.evaluation.clustering.density_scores`).
    by_length
        By bin of length: ``rows``, ``labels``, ``knn5`` and ``kmeans_ari`` among the
        rows of the bin.
    """

    rows: int
    labels: int
    scores: dict[str, Estimate]
    by_length: dict[str, dict[str, Estimate]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {
            "rows": self.rows,
            "labels": self.labels,
            "scores": {name: value.as_dict() for name, value in self.scores.items()},
            "by_length": {
                name: {key: value.as_dict() for key, value in scores.items()}
                for name, scores in self.by_length.items()
            },
        }


def check_metric(metric: str) -> None:
    """Refuse a metric that there is not.

    Raises
    ------
    KvaeError
        For anything but ``euclidean`` and ``cosine``.
    """
    if metric not in METRICS:
        raise KvaeError(f"unknown metric {metric!r}: use {' or '.join(METRICS)}")


class Space:
    """Vectors, and what was found out about them: labels of several kinds share it.

    Parameters
    ----------
    vectors
        Shape (rows, numbers).
    metric
        ``euclidean`` takes the vectors as they are; ``cosine`` scales them to length 1
        first, for neighbours and density. k-means scales them in any case.

    Raises
    ------
    KvaeError
        For vectors that are not finite, or another metric.
    """

    def __init__(self, vectors: NDArray[Any], metric: str = "euclidean") -> None:
        check_metric(metric)
        if vectors.ndim != 2 or not np.isfinite(vectors).all():
            raise KvaeError("vectors to score must be a matrix of finite numbers")
        self.vectors = unit_rows(vectors) if metric == "cosine" else vectors
        self._found: dict[tuple[Any, ...], Codes] = {}

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.vectors)

    def neighbours(self, rows: Codes) -> Codes:
        """Nearest of some rows among themselves, as `kvae.evaluation.neighbours.nearest`."""
        key = ("neighbours", rows.tobytes())
        if key not in self._found:
            self._found[key] = nearest(self.vectors[rows])
        return self._found[key]

    def k_means(self, rows: Codes, k: int, seed: int) -> Codes:
        """Clusters of some rows, as `kvae.evaluation.clustering.k_means`."""
        key = ("k_means", rows.tobytes(), k, seed)
        if key not in self._found:
            self._found[key] = k_means(self.vectors[rows], k, seed)
        return self._found[key]

    def density(self, rows: Codes) -> Codes:
        """Clusters of some rows, as `kvae.evaluation.clustering.density_clusters`."""
        key = ("density", rows.tobytes())
        if key not in self._found:
            self._found[key] = density_clusters(self.vectors[rows])
        return self._found[key]


def score(
    vectors: NDArray[Any] | Space,
    labels: NDArray[Any] | Sequence[Any],
    lengths: NDArray[Any],
    seeds: Sequence[int] = (0, 1, 2),
    *,
    metric: str = "euclidean",
    bins: Sequence[int] = BINS,
    density: bool = True,
) -> Usefulness:
    """Score vectors by labels.

    Parameters
    ----------
    vectors
        Shape (rows, numbers); or a `Space` of them, where several kinds of labels are
        to be scored.
    labels
        One per row: text, where ``""`` is a row without one, or whole numbers.
    lengths
        Bases of each row.
    seeds
        k-means runs once with each.
    metric
        See `Space`.
    bins
        Edges of the bins of length in bases; the last one is open.
    density
        Whether to cluster by density, too.

    Returns
    -------
    Usefulness
        Of the rows that have a label.

    Raises
    ------
    KvaeError
        If fewer than two labels are left, or the arguments do not fit each other.

    Examples
    --------
    >>> found = score(latents, species, lengths)          # doctest: +SKIP
    >>> found.scores["kmeans_ari"].mean                   # doctest: +SKIP
    0.61
    """
    space = vectors if isinstance(vectors, Space) else Space(vectors, metric)
    labels, lengths = np.asarray(labels), np.asarray(lengths)
    if not len(space) == len(labels) == len(lengths):
        raise KvaeError(
            f"{len(space)} vectors, {len(labels)} labels and {len(lengths)} lengths:"
            " they must be as many"
        )
    rows, codes = _labelled(labels)
    n_labels = int(codes.max()) + 1 if len(codes) else 0
    if n_labels < 2:
        raise KvaeError("at least two labels are needed to score vectors")
    scores = _scores(space, rows, codes, lengths[rows], seeds)
    if density:
        scores |= _density(space, rows, codes, lengths[rows])
    by_length: dict[str, dict[str, Estimate]] = {}
    for name, inside in _bins(lengths[rows], bins):
        _, part = np.unique(codes[inside], return_inverse=True)
        if inside.sum() < MIN_BIN_ROWS or part.max() < 1:
            continue
        found = _scores(space, rows[inside], part.astype(np.int64), lengths[rows][inside], seeds)
        by_length[name] = {
            "rows": Estimate((float(inside.sum()),)),
            "labels": Estimate((float(part.max()) + 1.0,)),
            **{key: found[key] for key in ("knn5", "kmeans_ari") if key in found},
        }
    return Usefulness(len(rows), n_labels, scores, by_length)


def score_within(
    space: Space,
    labels: NDArray[Any],
    groups: NDArray[Any],
    lengths: NDArray[Any],
    seeds: Sequence[int] = (0, 1, 2),
) -> Usefulness | None:
    """Score the labels within each group that has two or more of them.

    Every group is scored alone: neighbours and clusters are those among its rows.

    Parameters
    ----------
    space
        The vectors.
    labels, groups
        Text per row, ``""`` where there is none.
    lengths, seeds
        As for `score`.

    Returns
    -------
    Usefulness or None
        Means over groups, weighted by their rows; None where no group has two labels.
    """
    parts, weights, n_labels = [], [], 0
    for group in np.unique(groups[groups != ""]):
        rows, codes = _labelled(np.where(groups == group, labels, ""))
        if len(rows) == 0 or codes.max() < 1:
            continue
        parts.append(_scores(space, rows, codes, lengths[rows], seeds))
        weights.append(float(len(rows)))
        n_labels += int(codes.max()) + 1
    if not parts:
        return None
    return Usefulness(int(sum(weights)), n_labels, pooled_scores(parts, weights))


def merged(parts: Sequence[Usefulness]) -> Usefulness:
    """Put scores of vectors that were made with several seeds together."""
    first = parts[0]
    if len(parts) == 1:
        return first
    by_length = {
        name: pooled_scores([part.by_length[name] for part in parts]) for name in first.by_length
    }
    return Usefulness(
        first.rows, first.labels, pooled_scores([part.scores for part in parts]), by_length
    )


def _labelled(labels: NDArray[Any]) -> tuple[Codes, Codes]:
    """Rows that have a label, and its number."""
    known = labels != "" if labels.dtype.kind in "UO" else np.ones(len(labels), dtype=bool)
    rows = np.flatnonzero(known).astype(np.int64)
    _, codes = np.unique(labels[rows], return_inverse=True)
    return rows, codes.astype(np.int64)


def _scores(
    space: Space, rows: Codes, codes: Codes, lengths: NDArray[Any], seeds: Sequence[int]
) -> dict[str, Estimate]:
    found = neighbour_scores(space.neighbours(rows), codes)
    scores = {name: Estimate((value,)) for name, value in found.items()}
    k = int(codes.max()) + 1
    runs = [agreement(codes, space.k_means(rows, k, seed), lengths) for seed in seeds]
    for name in runs[0]:
        scores[f"kmeans_{name}"] = Estimate(tuple(run[name] for run in runs))
    return scores


def _density(space: Space, rows: Codes, codes: Codes, lengths: NDArray[Any]) -> dict[str, Estimate]:
    chosen = np.arange(len(rows))
    if len(rows) > DENSITY_ROWS:
        rng = np.random.default_rng(_DENSITY_STREAM)
        chosen = np.sort(rng.choice(len(rows), DENSITY_ROWS, replace=False))
    found = density_scores(codes[chosen], space.density(rows[chosen]), lengths[chosen])
    return {f"hdbscan_{name}": Estimate((value,)) for name, value in found.items()}


def _bins(lengths: NDArray[Any], edges: Sequence[int]) -> list[tuple[str, NDArray[np.bool_]]]:
    """Names and rows of the bins; a bin holds its lower edge."""
    found = []
    for low, high in zip(edges, (*edges[1:], None), strict=True):
        inside = lengths >= low
        if high is not None:
            inside &= lengths < high
        name = f">{low / 1000:g} kb" if high is None else f"{low / 1000:g}-{high / 1000:g} kb"
        found.append((name, inside))
    return found
