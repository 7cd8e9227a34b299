"""Profiles that are moved towards a row's own 4-mers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import naive_scores as naive
from kvae.layout import kmers
from kvae.model.tilting import tilted
from reference import reverse_complement
from sequences import random_sequence


def words(profile_K: Tensor) -> dict[str, float]:
    """Shares of 4-mers in a profile of 7-mers, word by word."""
    found = dict.fromkeys(kmers(4), 0.0)
    for kmer, p in zip(kmers(7), profile_K.tolist(), strict=True):
        for i in range(4):
            word = kmer[i : i + 4]
            found[min(word, reverse_complement(word))] += p / 4
    return found


def profile(seed: int) -> Tensor:
    draw = np.random.default_rng(seed).gamma(0.8, size=8192) + 1e-3
    return torch.from_numpy(draw / draw.sum())[None]


def counted(sequence: str) -> Tensor:
    return torch.from_numpy(naive.counts(sequence.encode(), 4))[None].double()


@settings(max_examples=10)
@given(seed=st.integers(0, 1000), prior=st.sampled_from([4096.0, 20_000.0]))
def test_shares_are_between_the_profile_s_and_the_row_s(seed: int, prior: float) -> None:
    start, counts = profile(seed), counted(random_sequence(5000, seed))
    found = tilted(start, counts, prior=prior)
    assert found.sum().item() == pytest.approx(1.0)
    n = counts.sum().item()
    before, after = words(start[0]), words(found[0])
    for word, count in zip(kmers(4), counts[0].tolist(), strict=True):
        wanted = (count + prior * before[word]) / (n + prior)
        assert after[word] == pytest.approx(wanted, rel=0.02)


def test_no_other_profile_with_these_shares_is_nearer() -> None:
    """It is the given one times a factor for each word, which is what the nearest is."""
    start = profile(1)
    found = tilted(start, counted(random_sequence(5000, 2)))
    change_K = (found / start).log()[0].numpy()
    place = {word: i for i, word in enumerate(kmers(4))}
    table = np.zeros((8192, 137))
    table[:, -1] = 1.0
    for row, kmer in enumerate(kmers(7)):
        for i in range(4):
            word = kmer[i : i + 4]
            table[row, place[min(word, reverse_complement(word))]] += 1.0
    fitted = table @ np.linalg.lstsq(table, change_K, rcond=None)[0]
    assert np.abs(change_K).max() > 0.05
    assert fitted == pytest.approx(change_K, abs=1e-9)


def test_rows_are_tilted_one_by_one() -> None:
    start = torch.cat([profile(3), profile(4)])
    counts = torch.cat([counted(random_sequence(5000, 5)), counted(random_sequence(900, 6))])
    both = tilted(start, counts)
    for i in (0, 1):
        assert torch.allclose(both[i], tilted(start[i : i + 1], counts[i : i + 1])[0])


def test_few_kmers_or_a_heavy_prior_change_little() -> None:
    start = profile(7)
    assert torch.allclose(tilted(start, torch.zeros(1, 136, dtype=torch.float64)), start)
    heavy = tilted(start, counted(random_sequence(5000, 8)), prior=1e12)
    assert torch.allclose(heavy, start, rtol=1e-6)
