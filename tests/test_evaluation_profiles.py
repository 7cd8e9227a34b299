"""Profiles of 7-mers, presence told from them, and their scores."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import naive_scores as naive
from hand_made import hand_made_output
from kvae.evaluation.background import learn_background, pool_genomes
from kvae.evaluation.chains import markov_profile
from kvae.evaluation.compositions import halves
from kvae.evaluation.noise import SamplingNoise
from kvae.evaluation.presence import (
    THRESHOLDS,
    PresenceSums,
    largest_absent,
    presence_probability,
)
from kvae.evaluation.profiles import gate_profile, leave_one_out, own_gate, pooled, profile_of
from kvae.evaluation.reconstruction import _moved, score
from kvae.evaluation.scores import Reconstruction, ratio
from kvae.layout import kmers
from kvae.model import KmerVAE
from kvae.progress import Progress
from kvae.row_sources import Indices
from kvae.store import FeatureStore
from naive_scores import Numbers
from reference import reverse_complement
from sequences import random_sequence
from small import small_model

CPU = torch.device("cpu")
BASES = st.text("ACGT", min_size=8, max_size=60)


def chain(sequence: str, order: int, k: int) -> dict[str, float]:
    counts = torch.from_numpy(naive.counts(sequence.encode(), order + 1))[None]
    return dict(zip(kmers(k), markov_profile(counts, order, k)[0].tolist(), strict=True))


# --- chains --------------------------------------------------------------------------


@settings(max_examples=30)
@given(sequence=BASES, order=st.integers(1, 3), k=st.sampled_from([4, 5]))
def test_a_chain_is_what_its_definition_says(sequence: str, order: int, k: int) -> None:
    found = chain(sequence, order, k)
    assert found == pytest.approx(naive.markov(sequence, order, k), rel=1e-9)
    assert sum(found.values()) == pytest.approx(1.0)


@pytest.mark.parametrize("order", [2, 3])
def test_chains_of_seven_mers(order: int) -> None:
    sequence = random_sequence(3000, 4, "AACGT")
    found = chain(sequence, order, 7)
    assert found == pytest.approx(naive.markov(sequence, order, 7), rel=1e-9)


def test_a_chain_reads_both_strands_alike() -> None:
    sequence = random_sequence(500, 1, "AAAGT")
    assert chain(sequence, 3, 7) == chain(reverse_complement(sequence), 3, 7)


def test_a_chain_of_all_but_one_letter_knows_the_frequencies() -> None:
    sequence = random_sequence(50_000, 2)
    counts = naive.counts(sequence.encode(), 4)
    found = np.array(list(chain(sequence, 3, 4).values()))
    assert np.abs(found - counts / counts.sum()).max() < 1e-4


# --- presence ------------------------------------------------------------------------


@given(
    n=st.lists(st.integers(1, 300_000), min_size=1, max_size=4),
    threshold=st.sampled_from([*THRESHOLDS.values(), 3e-3]),
    seed=st.integers(0, 99),
)
def test_presence_is_a_poisson_tail(n: list[int], threshold: float, seed: int) -> None:
    profile = np.random.default_rng(seed).dirichlet(np.full(40, 0.05), len(n)) + 1e-9
    found = presence_probability(torch.from_numpy(profile), torch.tensor(n), threshold)
    for row, size in enumerate(n):
        absent = [c for c in range(size + 1) if c / size <= threshold * (1 + 1e-12)][-1]
        assert largest_absent(torch.tensor([size]), threshold).item() == absent
        wanted = stats.poisson.sf(absent, size * profile[row])
        assert found[row].numpy() == pytest.approx(wanted, abs=1e-9)


def test_sums_of_presence() -> None:
    chance = torch.tensor([[0.9, 0.2], [0.4, 0.7]], dtype=torch.float64)
    present = torch.tensor([[True, False], [True, True]])
    sums = PresenceSums()
    sums.add(chance[:1], present[:1])
    sums.add(chance[1:], present[1:])
    found = sums.score()
    assert found.accuracy == 0.75
    logs = [math.log(p) for p in (0.9, 0.8, 0.4, 0.7)]
    assert found.bce == pytest.approx(-sum(logs) / 4)
    assert found.expected_accuracy == pytest.approx((0.9 + 0.8 + 0.6 + 0.7) / 4)


# --- profiles ------------------------------------------------------------------------


def test_profiles_of_a_model_sum_to_one() -> None:
    for space in ("linear", "log"):
        decoded = hand_made_output(space)
        for profile in (profile_of(decoded, 1e-6), gate_profile(decoded)):
            assert profile is not None
            assert profile.sum(dim=1).tolist() == pytest.approx([1.0] * 3)
            assert (profile > 0).all()
    assert gate_profile(hand_made_output("log", gated=False)) is None


def test_a_gate_is_a_poisson_rate() -> None:
    decoded = hand_made_output("linear")
    assert decoded.gate_logit is not None
    rate = -torch.log1p(-torch.sigmoid(decoded.gate_logit.double()))
    found = gate_profile(decoded)
    assert found is not None
    assert torch.allclose(found, rate / rate.sum(dim=1, keepdim=True), atol=1e-6)


def test_a_gate_within_a_profile_is_none_of_its_own() -> None:
    space: Any = "profile"
    decoded = replace(hand_made_output("linear"), space=space)
    assert own_gate(decoded) is gate_profile(decoded) is None


def test_a_genome_without_the_row() -> None:
    background = torch.tensor([0.25, 0.75], dtype=torch.float64)
    total = torch.tensor([[4096.0 + 1, 1.0], [3.0, 1.0]], dtype=torch.float64)
    rows = torch.tensor([[1.0, 1.0], [3.0, 1.0]], dtype=torch.float64)
    found = leave_one_out(total, rows, background)
    assert found[0].tolist() == [0.625, 0.375]
    assert found[1].tolist() == [0.25, 0.75]


# --- scores of rows ------------------------------------------------------------------


@pytest.fixture(scope="module")
def rows(feature_file: Path) -> FeatureStore:
    return FeatureStore(feature_file, threads=1)


@pytest.fixture(scope="module")
def model(rows: FeatureStore) -> KmerVAE:
    torch.manual_seed(0)
    return KmerVAE(small_model(), rows.layout).eval()


@pytest.fixture(scope="module")
def chosen(rows: FeatureStore) -> Indices:
    """Two rows of each source, and one more of the first."""
    codes = rows.source_codes
    found = [np.flatnonzero(codes == code)[:2] for code in range(4)]
    return np.sort(np.concatenate([*found, np.flatnonzero(codes == 0)[2:3]])).astype(np.int64)


@pytest.fixture(scope="module")
def scored(rows: FeatureStore, model: KmerVAE, chosen: Indices) -> Reconstruction:
    codes = rows.source_codes[chosen].astype(np.int64)
    found, latents = score(
        model,
        rows,
        chosen,
        learn_background(rows, chosen, CPU, Progress()),
        pools=pool_genomes(rows, chosen, codes, CPU, Progress()),
        genomes=codes,
        device=CPU,
        threads=1,
    )
    with torch.inference_mode():
        wanted = model.inference(torch.from_numpy(rows.rows(chosen))).mean.numpy()
    assert np.array_equal(latents, wanted)
    return found


def mean_profile(rows: FeatureStore, chosen: Indices) -> Numbers:
    counts = np.array([naive.counts(sequence) for sequence in rows.sequences(chosen)])
    total = counts.sum(axis=0) + 0.5
    return np.asarray(total / total.sum())


def cut(sequence: bytes) -> tuple[bytes, bytes]:
    return sequence[: len(sequence) // 2], sequence[len(sequence) // 2 :]


Predict = Callable[[int, bytes], Numbers]


def both_ways(rows: FeatureStore, chosen: Indices, predict: Predict) -> tuple[float, float]:
    """Nats of whole rows, and of each half given the other, from a predictor."""
    whole = rows.sequences(chosen)
    own = naive.nats(
        [naive.counts(sequence) for sequence in whole],
        [predict(i, sequence) for i, sequence in enumerate(whole)],
    )
    pairs = [
        (i, seen, other)
        for i, sequence in enumerate(whole)
        for seen, other in (cut(sequence), cut(sequence)[::-1])
    ]
    cross = naive.nats(
        [naive.counts(other) for _, _, other in pairs],
        [predict(i, seen) for i, seen, _ in pairs],
    )
    return own, cross


def assert_nats(scored: Reconstruction, name: str, wanted: tuple[float, float]) -> None:
    found = scored.profiles[name]
    assert found.cross is not None
    assert (found.own.mean, found.cross.mean) == pytest.approx(wanted, rel=1e-9)


def test_nats_of_what_knows_no_row(
    rows: FeatureStore, chosen: Indices, scored: Reconstruction
) -> None:
    mean = mean_profile(rows, chosen)
    assert_nats(scored, "mean", both_ways(rows, chosen, lambda i, seen: mean))
    assert scored.profiles["uniform"].own.mean == pytest.approx(math.log(8192))


def test_nats_of_chains(rows: FeatureStore, chosen: Indices, scored: Reconstruction) -> None:
    def predict(i: int, seen: bytes) -> Numbers:
        return np.array(list(naive.markov(seen.decode(), 2, 7).values()))

    few = chosen[:2]
    background = learn_background(rows, few, CPU, Progress())
    model = KmerVAE(small_model(), rows.layout).eval()
    found, _ = score(model, rows, few, background, device=CPU, threads=1)
    assert_nats(found, "markov2", both_ways(rows, few, predict))
    assert "genome_oracle" not in found.profiles


def test_nats_of_the_genome(rows: FeatureStore, chosen: Indices, scored: Reconstruction) -> None:
    mean = mean_profile(rows, chosen)
    codes = rows.source_codes[chosen]
    counts = [naive.counts(sequence) for sequence in rows.sequences(chosen)]

    def predict(i: int, seen: bytes) -> Numbers:
        others = [c for j, c in enumerate(counts) if codes[j] == codes[i] and j != i]
        left = np.sum(others, axis=0) + 4096.0 * mean
        return np.asarray(left / left.sum())

    assert_nats(scored, "genome_oracle", both_ways(rows, chosen, predict))


def test_nats_of_the_model(
    rows: FeatureStore, chosen: Indices, model: KmerVAE, scored: Reconstruction
) -> None:
    from kvae.featurizing import featurize_sequences

    def predict(i: int, seen: bytes) -> Numbers:
        x = torch.from_numpy(featurize_sequences(seen, threads=1))
        with torch.inference_mode():
            decoded = model.generative(model.inference(x).mean)
        return profile_of(decoded, rows.layout.pseudocount)[0].numpy()

    own, cross = both_ways(rows, chosen, predict)
    found = scored.profiles["model"]
    assert found.cross is not None
    # Whole rows come from a file, and batches of several rows round otherwise.
    assert (found.own.mean, found.cross.mean) == pytest.approx((own, cross), rel=1e-5)
    assert found.own.minus_model == (0.0, 0.0)
    uniform = scored.profiles["uniform"].own
    assert uniform.minus_model[0] == pytest.approx(uniform.mean - found.own.mean)


def test_presence_of_rows(rows: FeatureStore, chosen: Indices, scored: Reconstruction) -> None:
    counts = np.array([naive.counts(sequence) for sequence in rows.sequences(chosen)])
    n = counts.sum(axis=1, keepdims=True)
    mean = mean_profile(rows, chosen)
    for name, threshold in THRESHOLDS.items():
        present = counts / n > threshold
        chance = stats.poisson.sf(np.floor(n * threshold), n * mean).clip(1e-12, 1 - 1e-12)
        found = scored.profiles["mean"].presence[name]
        assert found.accuracy == pytest.approx(((chance > 0.5) == present).mean())
        bce = -np.log(np.where(present, chance, 1.0 - chance)).mean()
        assert found.bce == pytest.approx(bce)
        majority = scored.majority[name]
        assert majority.accuracy == pytest.approx(max(present.mean(), 1 - present.mean()))
        often = present.mean(axis=0) > 0.5
        assert scored.kmer_majority[name].accuracy == pytest.approx((present == often).mean())


def test_the_gate_at_its_own_threshold(
    rows: FeatureStore, chosen: Indices, model: KmerVAE, scored: Reconstruction
) -> None:
    counts = rows.counts(chosen, 7)
    present = counts / counts.sum(axis=1, keepdims=True) > model.config.presence_threshold
    with torch.inference_mode():
        latent = model.inference(torch.from_numpy(rows.rows(chosen)))
        gate = model.generative(latent.mean).gate_logit
    assert gate is not None
    assert scored.gate is not None
    assert scored.gate.accuracy == pytest.approx(((gate.numpy() > 0) == present).mean())


def test_squared_errors(
    rows: FeatureStore, chosen: Indices, model: KmerVAE, scored: Reconstruction
) -> None:
    x = rows.rows(chosen).astype(np.float64)
    with torch.inference_mode():
        latent = model.inference(torch.from_numpy(rows.rows(chosen)))
        decoded = model.generative(latent.mean)
    assert list(scored.mse) == ["7-mers", "4-mers", "3-mers", "gc"]
    for name in ("7-mers", "4-mers", "3-mers", "gc"):
        fields = x[:, rows.layout.block(name).slice]
        assert scored.mse[name]["constant"] == pytest.approx(fields.var(axis=0).mean())
    four = decoded.dense["4-mers"].double().numpy() - x[:, rows.layout.block("4-mers").slice]
    assert scored.mse["4-mers"]["model"] == pytest.approx((four**2).mean(), rel=1e-5)


def test_squared_error_of_the_truth(
    rows: FeatureStore, chosen: Indices, scored: Reconstruction
) -> None:
    counts = np.array([naive.counts(sequence) for sequence in rows.sequences(chosen)])
    codes = rows.source_codes[chosen]
    wrong = []
    for i, row in enumerate(counts):
        left = counts[codes == codes[i]].sum(axis=0) - row + 4096.0 * mean_profile(rows, chosen)
        said = np.log(left / left.sum() + 1e-6)
        wrong.append((said - np.log(row / row.sum() + 1e-6)) ** 2)
    assert scored.truth == "genome_oracle"
    assert scored.truth_mse == pytest.approx(np.mean(wrong), rel=1e-5)


def test_halves_without_seven_mers_are_left_out(rows: FeatureStore, tmp_path: Path) -> None:
    import kvae
    from sequences import fasta, write

    whole, half = random_sequence(1200, 1), random_sequence(600, 2) + "N" * 600
    path = write(tmp_path / "a.fna", fasta([("whole", whole), ("half", half)]))
    kvae.featurize(path, tmp_path / "a.arrow", threads=1)
    store = FeatureStore(tmp_path / "a.arrow", threads=1)
    first, second, kept = halves(store, np.arange(2), CPU, 1)
    assert kept.tolist() == [0]
    assert first.n.tolist() == second.n.tolist() == [594.0]


# --- errors of means -----------------------------------------------------------------


def test_what_is_decoded_is_brought_to_where_it_is_scored() -> None:
    decoded = hand_made_output("log")
    moved = _moved(decoded, torch.device("meta"))
    assert moved.value.device.type == moved.dense["4-mers"].device.type == "meta"
    assert (moved.space, moved.floor) == (decoded.space, decoded.floor)
    assert _moved(decoded, CPU) is decoded


def test_errors_are_those_of_groups_where_there_are_many() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(100, 200, 60).astype(np.float64)
    sums = counts * rng.normal(8.0, 0.1, 60)
    rows = np.arange(60)
    value, error = ratio(sums, counts, rows)
    assert value == pytest.approx(sums.sum() / counts.sum())
    residual = sums - value * counts
    assert error == pytest.approx(math.sqrt((residual**2).sum() * 60 / 59) / counts.sum())
    # Rows of one group that are all alike say no more than one of them.
    again = ratio(np.repeat(sums, 3), np.repeat(counts, 3), np.repeat(rows, 3))
    assert again == pytest.approx((value, error))


def test_pooled_counts_leave_nothing_impossible() -> None:
    assert pooled(torch.tensor([0.0, 3.0])).tolist() == [0.125, 0.875]


# --- noise ---------------------------------------------------------------------------


def test_noise_is_the_variance_of_logarithms() -> None:
    """Of many rows of one composition, drawn again, and by the sum over Poisson counts."""
    n, pseudocount = 5000, 1e-6
    counts4 = torch.full((200, 136), 30.0, dtype=torch.float64)
    profile = torch.full((200, 4), 2.5e-4, dtype=torch.float64)
    counts7 = torch.tensor([[n, 0, 0, 0]] * 200, dtype=torch.float64)
    gc = torch.full((200,), 0.4, dtype=torch.float64)
    found = SamplingNoise(pseudocount)({7: counts7, 4: counts4}, profile, gc)

    def variance(rate: float, size: int) -> float:
        count = np.arange(200)
        p = stats.poisson.pmf(count, rate)
        logarithm = np.log(count / size + pseudocount)
        return float((p * logarithm**2).sum() - (p * logarithm).sum() ** 2)

    assert found["7-mers"] / 800 == pytest.approx(variance(n * 2.5e-4, n), rel=0.1)
    assert found["4-mers"] / 27_200 == pytest.approx(variance(30.0, 30 * 136), rel=0.05)
    assert found["gc"] / 200 == pytest.approx(0.6 / (0.4 * n))


def test_noise_of_rows(scored: Reconstruction) -> None:
    for mse in scored.mse.values():
        assert 0 < mse["noise"] < mse["constant"]
