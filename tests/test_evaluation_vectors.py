"""Vectors that need no model, and what vectors are good for."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import naive_scores as naive
from kvae.errors import KvaeError
from kvae.evaluation.clustering import (
    agreement,
    base_pair_scores,
    density_clusters,
    density_scores,
    k_means,
    matched_f1,
)
from kvae.evaluation.composition_vae import composition_latents
from kvae.evaluation.discriminant import discriminant_of_classes, discriminant_of_pairs
from kvae.evaluation.estimates import Estimate, pooled_scores
from kvae.evaluation.neighbours import nearest, neighbour_scores
from kvae.evaluation.usefulness import Space, merged, score, score_within
from kvae.evaluation.vectors import (
    Reference,
    fourmer_vectors,
    half_vectors,
    principal_vectors,
    raw_vectors,
    sevenmer_frequencies,
)
from kvae.sampling import balanced_rows
from kvae.store import FeatureStore
from naive_scores import Numbers

CODES = st.lists(st.integers(0, 4), min_size=8, max_size=40)


def blobs(n: int, labels: int, width: int = 6, seed: int = 0) -> tuple[Numbers, list[str]]:
    """Rows around centres that are far from each other and from nothing."""
    rng = np.random.default_rng(seed)
    names = [f"label_{i % labels}" for i in range(n)]
    centres = np.eye(labels, width) * 20.0
    vectors = np.array([centres[i % labels] for i in range(n)]) + rng.normal(size=(n, width))
    return vectors, names


def codes_of(names: list[str]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


# --- neighbours ----------------------------------------------------------------------


@settings(max_examples=40)
@given(codes=CODES, seed=st.integers(0, 99))
def test_neighbours_are_scored_as_a_loop_does(codes: list[int], seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(len(codes), 3))
    names = [str(code) for code in codes]
    found = neighbour_scores(nearest(vectors), codes_of(names))
    if max(Counter(names).values()) < 2:
        assert found == {}
        return
    assert found["knn5"] == pytest.approx(naive.knn_accuracy(vectors, names))
    for n in (1, 5, 10, 50):
        assert found[f"recall@{n}"] == pytest.approx(naive.recall(vectors, names, n))


def test_cosine_scales_every_vector() -> None:
    vectors, names = blobs(60, 3)
    stretched = vectors * np.random.default_rng(1).uniform(0.01, 100.0, (60, 1))
    lengths = np.ones(60)
    plain = score(stretched, names, lengths, [0], density=False)
    cosine = score(stretched, names, lengths, [0], metric="cosine", density=False)
    assert cosine.scores["knn5"].mean == 1.0
    assert plain.scores["knn5"].mean < 1.0
    # k-means scales them in any case.
    assert plain.scores["kmeans_ari"].mean == cosine.scores["kmeans_ari"].mean == 1.0


# --- clusters ------------------------------------------------------------------------


@given(codes=CODES, seed=st.integers(0, 99))
def test_base_pairs_by_hand(codes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    clusters = rng.integers(0, 3, len(codes))
    lengths = rng.integers(1000, 9000, len(codes))
    by_cluster: dict[int, Counter[int]] = defaultdict(Counter)
    by_label: dict[int, Counter[int]] = defaultdict(Counter)
    for code, cluster, length in zip(codes, clusters.tolist(), lengths.tolist(), strict=True):
        by_cluster[cluster][code] += length
        by_label[code][cluster] += length
    total = int(lengths.sum())
    purity = sum(max(bases.values()) for bases in by_cluster.values()) / total
    completeness = sum(max(bases.values()) for bases in by_label.values()) / total
    assert base_pair_scores(np.array(codes), clusters, lengths) == pytest.approx(
        {
            "bp_purity": purity,
            "bp_completeness": completeness,
            "bp_f1": 2 / (1 / purity + 1 / completeness),
        }
    )


def test_base_pairs_weigh_rows() -> None:
    codes, clusters = np.array([0, 0, 1]), np.array([7, 7, 7])
    found = base_pair_scores(codes, clusters, np.array([1000, 1000, 8000]))
    assert (found["bp_purity"], found["bp_completeness"]) == (0.8, 1.0)


def test_clusters_stand_for_one_label_each() -> None:
    codes = np.array([0, 0, 0, 1, 1, 2])
    assert matched_f1(codes, np.array([5, 5, 5, 3, 3, 4])) == 1.0
    # One cluster of everything stands for label 0 alone: precision 1/2, recall 1.
    assert matched_f1(codes, np.zeros(6, dtype=np.int64)) == pytest.approx((2 / 3) / 3)
    # Cluster 2 is left without a label: recall of label 1 is 1/2.
    found = matched_f1(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 2]))
    assert found == pytest.approx((1.0 + 2 / 3) / 2)


def test_k_means_finds_what_is_there() -> None:
    vectors, names = blobs(90, 3)
    found = agreement(codes_of(names), k_means(vectors, 3, 0), np.ones(90))
    assert set(found) == {
        *("ari", "nmi", "homogeneity", "completeness", "v_measure", "f1"),
        *("bp_purity", "bp_completeness", "bp_f1"),
    }
    assert found == pytest.approx(dict.fromkeys(found, 1.0))
    assert np.array_equal(k_means(vectors, 3, 0), k_means(vectors, 3, 0))


def test_k_means_of_few_distinct_vectors() -> None:
    assert len(set(k_means(np.ones((10, 2)), 4, 0).tolist())) == 1


def test_density_leaves_rows_out() -> None:
    vectors, names = blobs(90, 3)
    vectors[0] = 500.0
    clusters = density_clusters(vectors)
    assert clusters[0] == -1
    lengths = np.full(90, 1000)
    lengths[0] = 10_000
    found = density_scores(codes_of(names), clusters, lengths)
    assert found["clusters"] == 3
    assert found["clustered"] == pytest.approx((clusters >= 0).mean())
    assert found["bp_clustered"] < found["clustered"]
    assert found["ari"] == found["bp_f1"] == 1.0


def test_density_of_too_few_rows_is_nothing() -> None:
    clusters = density_clusters(np.zeros((30, 2)))
    found = density_scores(np.arange(30), clusters, np.ones(30))
    assert found == {"clusters": 0.0, "clustered": 0.0, "bp_clustered": 0.0}


# --- usefulness ----------------------------------------------------------------------


def test_rows_without_a_label_are_left_out() -> None:
    vectors, names = blobs(60, 3)
    names[0] = names[7] = ""
    found = score(vectors, names, np.ones(60), [0, 1])
    assert (found.rows, found.labels) == (58, 3)
    assert found.scores["kmeans_ari"].values == (1.0, 1.0)
    known = [i for i, name in enumerate(names) if name]
    again = score(vectors[known], [names[i] for i in known], np.ones(58), [0, 1])
    assert found == again


def test_bins_of_length() -> None:
    vectors, names = blobs(900, 3)
    lengths = np.repeat([500, 1500, 4999, 5000, 12_000, 20_000], [100, 250, 100, 200, 150, 100])
    found = score(vectors, names, lengths, [0], density=False).by_length
    assert {name: scores["rows"].mean for name, scores in found.items()} == {
        "1-2.5 kb": 250,
        "5-10 kb": 200,
        ">10 kb": 250,
    }
    assert set(found[">10 kb"]) == {"rows", "labels", "knn5", "kmeans_ari"}
    other = score(vectors, names, lengths, [0], density=False, bins=(0, 5000)).by_length
    assert {name: scores["rows"].mean for name, scores in other.items()} == {
        "0-5 kb": 450,
        ">5 kb": 450,
    }


def test_labels_share_what_was_found() -> None:
    vectors, names = blobs(60, 3)
    space = Space(vectors)
    rows = np.arange(60)
    assert space.neighbours(rows) is space.neighbours(rows.copy())
    assert space.k_means(rows, 3, 0) is space.k_means(rows, 3, 0)
    assert space.k_means(rows, 3, 0) is not space.k_means(rows, 3, 1)
    assert score(space, names, np.ones(60)) == score(vectors, names, np.ones(60))


def test_within_groups_only_their_own_rows_count() -> None:
    vectors, species = blobs(120, 4)
    # Genera of two species, of one, and of one that is not known.
    genus = {"label_0": "a", "label_1": "a", "label_2": "b", "label_3": ""}
    genera = np.array([genus[name] for name in species])
    found = score_within(Space(vectors), np.array(species), genera, np.ones(120), [0, 1])
    assert found is not None
    assert (found.rows, found.labels) == (60, 2)
    assert found.scores["knn5"].mean == 1.0
    assert found.scores["kmeans_ari"].values == (1.0, 1.0)
    alone = np.array(["a" if name == "label_0" else "" for name in species])
    assert score_within(Space(vectors), np.array(species), alone, np.ones(120)) is None


@pytest.mark.parametrize(
    ("labels", "vectors", "message"),
    [
        (["a"] * 4, np.zeros((4, 2)), "at least two labels"),
        ([""] * 4, np.zeros((4, 2)), "at least two labels"),
        (["a", "b"], np.zeros((4, 2)), "4 vectors, 2 labels and 4 lengths"),
        (["a", "b", "a", "b"], np.full((4, 2), np.nan), "finite"),
    ],
)
def test_what_cannot_be_scored(labels: list[str], vectors: Numbers, message: str) -> None:
    with pytest.raises(KvaeError, match=message):
        score(vectors, labels, np.ones(4))


def test_another_metric_is_refused() -> None:
    with pytest.raises(KvaeError, match="euclidean or cosine"):
        Space(np.zeros((4, 2)), "manhattan")


# --- estimates -----------------------------------------------------------------------


def test_estimates() -> None:
    found = Estimate((1.0, 2.0, 4.0))
    assert found.as_dict() == pytest.approx(
        {"mean": 7 / 3, "sd": float(np.std([1, 2, 4], ddof=1)), "n": 3}
    )
    assert Estimate((2.0,)).as_dict() == {"mean": 2.0, "sd": None, "n": 1}


def test_estimates_are_pooled() -> None:
    a, b = {"x": Estimate((1.0, 2.0))}, {"x": Estimate((4.0, 8.0)), "y": Estimate((3.0,))}
    assert pooled_scores([a, b]) == {"x": Estimate((1.0, 2.0, 4.0, 8.0)), "y": Estimate((3.0,))}
    assert pooled_scores([a, b], [3.0, 1.0]) == {
        "x": Estimate((1.75, 3.5)),
        "y": Estimate((3.0,)),
    }


def test_versions_of_a_vector_are_merged() -> None:
    vectors, names = blobs(60, 3)
    parts = [score(vectors, names, np.ones(60), [seed]) for seed in (0, 1)]
    found = merged(parts)
    assert found.scores["knn5"].values == (1.0, 1.0)
    assert len(found.scores["kmeans_ari"].values) == 2
    assert merged(parts[:1]) is parts[0]


# --- discriminants -------------------------------------------------------------------


def noisy_classes(seed: int = 0) -> tuple[Numbers, list[str]]:
    """Classes that differ in one direction, below the noise of all others."""
    rng = np.random.default_rng(seed)
    names = [f"class_{i % 3}" for i in range(600)]
    vectors = rng.normal(scale=5.0, size=(600, 8))
    vectors[:, 2] = rng.normal(scale=0.1, size=600) + [i % 3 for i in range(600)]
    return vectors @ np.linalg.qr(rng.normal(size=(8, 8)))[0], names


def test_a_discriminant_separates_classes() -> None:
    vectors, names = noisy_classes()
    learned = discriminant_of_classes(vectors[:300], np.array(names[:300]))
    mapped = learned(vectors[300:])
    assert mapped.shape == (300, 2)
    lengths = np.ones(300)
    before = score(vectors[300:], names[300:], lengths, [0], density=False).scores["knn5"]
    after = score(mapped[:, :1], names[300:], lengths, [0], density=False).scores["knn5"]
    assert before.mean < 0.6
    assert after.mean > 0.95


def test_a_discriminant_of_pairs_needs_no_names() -> None:
    vectors, names = noisy_classes()
    order = np.argsort(names, kind="stable")
    first, second = vectors[order[::2]], vectors[order[1::2]]
    mapped = discriminant_of_pairs(first, second, 1)(vectors)
    assert mapped.shape == (600, 1)
    assert score(mapped, names, np.ones(600), [0], density=False).scores["knn5"].mean > 0.95


def test_within_classes_a_discriminant_has_variance_one() -> None:
    vectors, names = noisy_classes()
    mapped = discriminant_of_classes(vectors, np.array(names))(vectors)
    centred = np.concatenate(
        [
            mapped[np.array(names) == name] - mapped[np.array(names) == name].mean(axis=0)
            for name in set(names)
        ]
    )
    within = centred.T @ centred / (600 - 3)
    # What hardly differs within classes counts as a little more than it does.
    assert 0.1 < within[0, 0] < within[1, 1] <= 1.0
    assert abs(within[0, 1]) < 0.01
    assert mapped.mean(axis=0) == pytest.approx([0.0, 0.0], abs=1e-9)


@pytest.mark.parametrize("labels", [["a"] * 3, ["a", "b", "c"]])
def test_too_few_classes_for_a_discriminant(labels: list[str]) -> None:
    with pytest.raises(KvaeError, match="two classes, and a class with two rows"):
        discriminant_of_classes(np.eye(3), np.array(labels))


# --- vectors -------------------------------------------------------------------------


@given(arrays.arrays(np.int64, (7, 136), elements=st.integers(0, 50)))
def test_vectors_of_four_mers(counts: np.ndarray[tuple[int, int], np.dtype[np.int64]]) -> None:
    found = fourmer_vectors(counts)
    sizes = counts.sum(axis=1, keepdims=True)
    assert np.allclose(found["4-mers"] * sizes, counts)
    assert np.allclose(found["4-mers sqrt"] ** 2, found["4-mers"])
    assert np.allclose(found["4-mers z"].mean(axis=0), 0.0)
    spread = found["4-mers z"].std(axis=0)
    assert np.allclose(spread[spread > 0], 1.0)
    assert np.allclose(found["4-mers CLR"].sum(axis=1), 0.0)
    ratios = found["4-mers CLR"][:, 0] - found["4-mers CLR"][:, 1]
    assert np.allclose(ratios, np.log((counts[:, 0] + 0.5) / (counts[:, 1] + 0.5)))


def test_principal_components_are_those_of_the_reference() -> None:
    rng = np.random.default_rng(0)
    rows = rng.random((30, 50), dtype=np.float32)
    others = rng.random((40, 50), dtype=np.float32)
    found = principal_vectors(rows, others, np.sqrt, [3, 39, 64])
    assert list(found) == [3, 39]
    root = np.sqrt(others.astype(np.float64))
    directions = np.linalg.svd(root - root.mean(axis=0))[2][:3]
    wanted = (np.sqrt(rows) - root.mean(axis=0)) @ directions.T
    assert np.allclose(np.abs(found[3]), np.abs(wanted), atol=1e-3)
    own = principal_vectors(others, None, np.sqrt, [3])[3]
    assert np.allclose(own.mean(axis=0), 0.0, atol=1e-5)


def test_the_vae_of_four_mers_is_the_same_for_a_seed() -> None:
    vectors, _ = blobs(40, 3, 12)
    state = torch.get_rng_state()
    found = [composition_latents(vectors, seed, steps=5) for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), state)
    assert found[0].shape == (40, 32)
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


def test_the_vae_of_four_mers_learns() -> None:
    vectors, names = blobs(120, 3, 12)
    latents = composition_latents(vectors, steps=150)
    assert score(latents, names, np.ones(120), [0], density=False).scores["knn5"].mean > 0.95


def test_all_vectors_of_rows(feature_file: Path) -> None:
    store = FeatureStore(feature_file, threads=1)
    rows = np.arange(0, 71, 2)
    classes = store.source_codes[1::2].astype(str)
    classes[3] = ""
    reference = Reference(store, np.arange(1, 71, 2), classes)
    found = raw_vectors(store, rows, reference, [0, 1], vae_steps=2, threads=1)
    assert list(found) == [
        *("4-mers", "4-mers z", "4-mers CLR", "4-mers sqrt"),
        "PCA-32 ln 7-mers+1e-06",
        "PCA-32 ln 7-mers+0.0001",
        "4-mer VAE",
        "LDA halves sqrt 4-mers",
        "LDA species sqrt 4-mers",
        "LDA species sqrt 7-mers",
    ]
    assert {name: len(versions) for name, versions in found.items() if len(versions) > 1} == {
        "4-mer VAE": 2
    }
    for versions in found.values():
        assert all(len(vectors) == 36 and np.isfinite(vectors).all() for vectors in versions)
    assert found["LDA species sqrt 4-mers"][0].shape[1] == 3
    counts = store.counts(rows, 7)
    frequencies = sevenmer_frequencies(store, rows)
    assert np.allclose(frequencies, counts / counts.sum(axis=1, keepdims=True))
    first, second = half_vectors(store, rows[:2], 1)
    (sequence,) = store.sequences(rows[:1])
    middle = len(sequence) // 2
    for half, letters in ((first, sequence[:middle]), (second, sequence[middle:])):
        wanted = naive.counts(letters, 4)
        assert np.allclose(half[0] ** 2, wanted / wanted.sum())


# --- samples -------------------------------------------------------------------------


@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    n=st.integers(1, 200),
    seed=st.integers(0, 20),
)
def test_samples_are_balanced(sizes: list[int], n: int, seed: int) -> None:
    codes = np.repeat(np.arange(len(sizes)), sizes).astype(np.int32)
    everything = np.arange(len(codes), dtype=np.int64)
    found = balanced_rows(codes, everything, n, seed)
    assert len(found) == min(n, len(codes))
    assert (np.diff(found) > 0).all()
    taken = np.bincount(codes[found], minlength=len(sizes))
    # A file with fewer rows than another is there as a whole, or lacks one at most.
    for size, count in zip(sizes, taken, strict=True):
        assert count == size or count >= taken.max() - 1
    more = balanced_rows(codes, everything, n + 7, seed)
    assert np.isin(found, more).all()
    part = everything[::2]
    assert np.isin(balanced_rows(codes, part, n, seed), part).all()
