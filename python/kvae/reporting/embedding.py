"""Latents on a plane: a map of a sample, and where all rows lie on it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from kvae.errors import KvaeError
from kvae.progress import Progress
from kvae.row_sources import Indices
from kvae.sampling import balanced_rows

__all__ = ["METHODS", "Density", "LatentMap", "draw_map", "resolve_method", "sample_rows"]

Matrix = NDArray[np.float32]
Method = Literal["umap", "tsne", "pca"]

METHODS = ("auto", "umap", "tsne", "pca")
# Rows on the map where no number is given: what each method does in about a minute.
DEFAULT_ROWS: dict[str, int] = {"umap": 20_000, "tsne": 5_000, "pca": 30_000}
# Components that are given to the methods that look at neighbours.
_COMPONENTS = 50
# Rows that principal components are learned from.
_PCA_ROWS = 50_000
_NEIGHBOURS = 10
# Rows whose neighbours on the map are compared with those in the latent.
_QUERIES = 1000
# All other rows are put where the most similar of so many rows of the map is.
_ANCHORS = 4096
_BLOCK = 4096
# Cells of the density, a side.
GRID = 160
# As many neighbours as umap-learn looks at by default.
_UMAP_NEIGHBOURS = 15
_LEAST_ROWS = 10


@dataclass(frozen=True)
class Density:
    """How many rows lie in each cell of a square grid.

    Attributes
    ----------
    counts
        Shape (GRID, GRID), the first axis upwards.
    left, bottom, size
        Where the grid is on the map, and how wide.
    """

    counts: NDArray[np.float64]
    left: float
    bottom: float
    size: float


@dataclass(frozen=True)
class LatentMap:
    """A plane picture of latents.

    Attributes
    ----------
    method
        How it was made.
    rows
        Which rows are on it, ascending.
    xy
        Where they are, shape (rows, 2).
    axes
        Names of the two axes.
    kept_neighbours
        Share of a row's ten nearest others in the latent that are among its ten
        nearest on the map, on average.
    chance_neighbours
        The same of a map that is drawn by chance.
    density
        All rows, those not on the map included.
    anchors
        How many rows of the map stood for the others there, None where each row has a
        place of its own.
    """

    method: Method
    rows: Indices
    xy: Matrix
    axes: tuple[str, str]
    kept_neighbours: float
    chance_neighbours: float
    density: Density
    anchors: int | None


def resolve_method(name: str) -> Method:
    """Choose how to draw a map.

    ``auto`` is UMAP where umap-learn is installed, else t-SNE.

    Raises
    ------
    KvaeError
        For an unknown name, and for UMAP without umap-learn.
    """
    if name not in METHODS:
        raise KvaeError(f"unknown map {name!r}: use {', '.join(METHODS)}")
    has_umap = find_spec("umap") is not None
    if name == "umap" and not has_umap:
        raise KvaeError("a map by UMAP needs umap-learn: pip install kvae[umap], or --map tsne")
    if name == "auto":
        return "umap" if has_umap else "tsne"
    return name  # type: ignore[return-value]


def sample_rows(
    groups: NDArray[np.integer[Any]], method: Method, n_rows: int | None, seed: int
) -> Indices:
    """Choose the rows on a map: all, or a sample with as many of each group as there are.

    Parameters
    ----------
    groups
        File of each row.
    method
        How they will be drawn.
    n_rows
        How many at most, `DEFAULT_ROWS` where None.
    seed
        Decides which.
    """
    limit = DEFAULT_ROWS[method] if n_rows is None else n_rows
    everything = np.arange(len(groups), dtype=np.int64)
    return everything if len(groups) <= limit else balanced_rows(groups, everything, limit, seed)


def draw_map(
    vectors: Matrix, rows: Indices, method: Method, seed: int, progress: Progress
) -> LatentMap:
    """Draw latents on a plane.

    Parameters
    ----------
    vectors
        Latents, shape (rows, units).
    rows
        Those to draw, ascending; all others are in the density alone.
    method
        How; fewer than ten rows, or rows that are all alike, are drawn by principal
        components in any case.
    seed
        Decides the map.
    progress
        Told about it.
    """
    sample = vectors[rows]
    components = _Components(vectors)
    if len(rows) < _LEAST_ROWS or components.shares[0] == 0.0:
        method = "pca"
    progress.message(f"drawing a map of {len(rows):,} rows by {TITLES[method]}")
    if method == "pca":
        xy = components(sample, 2)
        axes = (
            f"PC 1 ({components.shares[0]:.0%} of the variance)",
            f"PC 2 ({components.shares[1]:.0%})",
        )
    else:
        xy = _NEIGHBOURHOODS[method](components(sample, _COMPONENTS), seed)
        axes = (f"{TITLES[method]} 1 (no unit)", f"{TITLES[method]} 2 (no unit)")
    kept, chance = _kept_neighbours(sample, xy, seed)
    anchors = None
    places = xy
    if len(rows) < len(vectors):
        progress.begin("placing all rows", len(vectors))
        if method == "pca":
            places = components(vectors, 2)
        else:
            anchors = min(_ANCHORS, len(rows))
            places = _nearest(vectors, sample, xy, anchors, seed, progress)
    return LatentMap(method, rows, xy, axes, kept, chance, _density(places, xy), anchors)


TITLES = {"umap": "UMAP", "tsne": "t-SNE", "pca": "PCA"}


class _Components:
    """Principal components, learned from some rows, of any."""

    def __init__(self, vectors: Matrix) -> None:
        step = -(-len(vectors) // _PCA_ROWS)
        some = vectors[::step].astype(np.float64)
        self._mean = some.mean(axis=0)
        some -= self._mean
        values, axes = np.linalg.eigh(some.T @ some / len(some))
        # Largest first; the sign of an axis is a matter of taste, so it is fixed.
        axes = axes[:, ::-1]
        largest = np.abs(axes).argmax(axis=0)
        self._axes = axes * np.sign(axes[largest, np.arange(axes.shape[1])])
        values = values[::-1].clip(min=0.0)
        # Rounding is no variance.
        values[values <= 1e-12 * np.square(self._mean).sum()] = 0.0
        self.shares = np.append(values / max(values.sum(), 1e-30), 0.0)

    def __call__(self, vectors: Matrix, n: int) -> Matrix:
        axes = self._axes[:, :n]
        if axes.shape[1] < 2:
            axes = np.pad(axes, ((0, 0), (0, 2 - axes.shape[1])))
        found = np.empty((len(vectors), axes.shape[1]), np.float32)
        for start in range(0, len(vectors), _PCA_ROWS):
            part = slice(start, start + _PCA_ROWS)
            found[part] = (vectors[part] - self._mean) @ axes
        return found


def _umap(components: Matrix, seed: int) -> Matrix:
    with warnings.catch_warnings():
        # About its own dependencies, and what a seed costs.
        warnings.simplefilter("ignore")
        import umap

        reducer = umap.UMAP(
            n_neighbors=min(_UMAP_NEIGHBOURS, len(components) - 1),
            # Groups as clouds rather than dots, in places that principal components give.
            min_dist=0.5,
            init="pca",
            random_state=seed,
            n_jobs=1,
        )
        return np.asarray(reducer.fit_transform(components), dtype=np.float32)


def _tsne(components: Matrix, seed: int) -> Matrix:
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(components) - 1) / 3.0)
    reducer = TSNE(init="pca", perplexity=perplexity, random_state=seed)
    # In one thread: sums of several come in an order of their own.
    with threadpool_limits(1, user_api="openmp"):
        return np.asarray(reducer.fit_transform(components), dtype=np.float32)


_NEIGHBOURHOODS: dict[str, Callable[[Matrix, int], Matrix]] = {"umap": _umap, "tsne": _tsne}


def _nearest(
    vectors: Matrix, sample: Matrix, xy: Matrix, n: int, seed: int, progress: Progress
) -> Matrix:
    """Place rows where the nearest of some rows of the map are."""
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(len(sample), n, replace=False))
    anchors = sample[chosen]
    half_squares = 0.5 * np.square(anchors).sum(axis=1)
    places = np.empty((len(vectors), 2), np.float32)
    for start in range(0, len(vectors), _BLOCK):
        block = vectors[start : start + _BLOCK]
        # The nearest is that of the largest product less half its square.
        nearest = (block @ anchors.T - half_squares).argmax(axis=1)
        places[start : start + len(block)] = xy[chosen[nearest]]
        progress.advance(len(block))
    return places


def _kept_neighbours(sample: Matrix, xy: Matrix, seed: int) -> tuple[float, float]:
    """Share of nearest neighbours that a map keeps, and that one drawn by chance would."""
    n = len(sample)
    k = min(_NEIGHBOURS, n - 1)
    if k < 1:
        return 1.0, 1.0
    rng = np.random.default_rng(seed)
    queries = np.sort(rng.choice(n, min(_QUERIES, n), replace=False))
    in_latent, on_map = (_neighbours(space, queries, k) for space in (sample, xy))
    shared = [len(np.intersect1d(a, b)) for a, b in zip(in_latent, on_map, strict=True)]
    return float(np.mean(shared)) / k, k / (n - 1)


def _neighbours(space: Matrix, queries: Indices, k: int) -> Indices:
    squares = np.square(space, dtype=np.float64).sum(axis=1)
    distances = squares - 2.0 * (space[queries].astype(np.float64) @ space.T)
    distances[np.arange(len(queries)), queries] = np.inf
    found: Indices = np.argpartition(distances, k - 1, axis=1)[:, :k].astype(np.int64)
    return found


def _density(places: Matrix, xy: Matrix) -> Density:
    low, high = xy.min(axis=0).astype(np.float64), xy.max(axis=0).astype(np.float64)
    size = float(max((high - low).max(), 1e-6)) * 1.12
    left, bottom = (low + high) / 2 - size / 2
    counts, _, _ = np.histogram2d(
        places[:, 1],
        places[:, 0],
        bins=GRID,
        range=((bottom, bottom + size), (left, left + size)),
    )
    return Density(_smoothed(counts), float(left), float(bottom), size)


def _smoothed(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Spread counts over neighbouring cells, so that single ones do not flicker."""
    kernel = np.exp(-0.5 * np.square(np.arange(-4, 5) / 1.5))
    kernel /= kernel.sum()
    for axis in (0, 1):
        counts = np.apply_along_axis(np.convolve, axis, counts, kernel, mode="same")
    return counts
