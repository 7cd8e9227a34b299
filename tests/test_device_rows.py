"""Rows that are computed by torch from packed sequences, on the CPU here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import kvae
from kvae import device_rows
from kvae.device_rows import (
    INVALID,
    DeviceRows,
    PackedSequences,
    RowAssembler,
    SequenceCounter,
    canonical_columns,
)
from kvae.loading import BatchLoader
from sequences import fasta, random_sequence, write

CPU = torch.device("cpu")


def codes(sequence: str) -> list[int]:
    return ["ACGT".index(letter) if letter in "ACGT" else INVALID for letter in sequence]


@pytest.mark.parametrize("k", range(1, 8))
def test_columns_are_those_of_the_layout(k: int) -> None:
    columns = canonical_columns(k)
    for column, kmer in enumerate(kvae.kmers(k)):
        reverse = kmer[::-1].translate(str.maketrans("ACGT", "TGCA"))
        for word in (kmer, reverse):
            assert columns[int("".join(map(str, codes(word))), 4)] == column


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text("ACGTN", min_size=8, max_size=60), min_size=1, max_size=6))
def test_counts_are_exact(sequences: list[str]) -> None:
    longest = max(map(len, sequences))
    padded = [codes(sequence.ljust(longest, "N")) for sequence in sequences]
    counts = SequenceCounter((7, 4, 1))(torch.tensor(padded, dtype=torch.uint8))
    for k, counted in counts.items():
        np.testing.assert_array_equal(counted.numpy(), kvae.count_kmers(sequences, k))


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> kvae.FeatureStore:
    """Rows of all lengths, with and without gaps, in several record batches."""
    folder: Path = tmp_path_factory.mktemp("device")
    letters = ["ACGT", "ACGT" * 30 + "N", "ACGT" * 8 + "NN", "AT", "GC" * 9 + "R"]
    records = [
        (f"c{i}", random_sequence(30 + 13 * i % 997, seed=i, letters=letters[i % 5]))
        for i in range(700)
    ]
    write(folder / "a.fna", fasta(records))
    kvae.featurize(
        folder / "a.fna", folder / "a.arrow", store="packed", window=300, min_length=1, k=[7, 5, 2]
    )
    return kvae.FeatureStore(folder / "a.arrow")


@pytest.mark.parametrize("at_a_time", [1, 2_000, 1 << 26])
def test_rows_are_those_of_the_store(
    stored: kvae.FeatureStore, monkeypatch: pytest.MonkeyPatch, at_a_time: int
) -> None:
    monkeypatch.setattr(device_rows, "LETTERS_AT_A_TIME", at_a_time)
    rows = DeviceRows(PackedSequences.of(stored.packed, CPU), stored.layout)
    rng = np.random.default_rng(0)
    for indices in (np.arange(64), rng.integers(0, len(stored), 300), np.array([5])):
        x = rows(torch.from_numpy(indices)).numpy()
        assert x.dtype == np.float32
        np.testing.assert_allclose(x, stored.rows(indices), rtol=0, atol=2e-6)


def test_sequences_are_unpacked_with_their_gaps(stored: kvae.FeatureStore) -> None:
    packed = PackedSequences.of(stored.packed, CPU)
    indices = np.arange(0, len(stored), 7)
    letters = packed.codes(torch.from_numpy(indices)).numpy()
    for row, sequence in zip(letters, stored.sequences(indices), strict=True):
        expected = codes(sequence.decode())
        assert row[: len(expected)].tolist() == expected
        assert (row[len(expected) :] == INVALID).all()


def test_counts_become_rows(stored: kvae.FeatureStore) -> None:
    indices = np.arange(100)
    counts = {
        k: torch.from_numpy(stored.counts(indices, k).astype(np.int32)) for k in stored.layout.ks
    }
    length = torch.from_numpy(stored.column("length").to_numpy()[indices].astype(np.int64))
    gc = torch.from_numpy(stored.column("gc").to_numpy()[indices])
    x = RowAssembler(stored.layout)(counts, length, gc).numpy()
    np.testing.assert_allclose(x, stored.rows(indices), rtol=0, atol=2e-6)


def test_a_loader_may_keep_the_sequences_on_the_device(stored: kvae.FeatureStore) -> None:
    batches = np.array_split(np.random.default_rng(1).permutation(len(stored)), 9)
    resident = BatchLoader(stored, CPU, resident=True)
    for _ in range(2):
        for batch, rows in zip(resident(batches), batches, strict=True):
            assert batch.rows is rows
            np.testing.assert_allclose(batch.x, stored.rows(rows), rtol=0, atol=2e-6)


def test_only_packed_files_have_sequences_to_copy(tmp_path: Path) -> None:
    write(tmp_path / "a.fna", fasta([("a", random_sequence(3_000))]))
    kvae.featurize(tmp_path / "a.fna", tmp_path / "a.arrow")
    with pytest.raises(kvae.KvaeError, match="keeps log"):
        _ = kvae.FeatureStore(tmp_path / "a.arrow").packed
