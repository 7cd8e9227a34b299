"""Rows of halves against those of the letters that they are of."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import kvae
from kvae.halves import Halves, halves_of
from kvae.loading import BatchLoader
from kvae.resampling import ResampledRows, open_resampled
from sequences import fasta, random_sequence, write
from small import MemoryStore, Rows

KS = (5, 3)
WINDOW, SHORTEST = 300, 120
CPU = torch.device("cpu")

Kind = Literal["log", "counts", "packed"]


def records() -> list[tuple[str, str]]:
    """Contigs of several lengths, some with gaps and one with hardly any base."""
    letters = ["ACGT", "AACGT", "ACGT" * 20 + "N", "ACG" + "N" * 30]
    return [
        (f"c{i}", random_sequence(SHORTEST + 97 * i, seed=i, letters=letters[i % 4]))
        for i in range(12)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("halves")
    write(path / "a.fna", fasta(records()[:7]))
    write(path / "b.fna", fasta(records()[7:]))
    return path


def stored(folder: Path, kind: Kind, *, sequence: bool = True) -> kvae.FeatureStore:
    path = folder / f"{kind}-{sequence}.arrow"
    if not path.exists():
        kvae.featurize(
            [folder / "a.fna", folder / "b.fna"],
            path,
            k=KS,
            window=WINDOW,
            min_length=SHORTEST,
            store=kind,
            sequence=sequence,
        )
    return kvae.FeatureStore(path)


def resampled(folder: Path) -> ResampledRows:
    return open_resampled(folder, k=KS, window=WINDOW, min_length=SHORTEST, seed=3)


def letters_of(source: Any) -> list[str]:
    """Letters of every row, by what the row says of itself."""
    whole = dict(records())
    columns = [source.column(name).to_pylist() for name in ("id", "start", "end")]
    return [whole[name][start:end] for name, start, end in zip(*columns, strict=True)]


def check(halves: Halves, indices: list[int]) -> list[float]:
    """Compare halves with the features of substrings; where rows were cut, as shares."""
    rows = halves.rows(np.array(indices))
    n = len(indices)
    assert rows.shape == (2 * n, halves.layout.n_fields)
    letters = [letters_of(halves)[i] for i in indices]
    cuts = np.rint(np.exp(rows[:n, 0].astype(np.float64))).astype(int).tolist()
    parts = [s[:cut] for s, cut in zip(letters, cuts, strict=True)]
    parts += [s[cut:] for s, cut in zip(letters, cuts, strict=True)]
    np.testing.assert_array_equal(rows, kvae.featurize_sequences(parts, k=KS))
    return [cut / len(s) for s, cut in zip(letters, cuts, strict=True)]


@pytest.mark.parametrize("kind", ["log", "counts", "packed"])
def test_halves_are_rows_of_substrings(folder: Path, kind: Kind) -> None:
    halves = halves_of(stored(folder, kind), seed=1)
    everything = list(range(len(halves)))
    assert len(halves) > len(records())
    lengths = halves.column("length").to_numpy()
    shares = check(halves, everything)
    assert shares == [(length // 2) / length for length in lengths.tolist()]
    check(halves, [5, 2, 2, 9])
    halves.redraw(1)
    shares = check(halves, everything)
    assert all(0.34 < share < 0.65 for share in shares)
    assert len(set(np.round(shares, 2))) > 5
    with pytest.raises(IndexError):
        halves.rows(np.array([len(halves)]))


def test_windows_that_are_drawn_are_halved(folder: Path) -> None:
    halves = halves_of(resampled(folder), seed=3)
    plain = resampled(folder)
    everything = list(range(len(halves)))
    assert set(check(halves, everything)) <= {(n // 2) / n for n in range(1, 2 * WINDOW)}
    halves.redraw(2)
    plain.redraw(2)
    assert letters_of(halves) == letters_of(plain)
    shares = check(halves, everything)
    assert all(0.34 < share < 0.65 for share in shares)
    halves.restore()
    plain.restore()
    assert letters_of(halves) == letters_of(plain)
    check(halves, everything)


@pytest.mark.parametrize("kind", ["packed", "resampled", "divided"])
def test_cuts_depend_on_seed_and_epoch_alone(folder: Path, kind: str) -> None:
    def make(seed: int) -> Halves:
        if kind == "resampled":
            return halves_of(resampled(folder), seed)
        if kind == "divided":
            return halves_of(stored(folder, "counts", sequence=False), seed)
        return halves_of(stored(folder, "packed"), seed)

    def rows(halves: Halves, *epochs: int) -> Rows:
        for epoch in epochs:
            halves.redraw(epoch)
        return halves.rows(np.arange(len(halves)))

    one = make(7)
    first = rows(one)
    drawn = rows(one, 1, 4)
    np.testing.assert_array_equal(drawn, rows(make(7), 4))
    assert (drawn != rows(make(7), 5)).any()
    assert (drawn != rows(make(8), 4)).any()
    assert (drawn != first).any()
    one.restore()
    np.testing.assert_array_equal(rows(one), first)


def test_halves_say_of_themselves_what_their_rows_do(folder: Path) -> None:
    store = stored(folder, "packed")
    halves = Halves(store, seed=0)
    assert len(halves) == len(store)
    assert (halves.path, halves.layout) == (store.path, store.layout)
    assert list(halves.source_names) == store.source_names
    np.testing.assert_array_equal(halves.source_codes, store.source_codes)
    assert halves.ids.to_pylist() == store.ids.to_pylist()
    for name in ("start", "end", "length"):
        assert halves.column(name).to_pylist() == store.column(name).to_pylist()


# --- without sequences ---------------------------------------------------------------


@pytest.mark.parametrize("kind", ["log", "counts"])
def test_divided_counts_add_up_to_those_of_the_row(folder: Path, kind: Kind) -> None:
    store = stored(folder, kind, sequence=False)
    assert not store.has_sequences
    with pytest.raises(KeyError):
        store.stretches_of(np.array([0]))
    halves = halves_of(store, seed=5)
    complete = [i for i, letters in enumerate(letters_of(store)) if "N" not in letters]
    assert len(complete) > 5
    indices = np.array(complete)
    for epoch in (0, 1):
        if epoch:
            halves.redraw(epoch)
        parts = halves.rows(indices).reshape(2, len(indices), -1)
        for k in KS:
            fields = store.layout.block(f"{k}-mers").slice
            share = np.exp(parts[:, :, fields].astype(np.float64)) - store.layout.pseudocount
            np.testing.assert_allclose(share.sum(axis=2), 1.0, atol=1e-4)
            for i, counts in enumerate(store.counts(indices, k)):
                # How many k-mers each part has: the numbers with which they add up.
                n, *_ = np.linalg.lstsq(share[:, i].T, counts.astype(float), rcond=None)
                assert n.sum() == pytest.approx(counts.sum(), rel=1e-3)
                both = np.rint(share[:, i] * np.rint(n)[:, None])
                np.testing.assert_array_equal(both.sum(axis=0), counts)
                assert 0.2 < n[0] / n.sum() < 0.8
        lengths = np.exp(parts[:, :, 0].astype(np.float64)).sum(axis=0)
        whole = store.column("length").to_numpy()[indices]
        np.testing.assert_allclose(lengths, whole, rtol=1e-5)
        gc = store.layout.block("gc").start
        np.testing.assert_array_equal(parts[0, :, gc], parts[1, :, gc])


def test_a_row_is_divided_alike_whatever_it_is_read_with(folder: Path) -> None:
    halves = halves_of(stored(folder, "log", sequence=False), seed=5)
    halves.redraw(2)
    together = halves.rows(np.array([4, 0, 8])).reshape(2, 3, -1)
    for i, row in enumerate((4, 0, 8)):
        np.testing.assert_array_equal(halves.rows(np.array([row])), together[:, i])
    out = np.zeros((6, halves.layout.n_fields), np.float32)
    assert halves.rows(np.array([4, 0, 8]), out=out) is out
    np.testing.assert_array_equal(out.reshape(2, 3, -1), together)


@given(st.lists(st.lists(st.integers(0, 25), min_size=1, max_size=6), max_size=4))
def test_batches_are_first_halves_and_then_second_ones(
    folder: Path, batches: list[list[int]]
) -> None:
    halves = halves_of(stored(folder, "packed"), seed=1)
    parts = [np.array(batch, dtype=np.int64) % len(halves) for batch in batches]
    found = [(batch.rows, batch.x.clone()) for batch in BatchLoader(halves, CPU)(parts)]
    assert len(found) == len(parts)
    for (rows, x), part in zip(found, parts, strict=True):
        np.testing.assert_array_equal(rows, part)
        np.testing.assert_array_equal(x.numpy(), halves.rows(part))


def test_one_letter_has_no_halves(store: MemoryStore) -> None:
    data = store.data.copy()
    data[3, 0] = 0.0
    with pytest.raises(kvae.KvaeError, match="1 letter has no halves: use --min-length"):
        halves_of(store.with_data(data), seed=0)
    assert len(halves_of(store, seed=0)) == len(store)
