"""Short training runs for the tests, and what to compare of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from kvae.epoch_progress import EpochRecord, TrainProgress
from kvae.row_sources import RowSource
from kvae.training import TrainResult, train
from small import small_run

TIMES = ("seconds", "rows_per_second")


def run(store: RowSource, output: Path, **arguments: Any) -> TrainResult:
    arguments.setdefault("config", small_run())
    return train(store, output, device="cpu", threads=1, **arguments)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def untimed(folder: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k not in TIMES} for line in lines(folder)]


def checkpoint(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    (path,) = (folder / "checkpoints").iterdir()
    with safe_open(path, framework="pt") as file:
        header = dict(file.metadata())
    # So that what a test makes of both is as a writer without checksums would have it.
    del header["crc32"]
    return load_file(path), header


def assert_same_weights(a: Path, b: Path) -> None:
    """The best weights of two runs are equal to the bit."""
    one, other = load_file(a / "model.safetensors"), load_file(b / "model.safetensors")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def assert_same_run(a: Path, b: Path) -> None:
    """Weights, optimizer, random numbers, state and metrics: all equal to the bit."""
    (tensors_a, state_a), (tensors_b, state_b) = checkpoint(a), checkpoint(b)
    assert state_a == state_b
    assert tensors_a.keys() == tensors_b.keys()
    assert all(torch.equal(tensors_a[name], tensors_b[name]) for name in tensors_a)
    assert_same_weights(a, b)
    assert untimed(a) == untimed(b)


class Record(TrainProgress):
    def __init__(self) -> None:
        self.messages: list[str] = []
        self.lines: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)

    def epoch(self, record: EpochRecord, line: str) -> None:
        self.lines.append(line)


class StopIn(TrainProgress):
    """Presses Ctrl-C in the middle of an epoch."""

    def __init__(self, epoch: int) -> None:
        self._label = f"epoch {epoch}"
        self._now = ""

    def begin(self, label: str, rows: int) -> None:
        self._now = label

    def advance(self, rows: int) -> None:
        if self._now == self._label:
            raise KeyboardInterrupt


class Finished(NamedTuple):
    """A run, what `train` returned, and what it reported meanwhile."""

    folder: Path
    result: TrainResult
    progress: Record
