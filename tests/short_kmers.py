"""Real rows of short k-mers: what models of 7-mers do, in a thousandth of the time.

5-mers play the part of the 7-mers, 2-mers that of blocks which only the encoder
sees. Unlike the rows of `small`, these are counts of sequences, so their blocks
belong together.
"""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import numpy as np
import torch

import kvae
from kvae.config import RunConfig
from kvae.layout import Layout
from kvae.training.options import configure
from small import MemoryStore

KS = (5, 4, 3, 2)

_SMALL: dict[str, Any] = {
    "encoder.branches": [
        {"block": "5-mers", "hidden": [12, 8]},
        {"block": "4-mers", "hidden": [8]},
        {"block": "3-mers", "hidden": [6]},
    ],
    "encoder.shared": [10],
    "latent": 7,
    "decoder.shared": [9, 8],
    "decoder.sparse": {
        "block": "5-mers",
        "value_hidden": [8],
        "gate_hidden": [6],
        "readout": {"kind": "dot", "embedding": 4},
    },
    "decoder.dense": [{"block": "4-mers", "hidden": [6]}, {"block": "3-mers", "hidden": [5]}],
    "presence_threshold": 1e-5,
}


# The preset kvae, as small; its rows have no 2-mers.
PROFILE_KS = (5, 4, 3)
PROFILE: dict[str, Any] = {
    "encoder": {"compressed": "5-mers", "components": 8, "hidden": [10, 9]},
    "latent": 5,
    "decoder.shared": [9, 8],
    "decoder.sparse": _SMALL["decoder.sparse"],
}


@cache
def short_layout() -> Layout:
    return Layout.from_ks(KS)


def short_run(**changes: Any) -> RunConfig:
    """Configuration of a small model of these rows, with changes."""
    return configure("dot", changes=_SMALL | changes)


def profile_run(**changes: Any) -> RunConfig:
    """Configuration of a small model of the preset kvae, with changes."""
    return configure("kvae", changes=PROFILE | changes)


@cache
def profile_layout() -> Layout:
    return Layout.from_ks(PROFILE_KS)


def profile_rows(sequences: list[str]) -> torch.Tensor:
    return torch.from_numpy(kvae.featurize_sequences(sequences, k=PROFILE_KS))


def profile_store(n: int = 43, n_sources: int = 6) -> MemoryStore:
    """Rows of sequences, of a contig each, without the sequences."""
    data = profile_rows(short_sequences(n)).numpy()
    codes = np.arange(n, dtype=np.int32) * n_sources // n
    names = [f"contig_{i}" for i in range(n)]
    sources = [f"genome_{i}.fna" for i in range(n_sources)]
    return MemoryStore(data, profile_layout(), codes.astype(np.int32), sources, names)


@cache
def short_sequences(n: int = 24) -> list[str]:
    """Sequences of 300 to 700 bases whose compositions differ."""
    random_numbers = random.Random(n)
    sequences = []
    for _ in range(n):
        gc = random_numbers.uniform(0.25, 0.75)
        weights = [1.0 - gc, gc, gc, 1.0 - gc]
        length = random_numbers.randint(300, 700)
        sequences.append("".join(random_numbers.choices("ACGT", weights, k=length)))
    return sequences


@cache
def short_rows() -> torch.Tensor:
    return torch.from_numpy(kvae.featurize_sequences(short_sequences(), k=KS))
