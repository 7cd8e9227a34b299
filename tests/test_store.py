"""Feature files, mapped: rows, counts and sequences of every kind."""

from __future__ import annotations

import gc
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

import kvae
import reference
from feature_tables import RECORDS, matrix, table
from kvae import FeatureStore, KvaeError
from sequences import fasta, random_sequence, write

# --- rows ----------------------------------------------------------------------------


def test_what_a_store_tells(small_file: Path) -> None:
    store = FeatureStore(small_file)
    rows = table(small_file)
    assert len(store) == 1100
    assert store.path == small_file
    assert store.layout == kvae.Layout.from_ks([3])
    assert store.metadata == json.loads(rows.schema.metadata[b"kvae"])
    assert store.column_names == rows.column_names
    assert store.source_names == [str(small_file.parent / name) for name in ("a.fna", "b.fna")]
    assert store.source_codes.tolist() == [0] * 700 + [1] * 400
    assert store.ids.to_pylist() == ["a.fna"] * 700 + ["b.fna"] * 400
    assert "1,100 rows" in repr(store)
    assert str(small_file) in repr(store)


def test_a_path_may_be_text(small_file: Path) -> None:
    assert len(FeatureStore(os.fspath(small_file))) == 1100


def test_batches_are_the_rows_in_order(small_file: Path) -> None:
    store = FeatureStore(small_file)
    batches = [store.batch(i) for i in range(store.n_batches)]
    assert [len(batch) for batch in batches] == [512, 512, 76]
    np.testing.assert_array_equal(np.vstack(batches), matrix(table(small_file)["features"]))


@pytest.mark.parametrize("name", ["id", "start", "end", "length", "gc", "n3", "sequence"])
def test_columns_are_those_of_the_file(small_file: Path, name: str) -> None:
    column = FeatureStore(small_file).column(name)
    assert column.to_pylist() == table(small_file)[name].to_pylist()


def test_a_column_that_is_not_there(small_file: Path) -> None:
    with pytest.raises(KeyError, match="taxonomy"):
        FeatureStore(small_file).column("taxonomy")


def test_rows_are_gathered_in_any_order(small_file: Path) -> None:
    store = FeatureStore(small_file)
    everything = matrix(table(small_file)["features"])
    rng = np.random.default_rng(0)
    requests = [
        np.arange(1100),
        np.arange(1100)[::-1],
        rng.integers(0, 1100, 5_000),
        np.array([511, 512, 0, 1023, 1024, 1099, 511, 511]),
        np.array([7]),
        np.array([], dtype=np.int64),
    ]
    for indices in requests:
        rows = store.rows(indices)
        assert rows.dtype == np.float32
        assert rows.shape == (len(indices), 34)
        np.testing.assert_array_equal(rows, everything[indices])
        rows[:] = 0.0  # A copy: the file does not change.
    np.testing.assert_array_equal(store.rows(np.arange(1100)), everything)


def test_rows_can_be_gathered_into_an_array(small_file: Path) -> None:
    store = FeatureStore(small_file)
    out = np.full((4, 34), np.nan, dtype=np.float32)
    indices = np.array([600, 3, 1099, 3])
    assert store.rows(indices, out=out) is out
    np.testing.assert_array_equal(out, store.rows(indices))


@pytest.mark.parametrize("wrong", [[1100], [0, 5000], [-1], [3, -1100], [2**40]])
def test_rows_outside_the_file(small_file: Path, wrong: list[int]) -> None:
    store = FeatureStore(small_file)
    with pytest.raises(IndexError, match="1099"):
        store.rows(np.array(wrong))


# --- kinds of files ------------------------------------------------------------------

KINDS: dict[str, dict[str, Any]] = {
    "log": {},
    "log without sequences": {"sequence": False},
    "counts": {"store": "counts"},
    "counts without sequences": {"store": "counts", "sequence": False},
    "wide counts": {"store": "counts", "window": 0},
    "packed": {"store": "packed"},
}
# Two batches of rows would take long with the definitions; a few rows do not.
KIND_RECORDS = [
    *(record for record in RECORDS if len(record[1]) >= 1_000),
    ("long", random_sequence(70_000, letters="A" * 40 + "CGTN")),
]


@pytest.fixture(params=KINDS)
def kept(
    request: pytest.FixtureRequest, tmp_path: Path
) -> tuple[FeatureStore, list[reference.Row]]:
    """The same records in a file of each kind, and what its rows are."""
    options = KINDS[request.param]
    source = write(tmp_path / "a.fna", fasta(KIND_RECORDS))
    kvae.featurize(source, tmp_path / "feats.arrow", **options)
    rows = reference.cut(KIND_RECORDS, options.get("window", 5000)).rows
    store = FeatureStore(tmp_path / "feats.arrow")
    assert store.kind == options.get("store", "log")
    return store, rows


def test_rows_are_the_same_from_every_kind(kept: tuple[FeatureStore, list[reference.Row]]) -> None:
    store, expected = kept
    order = np.random.default_rng(0).permutation(np.arange(len(expected)).repeat(2))
    rows = store.rows(order)
    for i, fields in zip(order, rows, strict=True):
        wrong = list(reference.wrong_fields(fields.tolist(), reference.row(expected[i].sequence)))
        assert wrong == [], f"row {i}"
    out = np.empty_like(rows)
    assert store.rows(order, out=out) is out
    np.testing.assert_array_equal(out, rows)


def test_counts_are_the_same_from_every_kind(
    kept: tuple[FeatureStore, list[reference.Row]],
) -> None:
    store, expected = kept
    order = np.arange(len(expected))[::-1]
    for k in (7, 4, 3):
        counts = store.counts(order, k)
        assert counts.dtype == np.uint32
        wanted = [reference.count_all(expected[i].sequence, k) for i in order]
        np.testing.assert_array_equal(counts, wanted)
    with pytest.raises(KeyError):
        store.counts(order, 5)
    with pytest.raises(IndexError):
        store.counts(np.array([len(store)]), 4)
    assert store.counts(np.array([], dtype=np.int64), 4).shape == (0, 136)


def test_sequences_are_the_same_from_every_kind(
    kept: tuple[FeatureStore, list[reference.Row]],
) -> None:
    store, expected = kept
    order = np.random.default_rng(1).permutation(np.arange(len(expected)).repeat(2))
    if "sequence" not in store.column_names:
        with pytest.raises(KeyError, match="sequence"):
            store.sequences(order)
        return
    wanted = [reference.normalize(expected[i].sequence).encode() for i in order]
    assert store.sequences(order) == wanted
    with pytest.raises(IndexError):
        store.sequences(np.array([-1]))
    assert store.sequences(np.array([], dtype=np.int64)) == []


def test_only_files_with_features_have_views(
    kept: tuple[FeatureStore, list[reference.Row]],
) -> None:
    store, expected = kept
    if store.kind == "log":
        np.testing.assert_array_equal(store.batch(0), store.rows(np.arange(len(expected))))
    else:
        with pytest.raises(KvaeError, match=store.kind):
            store.batch(0)


def test_all_kinds_of_a_file_of_several_batches(tmp_path: Path, small_file: Path) -> None:
    expected = FeatureStore(small_file)
    everything = np.arange(len(expected))
    sources = expected.source_names
    for kind in ("counts", "packed"):
        path = tmp_path / f"{kind}.arrow"
        kvae.featurize(sources, path, k=[3], window=100, store=kind)
        store = FeatureStore(path)
        assert store.n_batches == 3
        order = np.random.default_rng(0).integers(0, len(store), 3_000)
        np.testing.assert_allclose(store.rows(order), expected.rows(order), rtol=2.5e-7, atol=2e-7)
        np.testing.assert_array_equal(store.counts(order, 3), expected.counts(order, 3))
        assert store.sequences(everything) == expected.sequences(everything)


# --- memory --------------------------------------------------------------------------


def mapped_ranges(path: Path) -> list[tuple[int, int]]:
    """Where this process has the file in its memory."""
    ranges = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith(str(path)):
            start, end = line.split()[0].split("-")
            ranges.append((int(start, 16), int(end, 16)))
    return ranges


def test_views_are_read_only_and_in_the_file(feature_file: Path) -> None:
    before = pa.total_allocated_bytes()
    store = FeatureStore(feature_file)
    views = [store.batch(i) for i in range(store.n_batches)]
    assert pa.total_allocated_bytes() == before
    ranges = mapped_ranges(feature_file)
    assert ranges
    for view in views:
        assert not view.flags.writeable
        assert view.flags.c_contiguous
        assert view.dtype == np.float32
        with pytest.raises(ValueError, match="read-only"):
            view[0, 0] = 1.0
        address = view.ctypes.data
        assert address % 64 == 0
        assert any(start <= address and address + view.nbytes <= end for start, end in ranges)
    assert np.shares_memory(store.batch(0), views[0])


def test_views_outlive_their_store(tmp_path: Path, small_file: Path) -> None:
    path = write(tmp_path / "feats.arrow", small_file.read_bytes())
    store = FeatureStore(path)
    view = store.batch(2)
    column = store.column("start")
    expected = view.copy()
    del store
    np.testing.assert_array_equal(view, expected)
    assert column[-1].as_py() == 39_900
    assert mapped_ranges(path)
    del view, column
    gc.collect()
    assert mapped_ranges(path) == []


def test_a_store_keeps_its_rows_when_the_file_is_replaced(tmp_path: Path) -> None:
    source = write(tmp_path / "a.fna", fasta([("a", random_sequence(50_000))]))
    path = tmp_path / "feats.arrow"
    kvae.featurize(source, path, k=[3])
    store = FeatureStore(path)
    expected = store.rows(np.arange(10))
    kvae.featurize(source, path, k=[4], window=1_000, force=True)
    np.testing.assert_array_equal(store.rows(np.arange(10)), expected)
    assert len(FeatureStore(path)) == 50
