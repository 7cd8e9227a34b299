"""Splits, batches and devices."""

from __future__ import annotations

import threading
from collections.abc import Generator

import numpy as np
import pytest
import torch

from kvae.device import resolve_device
from kvae.errors import KvaeError
from kvae.layout import Layout
from kvae.loading import BatchLoader
from kvae.row_sources import Indices
from kvae.training.batches import shuffled, split_batches
from kvae.training.split import split_rows
from small import MemoryStore, Rows, make_store

CPU = torch.device("cpu")


def test_whole_sources_are_held_out(store: MemoryStore) -> None:
    split = split_rows(store, 0.1, seed=0)
    assert split.unit == "source"
    held = {store.source_names[code] for code in store.source_codes[split.validation]}
    kept = {store.source_names[code] for code in store.source_codes[split.train]}
    assert sorted(held) == split.held_out
    assert not held & kept
    assert 4 <= len(split.validation) <= 12
    np.testing.assert_array_equal(
        np.sort(np.concatenate([split.train, split.validation])), np.arange(len(store))
    )


def test_split_depends_on_the_seed_and_the_names_only(store: MemoryStore) -> None:
    first = split_rows(store, 0.1, seed=0)
    assert split_rows(store, 0.1, seed=0).held_out == first.held_out
    assert any(split_rows(store, 0.1, seed=s).held_out != first.held_out for s in range(1, 9))
    backwards = make_store(store.layout, [1] * 10)
    backwards.source_names = store.source_names[::-1]
    backwards.source_codes = 9 - store.source_codes
    backwards.data, backwards.names = store.data, store.names
    assert split_rows(backwards, 0.1, seed=0).held_out == first.held_out


@pytest.mark.parametrize("seed", range(5))
def test_a_huge_source_is_not_held_out(layout: Layout, seed: int) -> None:
    store = make_store(layout, [40, 5, 3])
    split = split_rows(store, 0.1, seed)
    assert len(split.validation) <= 8


def test_one_source_is_split_by_contig_and_one_contig_by_row(layout: Layout) -> None:
    store = make_store(layout, [30])
    split = split_rows(store, 0.1, seed=0)
    assert split.unit == "contig"
    assert len(split.held_out) == 1
    assert {store.names[row] for row in split.validation} == set(split.held_out)
    assert len(split.validation) == 3
    single = split_rows(make_store(layout, [30], contig_rows=30), 0.1, seed=0)
    assert single.unit == "row"
    assert len(single.validation) == 3


# --- batches -------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [2, 3, 7, 16, 1000])
@pytest.mark.parametrize("n_rows", [2, 3, 5, 16, 17, 33, 64])
def test_batches_cover_every_row_once_and_never_a_single_one(n_rows: int, batch_size: int) -> None:
    rows = shuffled(np.arange(100, 100 + n_rows, dtype=np.int64), seed=4, epoch=2)
    batches = split_batches(rows, batch_size)
    sizes = [len(batch) for batch in batches]
    np.testing.assert_array_equal(np.sort(np.concatenate(batches)), np.sort(rows))
    assert min(sizes) >= 2
    assert max(sizes) <= batch_size + 1
    assert max(sizes) - min(sizes) <= 1


def test_order_changes_with_epoch_and_seed() -> None:
    rows = np.arange(50, dtype=np.int64)
    orders = [shuffled(rows, seed, epoch).tolist() for seed in (0, 1) for epoch in (1, 2)]
    assert orders[0] == shuffled(rows, 0, 1).tolist()
    assert len({tuple(order) for order in orders}) == 4


def test_loader_gathers_what_was_asked_for(store: MemoryStore) -> None:
    loader = BatchLoader(store, CPU)
    batches = split_batches(shuffled(np.arange(len(store)), 0, 1), 7)
    for _ in range(2):
        seen = 0
        for rows, batch in zip(batches, loader(batches), strict=True):
            np.testing.assert_array_equal(batch.rows, rows)
            np.testing.assert_array_equal(batch.x.numpy(), store.data[rows])
            seen += len(rows)
        assert seen == len(store)


def test_loader_passes_errors_on_and_leaves_no_thread_behind(store: MemoryStore) -> None:
    class Broken(MemoryStore):
        def rows(self, indices: Indices, out: Rows | None = None) -> Rows:
            if 50 in indices:
                raise OSError("disk on fire")
            return super().rows(indices, out)

    broken = Broken(**vars(store))
    batches = split_batches(np.arange(len(store)), 4)
    before = set(threading.enumerate())
    with pytest.raises(OSError, match="disk on fire"):
        list(BatchLoader(broken, CPU)(batches))
    stopped_early = BatchLoader(store, CPU)(batches)
    next(stopped_early)
    assert isinstance(stopped_early, Generator)
    stopped_early.close()
    # Those of other tests may have ended meanwhile.
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("name", ["cuda:99", "tpu", "cpu:0", "", "cuda:-1"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(KvaeError, match="device"):
        resolve_device(name)
