"""Clusters of vectors, and how they agree with labels."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import (
    adjusted_rand_score,
    f1_score,
    homogeneity_completeness_v_measure,
    normalized_mutual_info_score,
)
from sklearn.metrics.cluster import contingency_matrix

from kvae.nearest import unit_rows

__all__ = [
    "agreement",
    "base_pair_scores",
    "density_clusters",
    "k_means",
    "matched_f1",
]

Vectors = NDArray[Any]
Codes = NDArray[np.int64]

# Smaller groups of rows are no cluster for HDBSCAN, which then leaves them out.
MIN_CLUSTER_SIZE = 20


def k_means(vectors: Vectors, k: int, seed: int) -> Codes:
    """Cluster rows into k, by the protocol of DNABERT-S.

    Rows are scaled to length 1; k-means starts three times from random rows, for at
    most a thousand steps, and the best of the three is kept.
    """
    means = KMeans(k, init="random", n_init=3, max_iter=1000, random_state=seed)
    with warnings.catch_warnings():
        # Fewer distinct vectors than labels: the clusters say so themselves.
        warnings.simplefilter("ignore", ConvergenceWarning)
        found: Codes = means.fit_predict(unit_rows(vectors)).astype(np.int64)
    return found


def density_clusters(vectors: Vectors, min_cluster_size: int = MIN_CLUSTER_SIZE) -> Codes:
    """Cluster rows by density (HDBSCAN), without being told how many clusters there are.

    Memory grows with the square of the rows: 800 MB for 10,000 of them.

    Returns
    -------
    ndarray of int64, shape (rows,)
        Clusters from 0, -1 for rows that are in none.
    """
    if len(vectors) < 2 * min_cluster_size:
        return np.full(len(vectors), -1, dtype=np.int64)
    # Trees are slower than all distances where vectors have tens of numbers.
    model = HDBSCAN(min_cluster_size=min_cluster_size, algorithm="brute", copy=True)
    found: Codes = model.fit_predict(vectors).astype(np.int64)
    return found


def agreement(codes: Codes, clusters: Codes, lengths: NDArray[Any]) -> dict[str, float]:
    """Compare clusters with labels.

    Parameters
    ----------
    codes, clusters
        Label and cluster of each row.
    lengths
        Bases of each row.

    Returns
    -------
    dict
        ``ari``, ``nmi``, ``homogeneity``, ``completeness``, ``v_measure``, ``f1``
        (see `matched_f1`), and ``bp_purity``, ``bp_completeness``, ``bp_f1`` (see
        `base_pair_scores`).
    """
    homogeneity, completeness, v_measure = homogeneity_completeness_v_measure(codes, clusters)
    return {
        "ari": float(adjusted_rand_score(codes, clusters)),
        "nmi": float(normalized_mutual_info_score(codes, clusters)),
        "homogeneity": float(homogeneity),
        "completeness": float(completeness),
        "v_measure": float(v_measure),
        "f1": matched_f1(codes, clusters),
        **base_pair_scores(codes, clusters, lengths),
    }


def matched_f1(codes: Codes, clusters: Codes) -> float:
    """Mean over labels of F1, each cluster standing for one label at most.

    Clusters and labels are paired so that as many rows as possible are right; rows of
    a cluster without a label are wrong.
    """
    table = contingency_matrix(codes, clusters)
    labels, names = np.unique(codes), np.unique(clusters)
    rows, columns = linear_sum_assignment(table, maximize=True)
    meaning = np.full(len(names), -1, dtype=np.int64)
    meaning[columns] = labels[rows]
    said = meaning[np.searchsorted(names, clusters)]
    return float(f1_score(codes, said, labels=labels, average="macro", zero_division=0))


def base_pair_scores(codes: Codes, clusters: Codes, lengths: NDArray[Any]) -> dict[str, float]:
    """Purity, completeness and F1 in bases.

    Purity is the share of bases that are of their cluster's most frequent label;
    completeness the share that are in their label's most frequent cluster; both count
    bases, not rows, and ``bp_f1`` is their harmonic mean.
    """
    _, label = np.unique(codes, return_inverse=True)
    _, cluster = np.unique(clusters, return_inverse=True)
    table = np.zeros((int(label.max()) + 1, int(cluster.max()) + 1))
    np.add.at(table, (label, cluster), np.asarray(lengths, dtype=np.float64))
    total = table.sum()
    purity = float(table.max(axis=0).sum() / total)
    completeness = float(table.max(axis=1).sum() / total)
    f1 = 2 * purity * completeness / (purity + completeness)
    return {"bp_purity": purity, "bp_completeness": completeness, "bp_f1": f1}


def density_scores(codes: Codes, clusters: Codes, lengths: NDArray[Any]) -> dict[str, float]:
    """Score clusters that leave rows out.

    Returns
    -------
    dict
        ``clusters``; the share of rows and of bases that are ``clustered`` and
        ``bp_clustered``; and of those rows ``ari``, ``bp_purity``,
        ``bp_completeness`` and ``bp_f1``, where there are any.
    """
    inside = clusters >= 0
    total = float(np.sum(lengths, dtype=np.float64))
    scores = {
        "clusters": float(len(np.unique(clusters[inside]))),
        "clustered": float(inside.mean()),
        "bp_clustered": float(np.sum(lengths[inside], dtype=np.float64)) / total,
    }
    if inside.any():
        found = codes[inside], clusters[inside]
        scores["ari"] = float(adjusted_rand_score(*found))
        scores |= base_pair_scores(*found, lengths[inside])
    return scores
