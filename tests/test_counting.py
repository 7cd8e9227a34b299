"""Counts and features of sequences in memory."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import kvae
import reference
from sequences import random_sequence

KS = range(1, 9)
NO_BASES = "NRYSWKMBDHVnryswkmbdhv-*.x5 \n"

bases = st.text("ACGT", max_size=200)
letters = st.text("ACGTacgtUu" * 4 + NO_BASES, max_size=200)
some_ks = st.lists(st.sampled_from(KS), min_size=1, max_size=4, unique=True)


def counted(sequence: str, k: int) -> dict[str, int]:
    """Counts by name, without the columns that are zero."""
    counts = kvae.count_kmers(sequence, k)[0]
    names = kvae.kmers(k)
    return {names[i]: int(counts[i]) for i in np.flatnonzero(counts)}


def features(*sequences: str, ks: tuple[int, ...] = (7, 4, 3)) -> NDArray[np.float32]:
    return kvae.featurize_sequences(sequences, k=ks)


# --- counts --------------------------------------------------------------------------


@pytest.mark.parametrize("k", KS)
@given(sequence=letters)
def test_counts_are_those_of_the_definition(k: int, sequence: str) -> None:
    assert counted(sequence, k) == reference.count(sequence, k)


@pytest.mark.parametrize("k", KS)
def test_every_length_around_every_edge(k: int) -> None:
    """Lengths 0 to 200, with nothing, a gap or gaps in them."""
    sequences = []
    for length in range(201):
        sequence = random_sequence(length, seed=k)
        sequences.append(sequence)
        if length:
            middle = length // 2
            sequences.append(sequence[:middle] + "N" + sequence[middle + 1 :])
            sequences.append(random_sequence(length, seed=k, letters="ACGT" * 8 + "N"))
    counts = kvae.count_kmers(sequences, k)
    for sequence, row in zip(sequences, counts, strict=True):
        assert row.tolist() == reference.count_all(sequence, k), sequence


@given(sequence=letters, k=st.sampled_from(KS))
def test_counts_add_up_to_the_valid_windows(sequence: str, k: int) -> None:
    assert kvae.count_kmers(sequence, k).sum() == reference.valid_windows(sequence, k)


@given(sequence=letters, k=st.sampled_from(KS))
def test_the_other_strand_has_the_same_counts(sequence: str, k: int) -> None:
    other = reference.reverse_complement(reference.normalize(sequence))
    np.testing.assert_array_equal(kvae.count_kmers(other, k), kvae.count_kmers(sequence, k))


@given(sequence=letters, k=st.sampled_from(KS))
def test_case_and_u_do_not_matter(sequence: str, k: int) -> None:
    spellings = [
        sequence,
        sequence.upper(),
        sequence.lower(),
        sequence.replace("T", "U").replace("t", "u"),
        reference.normalize(sequence),
    ]
    counts = kvae.count_kmers(spellings, k)
    assert (counts == counts[0]).all()


@given(a=letters, b=letters, gap=st.sampled_from(NO_BASES), k=st.sampled_from(KS))
def test_no_window_crosses_a_letter_that_is_no_base(a: str, b: str, gap: str, k: int) -> None:
    joined = kvae.count_kmers(a + gap + b, k)
    np.testing.assert_array_equal(joined[0], kvae.count_kmers([a, b], k).sum(axis=0))


@pytest.mark.parametrize("letter", [chr(i) for i in range(256)])
def test_every_letter_is_a_base_or_breaks_windows(letter: str) -> None:
    is_base = letter in "ACGTUacgtu"
    assert kvae.count_kmers(f"AC{letter}GT", 2).sum() == (4 if is_base else 2)
    assert kvae.count_kmers(letter.encode("latin-1"), 1).sum() == is_base


@pytest.mark.parametrize("k", [2, 4, 6, 8])
def test_a_palindrome_counts_once_per_occurrence(k: int) -> None:
    palindrome = "ACGT" * 2
    palindrome = palindrome[4 - k // 2 : 4 + k // 2]
    assert palindrome == reference.reverse_complement(palindrome)
    assert counted("N".join([palindrome] * 3), k) == {palindrome: 3}


@pytest.mark.parametrize("k", KS)
@pytest.mark.parametrize("base", "ACGT")
def test_a_long_homopolymer_is_counted_exactly(base: str, k: int) -> None:
    length = 1_000_003
    assert counted(base * length, k) == {reference.canonical(base * k): length - k + 1}


def test_a_long_repeat_is_counted_exactly() -> None:
    """Past 65,536 in a handful of columns at a time, with gaps between."""
    sequence = ("ACGTTGCA" * 40_000 + "N") * 3
    for k in (3, 4, 7):
        assert counted(sequence, k) == reference.count(sequence, k)


@pytest.mark.parametrize("k", [3, 7, 8])
def test_long_sequences_are_the_sum_of_their_parts(k: int) -> None:
    """Long enough for every way of counting that a sequence may take."""
    sequence = random_sequence(400_000, letters="ACGT" * 1000 + "N")
    cuts = [0, 1, 999, 70_000, 70_007, 200_000, 333_333, 400_000]
    parts = [sequence[a : b + k - 1] for a, b in pairwise(cuts)]
    whole = kvae.count_kmers(sequence, k)[0]
    np.testing.assert_array_equal(whole, kvae.count_kmers(parts, k).sum(axis=0))
    assert whole.sum() == reference.valid_windows(sequence, k)


# --- features ------------------------------------------------------------------------


@given(sequence=st.text("ACGTacgtUu" * 4 + NO_BASES, min_size=1, max_size=200), ks=some_ks)
def test_features_are_those_of_the_definition(sequence: str, ks: list[int]) -> None:
    (row,) = kvae.featurize_sequences(sequence, k=ks)
    assert list(reference.wrong_fields(row.tolist(), reference.row(sequence, ks))) == []


@pytest.mark.parametrize(
    "sequence",
    [
        random_sequence(5_000),
        random_sequence(9_999, letters="ACGT" * 100 + "N"),
        random_sequence(40_000, letters="AAAAAAT"),
        "G" * 6_000,
        "A" * 6_000,
        "CG" * 3_000,
        "A" * 300_000 + random_sequence(300_000),
        "N" * 2_000 + "ACGTACG" + "N" * 2_000,
    ],
    ids=["random", "gaps", "rich in A", "GGG", "AAA", "CGCG", "long", "one 7-mer"],
)
def test_features_of_real_lengths(sequence: str) -> None:
    (row,) = features(sequence)
    assert list(reference.wrong_fields(row.tolist(), reference.row(sequence))) == []


@given(sequence=st.text("ACGTN", min_size=1, max_size=200))
def test_the_other_strand_has_the_same_row(sequence: str) -> None:
    a, b = features(sequence, reference.reverse_complement(sequence))
    np.testing.assert_array_equal(a, b)


@given(sequence=st.text("ACGTUacgtu" + NO_BASES, min_size=1, max_size=200))
def test_case_and_u_do_not_matter_to_rows(sequence: str) -> None:
    rows = features(sequence, sequence.upper(), sequence.lower(), sequence.replace("U", "T"))
    assert (rows == rows[0]).all()


def test_what_is_absent() -> None:
    """The logarithm of the pseudocount, in blocks without windows and without GC."""
    (row,) = features("NNNNNNNN")
    assert row[0] == np.float32(np.log(8))
    np.testing.assert_array_equal(row[1:], np.float32(np.log(1e-6)))
    assert abs(row[1] - -13.8155) < 1e-4


def test_length_counts_all_letters_and_gc_bases_only() -> None:
    (row,) = features("GNNCSSSSAT")
    layout = kvae.Layout.from_ks((7, 4, 3))
    assert np.isclose(row[layout.block("length").start], np.log(10))
    assert np.isclose(row[layout.block("gc").start], np.log(0.5 + 1e-6))


def test_blocks_do_not_depend_on_what_else_is_asked_for() -> None:
    sequence = random_sequence(7_000, letters="ACGT" * 200 + "N")
    wide = kvae.Layout.from_ks((7, 6, 5, 4, 3))
    (row,) = features(sequence, ks=(3, 4, 5, 6, 7))
    assert row.shape == (10954,)
    np.testing.assert_array_equal(row[:8362], features(sequence)[0])
    for k in range(3, 8):
        alone = kvae.Layout.from_ks([k]).block(f"{k}-mers").slice
        block = wide.block(f"{k}-mers").slice
        np.testing.assert_array_equal(row[block], features(sequence, ks=(k,))[0][alone])


# --- arrays --------------------------------------------------------------------------


def is_owner(array: NDArray[Any]) -> bool:
    """Whether the array, or the one it is a shape of, holds its buffer itself.

    A buffer that was made elsewhere hangs on an object which is no array.
    """
    base: Any = array
    while isinstance(base, np.ndarray):
        if base.flags.owndata:
            return True
        base = base.base
    return base is not None and not isinstance(base, bytes | bytearray | memoryview)


def test_arrays_are_ordinary_ones_with_a_buffer_of_their_own() -> None:
    sequences = [random_sequence(500, seed) for seed in range(100)]
    counts = kvae.count_kmers(sequences, 4)
    rows = features(*sequences)
    assert counts.dtype == np.uint32
    assert counts.shape == (100, 136)
    assert rows.dtype == np.float32
    assert rows.shape == (100, 8362)
    for array in (counts, rows):
        assert array.flags.c_contiguous
        assert array.flags.writeable
        assert array.flags.aligned
        assert is_owner(array)
    expected = rows.copy()
    again = features(*sequences)
    assert not np.shares_memory(rows, again)
    again[:] = 0.0
    del again, sequences
    np.testing.assert_array_equal(rows, expected)


def test_no_sequence_is_an_array_without_rows() -> None:
    assert kvae.count_kmers([], 7).shape == (0, 8192)
    assert kvae.featurize_sequences([]).shape == (0, 8362)


def test_one_sequence_is_a_row_and_any_iterable_is_one_each() -> None:
    sequences = ["ACGTACGTA", "GGGG"]
    expected = kvae.count_kmers(sequences, 4)
    np.testing.assert_array_equal(kvae.count_kmers(tuple(sequences), 4), expected)
    np.testing.assert_array_equal(kvae.count_kmers(iter(sequences), 4), expected)
    np.testing.assert_array_equal(kvae.count_kmers((s for s in sequences), 4), expected)
    np.testing.assert_array_equal(kvae.count_kmers(sequences[0], 4), expected[:1])
    np.testing.assert_array_equal(kvae.featurize_sequences("GGGG"), features(*sequences)[1:])


def test_text_and_bytes_are_the_same() -> None:
    sequences = [random_sequence(300, seed, "ACGTNacgtu") for seed in range(20)]
    encoded = [sequence.encode() for sequence in sequences]
    mixed = [s if i % 2 else b for i, (s, b) in enumerate(zip(sequences, encoded, strict=True))]
    for given_as in (encoded, mixed):
        np.testing.assert_array_equal(kvae.count_kmers(given_as, 7), kvae.count_kmers(sequences, 7))
        np.testing.assert_array_equal(kvae.featurize_sequences(given_as), features(*sequences))
    np.testing.assert_array_equal(
        kvae.count_kmers(encoded[0], 3), kvae.count_kmers(sequences[0], 3)
    )


CALLS: list[Callable[[Any], object]] = [lambda x: kvae.count_kmers(x, 4), kvae.featurize_sequences]


@pytest.mark.parametrize("call", CALLS, ids=["count_kmers", "featurize_sequences"])
@pytest.mark.parametrize(
    "wrong", [None, 7, 1.5, [None], ["ACGT", 7], [["ACGT"]], np.zeros((2, 3)), {1: "ACGT"}], ids=str
)
def test_other_types_are_refused(call: Callable[[Any], object], wrong: Any) -> None:
    with pytest.raises(TypeError):
        call(wrong)


@pytest.mark.parametrize("k", [-1, 0, 9, 2**40])
def test_an_impossible_k_is_refused(k: int) -> None:
    with pytest.raises(kvae.KvaeError):
        kvae.count_kmers("ACGT", k)
    with pytest.raises(kvae.KvaeError):
        kvae.featurize_sequences("ACGT", k=[k])


@pytest.mark.parametrize("ks", [[], [7, 7]])
def test_impossible_blocks_are_refused(ks: list[int]) -> None:
    with pytest.raises(kvae.KvaeError):
        kvae.featurize_sequences("ACGT", k=ks)


def test_an_empty_sequence_has_counts_but_no_row() -> None:
    assert kvae.count_kmers(["", "A"], 1).tolist() == [[0, 0], [1, 0]]
    with pytest.raises(kvae.KvaeError, match="sequence 1 is empty"):
        features("A", "")


# --- arrays of the caller ------------------------------------------------------------


def test_results_can_go_into_an_array_that_is_there() -> None:
    sequences = mixed_sequences()
    rows = np.full((len(sequences), 8362), np.nan, np.float32)
    assert kvae.featurize_sequences(sequences, out=rows) is rows
    assert rows.tobytes() == kvae.featurize_sequences(sequences).tobytes()
    counts = np.full((len(sequences) + 2, 136), 7, np.uint32)
    kvae.count_kmers(sequences, 4, out=counts[1:-1])
    assert counts[1:-1].tobytes() == kvae.count_kmers(sequences, 4).tobytes()
    assert (counts[[0, -1]] == 7).all()


def test_arrays_that_do_not_fit_are_refused() -> None:
    read_only = np.empty((1, 136), np.uint32)
    read_only.flags.writeable = False
    for out, message in [
        (np.empty((2, 136), np.uint32), r"out has the shape \(2, 136\), the result \(1, 136\)"),
        (np.empty((136, 1), np.uint32).T, None),
        (np.empty((136, 3), np.uint32)[:, :1].T, "out is not contiguous"),
        (read_only, "out cannot be written"),
    ]:
        if message is None:
            kvae.count_kmers("ACGT", 4, out=out)
            continue
        with pytest.raises(kvae.KvaeError, match=message):
            kvae.count_kmers("ACGT", 4, out=out)
    with pytest.raises(TypeError):
        kvae.count_kmers("ACGT", 4, out=np.empty((1, 136), np.int64))


# --- threads and instructions --------------------------------------------------------


def mixed_sequences() -> list[str]:
    return [random_sequence(i * 37 % 4000 + 1, i, "ACGT" * 50 + "N") for i in range(150)]


def test_threads_do_not_matter() -> None:
    sequences = mixed_sequences()
    counts = [kvae.count_kmers(sequences, 7, threads=n).tobytes() for n in (1, 2, 5)]
    rows = [kvae.featurize_sequences(sequences, threads=n).tobytes() for n in (1, 2, 5)]
    assert len(set(counts)) == len(set(rows)) == 1
    assert kvae.featurize_sequences(sequences).tobytes() == rows[0]


def test_other_threads_go_on_meanwhile() -> None:
    """The interpreter is free while sequences are counted."""
    sequences = [random_sequence(1_000_000).encode()] * 300
    ticks = 0
    done = threading.Event()

    def tick() -> None:
        nonlocal ticks
        while not done.wait(0.001):
            ticks += 1

    ticker = threading.Thread(target=tick)
    ticker.start()
    during = 0
    # Once is enough; a busy machine may leave the other thread no processor meanwhile.
    for _ in range(5):
        before = ticks
        kvae.count_kmers(sequences, 8, threads=1)
        during = max(during, ticks - before)
    done.set()
    ticker.join()
    assert during > 5


DIGEST = """
import hashlib
import kvae
from test_counting import mixed_sequences
sequences = mixed_sequences()
digest = hashlib.sha256(kvae.featurize_sequences(sequences, k=range(1, 9)).tobytes())
for k in range(1, 9):
    digest.update(kvae.count_kmers(sequences, k).tobytes())
print(digest.hexdigest())
"""


def test_instructions_do_not_matter() -> None:
    """Every set that this machine has gives the same bytes."""

    def run(backend: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"KVAE_SIMD": backend, "PYTHONPATH": os.path.dirname(__file__)}
        command = [sys.executable, "-c", DIGEST]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    digests = {}
    for backend in ("scalar", "avx2", "avx512"):
        result = run(backend)
        if result.returncode == 0:
            digests[backend] = result.stdout
        else:
            assert "lacks the instructions" in result.stderr
    assert "scalar" in digests
    assert len(set(digests.values())) == 1, digests
    unknown = run("mmx")
    assert unknown.returncode == 1
    assert "KVAE_SIMD=mmx" in unknown.stderr
