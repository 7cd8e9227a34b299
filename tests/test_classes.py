"""Classes of rows, and batches in which rows of one class meet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvae.config import TrainConfig
from kvae.errors import KvaeError
from kvae.row_sources import Indices
from kvae.sampling import balanced_rows
from kvae.training import classes
from kvae.training.classes import (
    GroupedBatches,
    class_means,
    related_classes,
    row_classes,
)
from small import PSEUDOCOUNT, MemoryStore


def partition(keys: Iterable[Hashable]) -> list[int]:
    """Number the keys in the order of their first appearance."""
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(key, len(numbers)) for key in keys]


def same_names(store: MemoryStore) -> MemoryStore:
    """Make records of all files have the same names."""
    return replace(store, names=[f"contig_{name.split('_')[2]}" for name in store.names])


# --- which rows are alike ------------------------------------------------------------


def test_rows_of_a_contig_are_alike_unless_files_differ(store: MemoryStore) -> None:
    store = same_names(store)
    found = row_classes(store, TrainConfig())
    pairs = zip(store.source_codes.tolist(), store.names, strict=True)
    assert partition(found.codes.tolist()) == partition(pairs)
    # Their halves meet in any batch.
    assert not found.are_grouped


def test_rows_of_a_source_are_alike(store: MemoryStore) -> None:
    found = row_classes(store, TrainConfig(positives="source"))
    assert found.codes.tolist() == store.source_codes.tolist()
    assert found.are_grouped


def test_rows_of_a_label_are_alike_and_others_are_with_their_contig(
    store: MemoryStore, tmp_path: Path
) -> None:
    table = tmp_path / "labels.tsv"
    table.write_text(
        "file\tnote\tspecies\n"
        "genome_0.fna\ta\tX\ngenome_1.fna\ta\tY\ngenome_2.fna\tb\tX\ngenome_3.fna\tb\t\n"
        "contig_5_1\tb\tY\n"
    )
    label = {0: "X", 1: "Y", 2: "X"}
    codes = store.source_codes.tolist()
    keys = [
        "Y" if name == "contig_5_1" else label.get(code, (code, name))
        for code, name in zip(codes, store.names, strict=True)
    ]
    training = TrainConfig(positives="species", labels=str(table))
    found = row_classes(store, training)
    assert partition(found.codes.tolist()) == partition(keys)
    assert sorted(set(found.codes.tolist())) == list(range(len(set(keys))))
    assert found.are_grouped
    # A table beside them changes nothing about contigs and sources.
    contigs = row_classes(store, TrainConfig(labels=str(table)))
    assert partition(contigs.codes.tolist()) == partition(zip(codes, store.names, strict=True))


def test_a_table_that_says_nothing_is_refused(store: MemoryStore, tmp_path: Path) -> None:
    table = tmp_path / "labels.tsv"
    table.write_text("file\tspecies\ngenome_0.fna\tX\n")
    with pytest.raises(KvaeError, match="has no column genus; its labels are species"):
        row_classes(store, TrainConfig(positives="genus", labels=str(table)))
    with pytest.raises(KvaeError, match=r"none\.tsv"):
        row_classes(store, TrainConfig(positives="species", labels=str(tmp_path / "none.tsv")))
    table.write_text("file\tspecies\nother.fna\tX\n")
    with pytest.raises(KvaeError, match="names no record and no file"):
        row_classes(store, TrainConfig(positives="species", labels=str(table)))


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=60),
    st.integers(1, 70),
    st.integers(0, 3),
)
def test_a_sample_has_of_all_classes_alike(codes: list[int], limit: int, seed: int) -> None:
    everything = np.array([7, 7, *codes])
    rows = np.arange(2, len(everything))
    found = balanced_rows(everything, rows, limit, seed)
    assert len(found) == min(limit, len(rows))
    assert found.tolist() == sorted(set(found.tolist()) & set(rows.tolist()))
    np.testing.assert_array_equal(found, balanced_rows(everything, rows, limit, seed))
    sizes, chosen = Counter(codes), Counter(everything[found].tolist())
    most = max(chosen.values())
    for code, size in sizes.items():
        assert chosen[code] >= min(size, most - 1)


# --- which classes are related -------------------------------------------------------


def test_means_of_classes_are_shares_of_their_4mers(store: MemoryStore) -> None:
    codes = store.source_codes.astype(np.int64) * 3
    found = class_means(store.data, codes, store.layout)
    shares = np.exp(store.data[:, 97:117].astype(np.float64))
    expected = [shares[codes == code].mean(axis=0) for code in sorted(set(codes.tolist()))]
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert found.sum(axis=1) == pytest.approx(1.0, abs=20 * PSEUDOCOUNT + 1e-4)


@pytest.mark.parametrize("n", [2, 5, 30])
def test_related_classes_are_the_nearest_ones(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    means = np.random.default_rng(n).dirichlet(np.ones(6), n)
    scaled = (means - means.mean(axis=0)) / means.std(axis=0)
    expected = []
    for i in range(n):
        others = [j for j in range(n) if j != i]
        distance = {j: np.sqrt(((scaled[i] - scaled[j]) ** 2).sum()) for j in others}
        expected.append(sorted(others, key=distance.__getitem__)[:9])
    assert related_classes(means).tolist() == expected
    # A column without any variation has no distances.
    with_constant = np.column_stack([means, np.full(n, 0.25)])
    assert related_classes(with_constant).tolist() == expected
    monkeypatch.setattr(classes, "_MOST_RELATED", n - 1)
    assert related_classes(means).shape == (n, 0)


# --- batches -------------------------------------------------------------------------


def grouped(
    codes: Indices, related: Indices, batch_size: int = 24, per_class: int = 4, **kw: Indices
) -> GroupedBatches:
    rows = kw.get("rows", np.arange(len(codes)))
    return GroupedBatches(rows, codes, related, batch_size, per_class, seed=11)


def no_relatives(n: int) -> Indices:
    return np.empty((n, 0), dtype=np.int64)


def test_a_batch_has_rows_of_some_classes() -> None:
    rng = np.random.default_rng(0)
    # Codes with gaps; some rows are kept for validation.
    codes = rng.integers(0, 12, 300) * 5
    rows = np.sort(rng.permutation(300)[:250])
    draw = grouped(codes, no_relatives(12), rows=rows)
    batches = draw(3)
    assert len(batches) == 11  # 250 rows in batches of 24
    for batch in batches:
        assert batch.tolist() == sorted(set(batch.tolist()) & set(rows.tolist()))
        assert sorted(Counter(codes[batch].tolist()).values()) == [4] * 6
    assert len({tuple(batch.tolist()) for batch in batches}) == 11
    again = grouped(codes, no_relatives(12), rows=rows)
    again(1)
    for one, other in zip(batches, again(3), strict=True):
        np.testing.assert_array_equal(one, other)
    assert any((a != b).any() for a, b in zip(batches, draw(4), strict=True))
    seen = np.concatenate([np.concatenate(draw(epoch)) for epoch in range(12)])
    assert len(set(seen.tolist())) > 240


def test_related_classes_come_along() -> None:
    # Six families of four; everyone is related to the others of its family alone, and brings one.
    codes = np.repeat(np.arange(24), 10)
    related = np.array([[j for j in range(24) if j // 4 == i // 4 and j != i] for i in range(24)])
    for batch in grouped(codes, related, batch_size=32, per_class=4)(1):
        families = Counter(code // 4 for code in set(codes[batch].tolist()))
        assert sum(families.values()) == 8
        # There may be no room for the last one's.
        assert sorted(families.values())[1] > 1


def test_few_classes_fill_a_batch() -> None:
    codes = np.array([0] * 50 + [1] * 3 + [2] * 50)
    related = np.array([[1, 2], [0, 2], [0, 1]])
    for batch in grouped(codes, related, batch_size=48, per_class=4)(1):
        assert Counter(codes[batch].tolist()) == {0: 16, 1: 3, 2: 16}


def test_classes_are_drawn_by_their_rows_but_once_in_a_batch() -> None:
    codes = np.array([0] * 40 + [1] * 80 + list(range(2, 60)) * 2)
    draw = grouped(codes, no_relatives(60), batch_size=8, per_class=4)
    # Two of 60 classes in a batch, the second one among those that the first has left.
    batches = [batch for epoch in range(40) for batch in draw(epoch)]
    found = [np.mean([(codes[batch] == c).any() for batch in batches]) for c in (0, 1)]
    sizes = np.bincount(codes) / len(codes)
    second = [sum(sizes / (1 - sizes)) * sizes[c] - sizes[c] ** 2 / (1 - sizes[c]) for c in (0, 1)]
    assert found == pytest.approx([sizes[c] + second[c] for c in (0, 1)], abs=0.03)


def test_a_class_of_nearly_all_rows_leaves_room_for_the_others() -> None:
    codes = np.array([0] * 200_000 + list(range(1, 7)))
    for batch in grouped(codes, no_relatives(7), batch_size=28, per_class=4)(0)[:20]:
        assert Counter(codes[batch].tolist()) == {0: 4, **dict.fromkeys(range(1, 7), 1)}


def test_a_batch_is_no_larger_than_it_may_be() -> None:
    codes = np.repeat(np.arange(5), 20)
    for batch_size, per_class in [(8, 8), (9, 8), (3, 8), (2, 4), (16, 8), (20, 6)]:
        draw = grouped(codes, no_relatives(5), batch_size=batch_size, per_class=per_class)
        for batch in draw(0):
            assert batch_size // 2 < len(batch) <= batch_size
            assert len(set(codes[batch].tolist())) >= 2


def test_one_class_cannot_be_contrasted() -> None:
    with pytest.raises(KvaeError, match="all rows are of one class: contrast needs two or more"):
        grouped(np.zeros(30, dtype=np.int64), no_relatives(1))
