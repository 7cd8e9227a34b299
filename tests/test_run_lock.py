"""One process at a time writes to a run's folder."""

from __future__ import annotations

import errno
import fcntl
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kvae.epoch_progress import TrainProgress
from kvae.errors import KvaeError
from kvae.run_folder import RunFolder
from sequences import PROJECT
from small import MemoryStore
from training_runs import assert_same_run, run

IN_USE = r"run: another process is training here: wait .* or choose another -o$"

HOLD = """
import sys, time
from kvae.run_folder import RunFolder
RunFolder(sys.argv[1]).reserve()
print("reserved", flush=True)
time.sleep(600)
"""


class At(TrainProgress):
    """Does something once, when a part of the work begins."""

    def __init__(self, label: str, act: Callable[[], object]) -> None:
        self._label = label
        self._act = act

    def begin(self, label: str, rows: int) -> None:
        if label == self._label:
            self._label = ""
            self._act()


def test_a_folder_that_is_trained_in_is_refused(store: MemoryStore, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    tried = []

    def others() -> None:
        for how in ({"resume": True}, {"force": True}):
            with pytest.raises(KvaeError, match=IN_USE):
                run(store, folder, **how)
            tried.append(how)

    run(store, folder, progress=At("epoch 2", others))
    assert len(tried) == 2
    run(store, tmp_path / "alone")
    assert_same_run(folder, tmp_path / "alone")
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        p.name for p in (tmp_path / "alone").iterdir()
    )
    assert run(store, folder, resume=True, epochs=3).epochs == 3
    assert run(store, folder, force=True).epochs == 2


def test_a_folder_that_another_has_made_meanwhile(store: MemoryStore, tmp_path: Path) -> None:
    """Both found nothing there; one was faster."""
    folder = tmp_path / "run"
    faster = At("reading", lambda: run(store, folder, epochs=1))
    with pytest.raises(KvaeError, match=IN_USE):
        run(store, folder, progress=faster)
    run(store, tmp_path / "alone", epochs=1)
    assert_same_run(folder, tmp_path / "alone")


def test_a_killed_process_leaves_no_lock(store: MemoryStore, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run(store, folder, epochs=1)
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        env={"PYTHONPATH": str(PROJECT / "python")},
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "reserved\n"
        with pytest.raises(KvaeError, match=IN_USE):
            run(store, folder, resume=True, epochs=2)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert run(store, folder, resume=True, epochs=2).epochs == 2


def test_a_file_system_without_locks(
    store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(handle: int, operation: int) -> None:
        assert operation & fcntl.LOCK_NB
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert run(store, tmp_path / "run").epochs == 2
    with RunFolder(tmp_path / "run").reserved():
        assert run(store, tmp_path / "run", resume=True, epochs=3).epochs == 3
