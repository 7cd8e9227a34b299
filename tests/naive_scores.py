"""Scores of an evaluation once more, by their definitions, in loops."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from reference import canonical, columns, count_all, reverse_complement

Numbers = NDArray[np.float64]


def markov(sequence: str, order: int, k: int) -> dict[str, float]:
    """Profile of canonical k-mers under the chain of a sequence and its other strand."""
    words: Counter[str] = Counter()
    for strand in (sequence, reverse_complement(sequence)):
        windows = (strand[i : i + order + 1] for i in range(len(strand) - order))
        words.update(window for window in windows if "N" not in window)
    chance = {word: words[word] + 0.5 for word in map("".join, product("ACGT", repeat=order + 1))}
    overlap = {
        word: 0.5 * sum(chance[word + base] + chance[base + word] for base in "ACGT")
        for word in map("".join, product("ACGT", repeat=order))
    }
    profile = dict.fromkeys(columns(k), 0.0)
    for kmer in map("".join, product("ACGT", repeat=k)):
        p = 1.0
        for i in range(k - order):
            p *= chance[kmer[i : i + order + 1]]
        for i in range(1, k - order):
            p /= overlap[kmer[i : i + order]]
        profile[canonical(kmer)] += p
    total = sum(profile.values())
    return {kmer: p / total for kmer, p in profile.items()}


def counts(sequence: bytes, k: int = 7) -> Numbers:
    return np.array(count_all(sequence.decode(), k), dtype=np.float64)


def nats(scored: Sequence[Numbers], profiles: Sequence[Numbers]) -> float:
    """Cross-entropy per k-mer of counts under profiles, cell by cell."""
    total = sum(
        -c * math.log(p)
        for row, profile in zip(scored, profiles, strict=True)
        for c, p in zip(row.tolist(), profile.tolist(), strict=True)
        if c
    )
    return float(total / sum(row.sum() for row in scored))


def neighbours(vectors: Numbers, row: int, n: int) -> list[int]:
    """Nearest other rows, the nearest first."""
    others = [i for i in range(len(vectors)) if i != row]
    return sorted(others, key=lambda i: float(((vectors[i] - vectors[row]) ** 2).sum()))[:n]


def knn_accuracy(vectors: Numbers, labels: Sequence[str], n: int = 5) -> float:
    """Share of rows that most of their neighbours label right, of those not alone."""
    sizes = Counter(labels)
    right = []
    for row, label in enumerate(labels):
        if sizes[label] < 2:
            continue
        near = [labels[i] for i in neighbours(vectors, row, n)]
        votes = Counter(near)
        # The nearest of those with the most votes.
        winner = next(name for name in near if votes[name] == max(votes.values()))
        right.append(winner == label)
    return sum(right) / len(right)


def recall(vectors: Numbers, labels: Sequence[str], n: int) -> float:
    """Share of rows with one of their label among their neighbours, of those not alone."""
    sizes = Counter(labels)
    found = [
        label in [labels[i] for i in neighbours(vectors, row, n)]
        for row, label in enumerate(labels)
        if sizes[label] > 1
    ]
    return sum(found) / len(found)
