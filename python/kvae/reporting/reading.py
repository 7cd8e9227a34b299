"""What a run's folder says about it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kvae.config import ModelConfig, ProfileEncoderConfig, RunConfig
from kvae.errors import KvaeError
from kvae.model.files import read_model_config
from kvae.pretrained import PRETRAINED, run_or_pretrained
from kvae.run_folder import RunFolder

__all__ = ["RunFacts", "read_run"]

_PARTS = ("train", "validation")
# What is told of small files, and must be in them.
_NUMBERS = {"data": ("rows", "bases", "sources"), "split": ("train_rows", "validation_rows")}


@dataclass(frozen=True)
class RunFacts:
    """Everything small that a run has recorded.

    Attributes
    ----------
    path, name
        The folder, or the file of a model without one, and its name.
    model
        Architecture.
    config
        Configuration of the run, None for a model file alone.
    epochs
        The lines of ``metrics.jsonl``.
    environment, data, split, baselines
        The small files of the same names, empty where there is none.
    """

    path: Path
    name: str
    model: ModelConfig
    config: RunConfig | None = None
    epochs: tuple[Mapping[str, Any], ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    split: Mapping[str, Any] = field(default_factory=dict)
    baselines: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The preset, or what else it is called."""
        return (self.config.preset if self.config else None) or "model"

    @property
    def best(self) -> int | None:
        """Position of the epoch whose weights were kept, None before the first."""
        if not self.epochs:
            return None
        losses = [epoch["validation"]["loss"] for epoch in self.epochs]
        return min(range(len(losses)), key=losses.__getitem__)

    @property
    def planned(self) -> int | None:
        """Epochs that the run was to have."""
        return self.config.training.epochs if self.config else None

    @property
    def is_finished(self) -> bool:
        """Whether all of them are done."""
        return self.planned is not None and len(self.epochs) >= self.planned

    @property
    def seconds(self) -> float:
        """Time that the epochs took."""
        return sum(float(epoch.get("seconds", 0.0)) for epoch in self.epochs)

    @property
    def in_halves(self) -> bool:
        """Whether one half of each row predicts the other."""
        if self.config is None:
            # Such encoders can be trained in no other way.
            return isinstance(self.model.encoder, ProfileEncoderConfig)
        return self.config.loss.target == "half"

    def inputs(self) -> list[Path]:
        """Files that the run was trained on, where all of them are still there."""
        found = []
        for entry in self.data.get("inputs", ()):
            whole, near = Path(entry["path"]), self.path / entry["from_run"]
            path = next((path for path in (near, whole) if path.exists()), None)
            if path is None:
                return []
            found.append(path)
        return found


def read_run(run: str | Path) -> RunFacts:
    """Read the facts of a run, or of a model file.

    Raises
    ------
    KvaeError
        Where there is neither, or a file of it is damaged.
    """
    path = run_or_pretrained(run)
    if path.is_file():
        name = "pretrained model" if str(run) == PRETRAINED else path.name
        return RunFacts(path, name, read_model_config(path))
    folder = RunFolder(path)
    config = folder.read_config()
    small = {name: _small(folder, name) for name in ("environment", "data", "split", "baselines")}
    name = path.resolve().name
    return RunFacts(path, name, config.model, config, _epochs(folder), **small)


def _small(folder: RunFolder, name: str) -> Mapping[str, Any]:
    path = folder.path / f"{name}.json"
    if not path.exists():
        return {}
    content = folder.read_json(path.name)
    if not isinstance(content, dict):
        raise KvaeError(f"{path}: is damaged: move it away to report without it")
    is_whole = all(isinstance(content.get(key), int) for key in _NUMBERS.get(name, ()))
    if name == "data":
        entries = content.get("inputs", [])
        keys = {"path", "from_run"}
        is_whole &= isinstance(entries, list) and all(
            isinstance(entry, dict) and keys <= entry.keys() for entry in entries
        )
    if not is_whole:
        raise KvaeError(f"{path}: is damaged: move it away to report without it")
    return content


def _epochs(folder: RunFolder) -> tuple[Mapping[str, Any], ...]:
    """Read the lines of ``metrics.jsonl``; the last one may be unfinished."""
    try:
        lines = folder.metrics.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise KvaeError(f"{folder.metrics}: cannot be read ({error})") from error
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except ValueError:
            if number == len(lines):
                break
            record = None
        if not _is_epoch(record):
            raise KvaeError(
                f"{folder.metrics}: line {number} is no record of an epoch: remove it, or train"
                " again"
            )
        found.append(record)
    return tuple(found)


def _is_epoch(record: Any) -> bool:
    if not isinstance(record, dict) or not isinstance(record.get("epoch"), int):
        return False
    parts = [record.get(part) for part in _PARTS]
    return all(
        isinstance(part, dict)
        and "loss" in part
        and all(isinstance(value, int | float) for value in part.values())
        for part in parts
    )
