"""The files of a run.

``config.json`` makes a folder a run. ``metrics.jsonl`` has a line per epoch,
``model.safetensors`` the weights of the best one, ``initial.safetensors`` those that the
run keeps a share of, ``checkpoints/`` what is needed to go on, ``data.json`` which rows
it saw, ``split.json`` what was held out, ``baselines.json`` the scores of the trivial
predictors, ``environment.json`` what computed it, and ``tensorboard/`` the curves.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from kvae.atomic import atomic_output
from kvae.config import RunConfig, parse_config
from kvae.errors import KvaeError
from kvae.remote.uris import RemotePath, as_path, shown

try:
    import fcntl
except ModuleNotFoundError:  # Windows, where folders are not locked
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from kvae.layout import Layout
    from kvae.model import KmerVAE

_FILES = (
    "config.json",
    "metrics.jsonl",
    "model.safetensors",
    "initial.safetensors",
    "data.json",
    "split.json",
    "baselines.json",
    "environment.json",
)
_FOLDERS = ("checkpoints", "tensorboard")
_PACKAGES = ("kvae", "torch", "numpy", "pyarrow", "safetensors", "pydantic")


class RunFolder:
    """Paths and small files of a run."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.json"
        self.metrics = self.path / "metrics.jsonl"
        self.model = self.path / "model.safetensors"
        self.initial = self.path / "initial.safetensors"
        self.checkpoints = self.path / "checkpoints"
        self.tensorboard = self.path / "tensorboard"
        self._lock: int | None = None

    @property
    def files(self) -> list[Path]:
        """What a run may hold, and the path itself, which may be that of a model file."""
        return [self.path, *(self.path / name for name in _FILES)]

    @property
    def is_run(self) -> bool:
        """Whether a run has been started here."""
        return self.config.is_file()

    @contextmanager
    def reserved(self) -> Iterator[None]:
        """Give back at the end what `reserve` has reserved."""
        try:
            yield
        finally:
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    def reserve(self) -> None:
        """Keep other processes from writing here, if the folder is there and can be locked.

        The lock is on the folder itself: it leaves no file behind, and the system gives
        it up with the process, however that ends. Where there are no locks, as on some
        network file systems and on Windows, nothing happens.

        Raises
        ------
        KvaeError
            Where another process has reserved it.
        """
        if self._lock is not None or fcntl is None or not self.path.is_dir():
            return
        try:
            handle = os.open(self.path, os.O_RDONLY)
        except OSError:
            return
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise self._in_use() from None
        except OSError:
            os.close(handle)
        else:
            self._lock = handle

    def _in_use(self) -> KvaeError:
        return KvaeError(
            f"{self.path}: another process is training here: wait until it is done or stop it, "
            "or choose another -o"
        )

    def check_free(self, *, force: bool) -> None:
        """Refuse a folder that a new run must not be written to.

        Raises
        ------
        KvaeError
            Where the path is a file, the folder around it is missing, a run is
            there already (unless ``force``), or something that is no run.
        """
        if isinstance(remote := as_path(self.path), RemotePath):
            raise KvaeError(
                f"{remote}: a run is written while it trains, to a folder of this machine:"
                " give one with -o, and copy it when it is done"
            )
        if not self.path.parent.is_dir():
            raise KvaeError(f"{self.path.parent}: no such folder")
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise KvaeError(f"{self.path} exists and is not a folder")
        if self.is_run:
            if not force:
                raise KvaeError(
                    f"{self.path} holds a run: give --resume to continue it, --force to "
                    "replace it, or another -o"
                )
            if not self._has_own_config():
                raise KvaeError(f"{self.config} is not kvae's: the folder is left as it is")
        elif any(path not in self._leftovers() for path in self.path.iterdir()):
            raise KvaeError(f"{self.path} exists and holds something else than a run")

    def _has_own_config(self) -> bool:
        """Tell a run's configuration, even a damaged one, from another program's."""
        content = self.read_json(self.config.name)
        return isinstance(content, dict) and {"format", "model", "training"} <= content.keys()

    def start(self, config: RunConfig, *, is_there: bool = True) -> None:
        """Make the folder ready for a new run, replacing an old one.

        Only files that kvae writes are removed: whatever else a user keeps in a
        run's folder stays.

        Parameters
        ----------
        config
            What the run computes.
        is_there
            Whether there may be a folder already. Another process can have made it
            since there was none.

        Raises
        ------
        KvaeError
            Where it has, and where nothing can be written.
        """
        try:
            self.path.mkdir(exist_ok=is_there)
            self.reserve()
            for name in _FOLDERS:
                if (self.path / name).exists():
                    shutil.rmtree(self.path / name)
            for name in _FILES:
                if name != self.config.name:
                    (self.path / name).unlink(missing_ok=True)
            # Replaced, never removed: killed anywhere in here, this is still a run.
            self.write_config(config)
            self.checkpoints.mkdir()
        except FileExistsError:
            raise self._in_use() from None
        except OSError as error:
            raise KvaeError(f"{self.path}: cannot be written to: {error.strerror}") from error

    def write_config(self, config: RunConfig) -> None:
        """Write ``config.json``."""
        self.write_json("config.json", config.model_dump(mode="json"))

    def remove_leftovers(self) -> None:
        """Remove the temporary files that a killed process left in its place."""
        for path in self._leftovers():
            path.unlink(missing_ok=True)

    def _leftovers(self) -> list[Path]:
        """Temporary files of outputs that were never finished."""
        folders = (self.path, self.checkpoints)
        return [path for folder in folders for path in folder.glob(".kvae.*.tmp")]

    def read_config(self) -> RunConfig:
        """Read the run's configuration.

        Raises
        ------
        KvaeError
            Where there is no run, or its ``config.json`` is not valid.
        """
        try:
            text = self.config.read_bytes()
        except OSError:
            raise KvaeError(f"{self.path}: not a run (no config.json)") from None
        return parse_config(RunConfig, text, str(self.config))

    def load_model(self, layout: Layout) -> KmerVAE:
        """Load the best weights of the run, in evaluation mode.

        Where the path is a ``.safetensors`` file, that is the model.

        Raises
        ------
        KvaeError
            Where there is no run, no finished epoch, a damaged file, or a model
            of another layout.
        """
        from kvae.model import KmerVAE

        if self.path.is_file():
            return KmerVAE.load(self.path, layout=layout)
        config = self.read_config()
        if not self.model.exists():
            raise KvaeError(f"{self.path}: no epoch of this run is finished yet")
        model = KmerVAE.load(self.model, layout=layout)
        if model.config != config.model:
            raise KvaeError(
                f"{self.path}: config.json and model.safetensors describe different models"
            )
        return model

    def write_json(self, name: str, content: object) -> None:
        """Write one of the small files, atomically."""
        with atomic_output(self.path / name, force=True) as temporary:
            text = json.dumps(content, indent=2, ensure_ascii=False)
            Path(temporary).write_text(text + "\n", encoding="utf-8", newline="\n")

    def read_json(self, name: str) -> Any:
        """Content of one of the small files, None where it is missing or damaged."""
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None

    def write_data(self, inputs: Sequence[Path], rows: int, sources: int, bases: int) -> None:
        """Record what the run is trained on, and where that was.

        Paths are kept twice, whole and from the run's folder, so that a folder which is
        moved with both in it still finds its rows.
        """
        here = os.path.realpath(self.path)
        self.write_json(
            "data.json",
            {
                "inputs": [_place_of(path, here) for path in inputs],
                "rows": rows,
                "sources": sources,
                "bases": bases,
            },
        )

    def append_metrics(self, record: Mapping[str, Any]) -> None:
        """Add the figures of an epoch to ``metrics.jsonl``, one line."""
        try:
            with self.metrics.open("a", encoding="utf-8", newline="\n") as file:
                file.write(json.dumps(dict(record)) + "\n")
        except OSError as error:
            raise KvaeError(f"{self.metrics}: cannot be written: {error.strerror}") from error

    def read_metrics(self) -> list[dict[str, Any]]:
        """All lines of ``metrics.jsonl`` up to the first that is none, as an unfinished one."""
        try:
            lines = self.metrics.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError):
            return []
        records = []
        for line in lines:
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                break
            if not isinstance(record, dict) or not isinstance(record.get("epoch"), int):
                break
            records.append(record)
        return records

    def cut_metrics(self, epoch: int) -> None:
        """Forget epochs after the given one: they were not finished and will be repeated."""
        kept = [record for record in self.read_metrics() if record["epoch"] <= epoch]
        with atomic_output(self.metrics, force=True) as temporary:
            text = "".join(json.dumps(record) + "\n" for record in kept)
            Path(temporary).write_text(text, encoding="utf-8", newline="\n")

    def write_environment(
        self, device: torch.device, threads: int, precision: str, processes: int
    ) -> None:
        """Record what computes the run."""
        name = platform.processor() or platform.machine()
        if device.type == "cuda":
            name = torch.cuda.get_device_name(device)
        self.write_json(
            "environment.json",
            {
                "started": datetime.now(UTC).isoformat(timespec="seconds"),
                "command": [shown(argument) for argument in sys.argv],
                "python": platform.python_version(),
                "platform": platform.platform(),
                "packages": {package: _version(package) for package in _PACKAGES},
                "device": str(device),
                "device_name": name,
                "threads": threads,
                "precision": precision,
                "processes": processes,
            },
        )


def _place_of(path: Path, folder: str) -> dict[str, str]:
    """Where an input is, whole and from a folder; a remote one is at the same place from all."""
    if isinstance(path, RemotePath):
        return {"path": str(path), "from_run": str(path)}
    whole = os.path.realpath(path)
    return {"path": whole, "from_run": os.path.relpath(whole, folder)}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
