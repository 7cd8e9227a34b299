"""Orders of an epoch, and the promise of the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kvae.config import override
from kvae.errors import KvaeError
from kvae.training.batches import shuffled_blocks
from kvae.training.determinism import deterministic
from small import MemoryStore, small_run
from training_runs import assert_same_weights, run, untimed


@given(
    st.lists(st.integers(0, 10_000), min_size=1, max_size=300, unique=True),
    st.integers(0, 100),
    st.integers(1, 50),
    st.integers(1, 5),
)
def test_blocks_hold_every_row_once(
    rows: list[int], seed: int, block_rows: int, mixed_blocks: int
) -> None:
    given_rows = np.array(rows)
    sizes: dict[str, Any] = {"block_rows": block_rows, "mixed_blocks": mixed_blocks}
    order = shuffled_blocks(given_rows, seed, 1, **sizes)
    assert sorted(order.tolist()) == sorted(rows)
    assert np.array_equal(order, shuffled_blocks(given_rows[::-1].copy(), seed, 1, **sizes))


def test_blocks_are_read_in_one_go_and_epochs_differ() -> None:
    rows = np.arange(10_000)
    first, second = (
        shuffled_blocks(rows, 0, epoch, block_rows=100, mixed_blocks=4) for epoch in (1, 2)
    )
    for at in range(0, 10_000, 400):
        assert len(np.unique(first[at : at + 400] // 100)) == 4
    assert not np.array_equal(first, second)
    assert (np.diff(first[:400]) != 1).mean() > 0.9


def test_a_run_may_read_in_blocks(store: MemoryStore, tmp_path: Path) -> None:
    config = override(small_run(), {"training.shuffle": "blocks"})
    result = run(store, tmp_path / "run", config=config)
    assert result.epochs == 2
    with pytest.raises(KvaeError, match="set shuffle to rows, or positives to contig"):
        override(small_run(), {"training.shuffle": "blocks", "training.positives": "source"})


def test_a_deterministic_run_is_the_same_run(store: MemoryStore, tmp_path: Path) -> None:
    config = override(small_run(), {"training.deterministic": True})
    for name, chosen in (("plain", small_run()), ("deterministic", config)):
        run(store, tmp_path / name, config=chosen)
        assert not torch.are_deterministic_algorithms_enabled()
    assert_same_weights(tmp_path / "plain", tmp_path / "deterministic")
    assert untimed(tmp_path / "plain") == untimed(tmp_path / "deterministic")


def test_what_cannot_be_promised_is_one_line() -> None:
    with (
        pytest.raises(KvaeError, match=r"^put_ does not have .*: leave --deterministic out"),
        deterministic(True),
    ):
        raise RuntimeError("put_ does not have a deterministic implementation. You can turn off")
    with pytest.raises(RuntimeError, match="shapes"), deterministic(True):
        raise RuntimeError("shapes do not fit")
    with deterministic(True):
        assert torch.are_deterministic_algorithms_enabled()
    with deterministic(False):
        assert not torch.are_deterministic_algorithms_enabled()
