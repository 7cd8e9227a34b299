"""Rows that are hard to learn from: training goes on without NaN, or says why it stops."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from kvae.config import override
from kvae.encoding import encode
from kvae.errors import KvaeError
from kvae.layout import Layout
from small import MemoryStore, make_store, small_run
from training_runs import lines, run


def all_finite(folder: Path) -> bool:
    """Whether the best weights and all figures of a run are."""
    tensors = load_file(folder / "model.safetensors").values()
    text = (folder / "metrics.jsonl").read_text()
    return all(torch.isfinite(t).all() for t in tensors) and "NaN" not in text


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 41, 79])
def test_a_row_that_is_not_finite_is_named(
    store: MemoryStore, tmp_path: Path, value: float, row: int
) -> None:
    data = store.data.copy()
    data[row, 7] = value
    bad = store.with_data(data)
    with pytest.raises(KvaeError, match=r"not finite") as caught:
        run(bad, tmp_path / "run")
    assert store.names[row] in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*.safetensors"))
    run(store, tmp_path / "good", config=small_run(epochs=1))
    with pytest.raises(KvaeError, match="not finite") as caught:
        encode(tmp_path / "good", bad, tmp_path / "latent.arrow", device="cpu", threads=1)
    assert store.names[row] in str(caught.value)
    assert not (tmp_path / "latent.arrow").exists()


CONSTANTS: dict[str, Any] = {
    "all rows alike": lambda data: np.repeat(data[:1], len(data), axis=0),
    "all fields alike": lambda data: np.full_like(data, -5.0),
    "a constant column": lambda data: np.concatenate(
        [data[:, :9], np.full_like(data[:, 9:10], -13.8), data[:, 10:]], axis=1
    ),
    "a constant block": lambda data: np.concatenate(
        [data[:, :1], np.full_like(data[:, 1:97], np.log(1e-6)), data[:, 97:]], axis=1
    ),
    "no length": lambda data: np.concatenate([np.zeros_like(data[:, :1]), data[:, 1:]], axis=1),
    "two kinds of rows": lambda data: data[np.arange(len(data)) % 2],
    "huge numbers": lambda data: np.concatenate(
        [data[:, :1], data[:, 1:] * np.float32(1e4)], axis=1
    ),
    "tiny numbers": lambda data: data * np.float32(1e-30),
}


@pytest.mark.parametrize("kind", CONSTANTS)
def test_rows_without_variance_train_without_nan(
    store: MemoryStore, tmp_path: Path, kind: str
) -> None:
    rows = store.with_data(np.ascontiguousarray(CONSTANTS[kind](store.data), dtype=np.float32))
    run(rows, tmp_path / "run", config=small_run(epochs=6))
    assert all_finite(tmp_path / "run")
    assert len(lines(tmp_path / "run")) == 6
    assert np.isfinite(encode(tmp_path / "run", rows, device="cpu", threads=1)).all()


def test_many_epochs_of_a_constant(store: MemoryStore, tmp_path: Path) -> None:
    rows = store.with_data(np.repeat(store.data[:1], len(store), axis=0))
    run(rows, tmp_path / "run", config=small_run(epochs=150, lr=0.02))
    assert all_finite(tmp_path / "run")
    first, last = lines(tmp_path / "run")[0], lines(tmp_path / "run")[-1]
    assert last["train"]["loss"] <= first["train"]["loss"]


@pytest.mark.parametrize("n_rows", [1, 2, 3, 4, 5])
def test_few_rows_train_or_are_refused(layout: Layout, tmp_path: Path, n_rows: int) -> None:
    rows = make_store(layout, [n_rows])
    if n_rows == 1:
        with pytest.raises(KvaeError, match="row") as caught:
            run(rows, tmp_path / "run")
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "run").exists()
        return
    try:
        run(rows, tmp_path / "run", config=small_run(epochs=3))
    except KvaeError as error:
        message = str(error)
    else:
        assert all_finite(tmp_path / "run")
        return
    # Two rows leave one to train on, which has no variance to normalise by.
    assert n_rows == 2
    assert "row" in message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("batch_size", [2, 3, 7, 1_000])
def test_batches_of_any_size_train(store: MemoryStore, tmp_path: Path, batch_size: int) -> None:
    run(store, tmp_path / "run", config=small_run(epochs=2, batch_size=batch_size))
    assert all_finite(tmp_path / "run")


def test_batches_of_one_row_are_refused(store: MemoryStore, tmp_path: Path) -> None:
    """A single row has no variance that batch normalisation could use."""
    with pytest.raises(KvaeError, match="batch_size") as caught:
        run(store, tmp_path / "run", batch_size=1)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("lr", [1e3, 1e10, 1e30])
def test_a_rate_that_is_too_high_stops_with_a_reason(
    store: MemoryStore, tmp_path: Path, lr: float
) -> None:
    folder = tmp_path / "run"
    run(store, folder, config=small_run(epochs=1))
    best = (folder / "model.safetensors").read_bytes()
    try:
        run(store, tmp_path / "hot", config=small_run(epochs=40, lr=lr))
    except KvaeError as error:
        message = str(error)
        assert message  # checked below
    else:
        # Normalised layers survive rates that are merely far too high.
        assert all_finite(tmp_path / "hot")
        return
    assert "finite" in message or "nan" in message or "inf" in message
    assert "--lr" in message
    assert "\n" not in message
    for path in (tmp_path / "hot").rglob("*.safetensors"):
        tensors = load_file(path).values()
        assert all(torch.isfinite(t).all() for t in tensors if t.is_floating_point())
    # The other run is none of its business.
    assert (folder / "model.safetensors").read_bytes() == best


@pytest.mark.parametrize(
    "key", ["training.lr", "loss.beta", "training.epochs", "training.batch_size", "model.latent"]
)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1, 0, "x", None, [], 1e400])
def test_numbers_of_the_configuration_are_checked(key: str, value: Any) -> None:
    if key == "loss.beta" and value == 0:
        # A loss without its divergence is an autoencoder's.
        assert override(small_run(), {key: value}).loss.beta == 0
        return
    with pytest.raises(KvaeError) as caught:
        override(small_run(), {key: value})
    assert key.rpartition(".")[2] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_metrics_are_json_for_any_reader(store: MemoryStore, tmp_path: Path) -> None:
    def fail(name: str) -> None:
        raise ValueError(name)

    run(store, tmp_path / "run", config=small_run(epochs=1))
    for name in ("metrics.jsonl", "baselines.json", "config.json", "split.json"):
        for line in (tmp_path / "run" / name).read_text().split("\n}\n"):
            if line.strip():
                text = line if name == "metrics.jsonl" else line + "\n}"
                json.loads(text, parse_constant=fail)
