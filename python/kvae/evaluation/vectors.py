"""Vectors of rows that need no trained model: what a latent has to be better than."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from kvae.evaluation.composition_vae import STEPS, composition_latents
from kvae.evaluation.compositions import batches, has_sequences, split_sequences
from kvae.evaluation.discriminant import discriminant_of_classes, discriminant_of_pairs
from kvae.featurizing import count_kmers
from kvae.progress import Progress
from kvae.row_sources import Indices
from kvae.store import FeatureStore

__all__ = [
    "Reference",
    "fourmer_vectors",
    "half_vectors",
    "principal_vectors",
    "raw_vectors",
    "sevenmer_frequencies",
    "standardized",
]

Matrix = NDArray[Any]
Transform = Callable[[NDArray[np.float32]], NDArray[np.float32]]

PCA_SIZES = (32, 64, 128)
# Added to frequencies of 7-mers before the logarithm.
PCA_PSEUDOCOUNTS = (1e-6, 1e-4)
# Numbers that are left of 7-mers before a discriminant is learned.
_REDUCED = 256
_DISCRIMINANT = 64


@dataclass(frozen=True)
class Reference:
    """Rows that maps are learned from, apart from those that are evaluated.

    Attributes
    ----------
    store, rows
        The rows.
    labels
        Class of each row, ``""`` where it is not known; None without labels.
    """

    store: FeatureStore
    rows: Indices
    labels: NDArray[np.str_] | None = None


def raw_vectors(
    store: FeatureStore,
    rows: Indices,
    reference: Reference | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    *,
    vae_steps: int = STEPS,
    device: torch.device | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> dict[str, list[Matrix]]:
    """Make every kind of vector that needs no trained model.

    Parameters
    ----------
    store, rows
        The rows.
    reference
        What principal components and discriminants are learned from; the rows
        themselves where omitted, and then no discriminant of classes.
    seeds
        The 4-mer VAE is trained once with each; the first also starts the principal
        components.
    vae_steps
        Of the 4-mer VAE, 0 for none.
    device
        Of the 4-mer VAE.
    threads
        To count the k-mers of halves with.
    progress
        Told what is made.

    Returns
    -------
    dict
        By name, the vectors: several where they depend on a seed.
    """
    progress = progress or Progress()
    counts4 = _counts(store, rows, 4)
    found = {name: [vectors] for name, vectors in fourmer_vectors(counts4).items()}
    for pseudocount in PCA_PSEUDOCOUNTS:
        progress.message(f"principal components of ln(7-mers + {pseudocount:g})")
        made = principal_vectors(
            sevenmer_frequencies(store, rows),
            None if reference is None else sevenmer_frequencies(reference.store, reference.rows),
            _logarithm(pseudocount),
            PCA_SIZES,
            seeds[0],
        )
        for size, vectors in made.items():
            found[f"PCA-{size} ln 7-mers+{pseudocount:g}"] = [vectors]
    if vae_steps:
        found["4-mer VAE"] = [
            composition_latents(
                found["4-mers z"][0], seed, steps=vae_steps, device=device, progress=progress
            )
            for seed in seeds
        ]
    root4 = found["4-mers sqrt"][0]
    if has_sequences(store):
        first, second = half_vectors(store, rows, threads)
        found["LDA halves sqrt 4-mers"] = [
            discriminant_of_pairs(first, second, _DISCRIMINANT)(root4)
        ]
    if reference is not None and reference.labels is not None:
        found |= _of_classes(store, rows, root4, reference, reference.labels, seeds[0])
    return found


def _of_classes(
    store: FeatureStore,
    rows: Indices,
    root4: Matrix,
    reference: Reference,
    labels: NDArray[np.str_],
    seed: int,
) -> dict[str, list[Matrix]]:
    """Discriminants of the reference's classes."""
    known = labels != ""
    classes = labels[known]
    theirs4 = np.sqrt(_frequencies(_counts(reference.store, reference.rows[known], 4)))
    by4 = discriminant_of_classes(theirs4, classes, _DISCRIMINANT)
    found = {"LDA species sqrt 4-mers": [by4(root4)]}
    fitted, ours = _principal(
        sevenmer_frequencies(reference.store, reference.rows[known]),
        sevenmer_frequencies(store, rows),
        np.sqrt,
        min(_REDUCED, len(classes) - 1),
        seed,
    )
    if ours is not None:
        by7 = discriminant_of_classes(fitted.astype(np.float64), classes, _DISCRIMINANT)
        found["LDA species sqrt 7-mers"] = [by7(ours.astype(np.float64))]
    return found


def fourmer_vectors(counts: NDArray[Any]) -> dict[str, Matrix]:
    """Make the usual vectors of 4-mers, float64, shape (rows, 136).

    Parameters
    ----------
    counts
        Of canonical 4-mers, shape (rows, 136).

    Returns
    -------
    dict
        ``4-mers``, frequencies; ``4-mers z``, standardized over these rows; ``4-mers
        CLR``, centred logarithms of counts + 0.5; ``4-mers sqrt``, square roots of
        frequencies.
    """
    frequencies = _frequencies(counts)
    logarithms = np.log(counts + 0.5)
    return {
        "4-mers": frequencies,
        "4-mers z": standardized(frequencies),
        "4-mers CLR": logarithms - logarithms.mean(axis=1, keepdims=True),
        "4-mers sqrt": np.sqrt(frequencies),
    }


def standardized(vectors: Matrix) -> Matrix:
    """Give every column mean 0 and standard deviation 1; a constant one becomes 0."""
    centred = vectors - vectors.mean(axis=0)
    deviation = centred.std(axis=0)
    scaled: Matrix = centred / np.where(deviation > 0, deviation, 1)
    return scaled


def half_vectors(
    store: FeatureStore, rows: Indices, threads: int | None = None
) -> tuple[Matrix, Matrix]:
    """Square roots of the 4-mer frequencies of both halves of rows, two of (rows, 136).

    Rows of which a half has no 4-mer are left out.
    """
    parts: tuple[list[Matrix], list[Matrix]] = ([], [])
    for batch in batches(rows):
        for made, sequences in zip(parts, split_sequences(store, batch), strict=True):
            made.append(count_kmers(sequences, 4, threads=threads).astype(np.float64))
    first, second = (np.concatenate(part) for part in parts)
    both = (first.sum(axis=1) > 0) & (second.sum(axis=1) > 0)
    return np.sqrt(_frequencies(first[both])), np.sqrt(_frequencies(second[both]))


def sevenmer_frequencies(store: FeatureStore, rows: Indices) -> NDArray[np.float32]:
    """Frequencies of 7-mers, shape (rows, 8192): 33 KB per row."""
    out = np.empty((len(rows), store.layout.block("7-mers").size), dtype=np.float32)
    start = 0
    for batch in batches(rows):
        out[start : start + len(batch)] = _frequencies(store.counts(batch, 7))
        start += len(batch)
    return out


def principal_vectors(
    frequencies: NDArray[np.float32],
    reference: NDArray[np.float32] | None,
    transform: Transform,
    sizes: Sequence[int] = PCA_SIZES,
    seed: int = 0,
) -> dict[int, Matrix]:
    """Principal components of transformed frequencies, by number of components.

    Parameters
    ----------
    frequencies
        Of the rows, shape (rows, k-mers).
    reference
        Of the rows that the components are those of; the rows themselves where None.
    transform
        Applied first, such as a logarithm.
    sizes
        Numbers of components. One that is not below the number of rows is left out.
    seed
        Starts the randomised decomposition.
    """
    fitted = frequencies if reference is None else reference
    sizes = [size for size in sizes if size < min(fitted.shape)]
    if not sizes:
        return {}
    own, others = _principal(
        fitted, None if reference is None else frequencies, transform, max(sizes), seed
    )
    vectors = own if others is None else others
    return {size: vectors[:, :size] for size in sizes}


def _principal(
    fitted: NDArray[np.float32],
    others: NDArray[np.float32] | None,
    transform: Transform,
    n: int,
    seed: int,
) -> tuple[Matrix, Matrix | None]:
    """Principal components of rows, and the same components of others."""
    model = PCA(n, svd_solver="randomized", random_state=seed, copy=False)
    own = model.fit_transform(transform(fitted))
    return own, None if others is None else model.transform(transform(others))


def _logarithm(pseudocount: float) -> Transform:
    def transform(frequencies: NDArray[np.float32]) -> NDArray[np.float32]:
        shifted: NDArray[np.float32] = frequencies + np.float32(pseudocount)
        return np.log(shifted, out=shifted)

    return transform


def _counts(store: FeatureStore, rows: Indices, k: int) -> NDArray[np.float64]:
    found = [store.counts(batch, k).astype(np.float64) for batch in batches(rows)]
    return np.concatenate(found)


def _frequencies(counts: NDArray[Any]) -> NDArray[np.float64]:
    counts = counts.astype(np.float64)
    found: NDArray[np.float64] = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
    return found
