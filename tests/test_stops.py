"""Runs that are stopped or run out of space leave nothing half-written."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import pytest

from feature_tables import GOOD
from sequences import fails, listing, random_sequence, run_kvae, write


class Feeder(threading.Thread):
    """Writes sequence to a process until it has ended."""

    def __init__(self, pipe: IO[bytes]) -> None:
        super().__init__(daemon=True)
        self._pipe = pipe

    def run(self) -> None:
        line = random_sequence(1 << 16).encode() + b"\n"
        with suppress(OSError, ValueError):
            self._pipe.write(b">endless\n")
            while True:
                self._pipe.write(line)


@contextmanager
def running(folder: Path, *args: str) -> Iterator[subprocess.Popen[bytes]]:
    """A run that reads standard input, once it has made its temporary file."""
    command = [sys.executable, "-m", "kvae", "featurize", "-", "--k", "4", *args]
    before = set(os.listdir(folder))
    with subprocess.Popen(
        command,
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            until(lambda: set(os.listdir(folder)) > before)
            yield process
        finally:
            process.kill()
            process.wait()
            # Closing flushes what the process no longer reads.
            assert process.stdin is not None
            with suppress(BrokenPipeError):
                process.stdin.close()


def until(condition: Any, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def written(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob(".*.tmp"))


SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


@pytest.mark.parametrize(("number", "code"), SIGNALS)
@pytest.mark.parametrize("old", [b"", b"precious"], ids=["new", "old output"])
def test_a_run_that_is_stopped_leaves_nothing(
    tmp_path: Path, number: signal.Signals, code: int, old: bytes
) -> None:
    args = []
    if old:
        write(tmp_path / "feats.arrow", old)
        args = ["--force"]
    before = listing(tmp_path)
    with running(tmp_path, *args) as process:
        assert process.stdin is not None
        feeder = Feeder(process.stdin)
        feeder.start()
        until(lambda: written(tmp_path) > 1 << 16)
        process.send_signal(number)
        assert process.wait(timeout=60) == code
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read() == b""
        assert b"Traceback" not in process.stderr.read()
    feeder.join(timeout=60)
    assert listing(tmp_path) == before


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_run_that_waits_for_input_can_be_stopped(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    with running(tmp_path) as process:
        assert process.stdin is not None
        process.stdin.write(b">a\nACGT")
        process.stdin.flush()
        time.sleep(0.3)
        process.send_signal(number)
        assert process.wait(timeout=60) == code
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_killed_leaves_the_old_output(tmp_path: Path) -> None:
    write(tmp_path / "feats.arrow", b"precious")
    with running(tmp_path, "--force") as process:
        assert process.stdin is not None
        Feeder(process.stdin).start()
        until(lambda: written(tmp_path) > 1 << 16)
        process.kill()
        process.wait(timeout=60)
    assert (tmp_path / "feats.arrow").read_bytes() == b"precious"


def limit_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


def test_a_full_disk_leaves_the_old_output(tmp_path: Path) -> None:
    """Stood in for by a limit on the size of files."""
    write(tmp_path / "a.fna", GOOD)
    write(tmp_path / "feats.arrow", b"precious")
    before = listing(tmp_path)
    command = ["featurize", "a.fna", "--force"]
    fails(run_kvae(*command, cwd=tmp_path, preexec_fn=limit_files))
    assert listing(tmp_path) == before


def test_a_full_disk_is_told_with_the_output_that_was_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "a.fna", GOOD)
    told = fails(run_kvae("featurize", "a.fna", cwd=tmp_path, preexec_fn=limit_files))
    assert re.match(r"kvae: error: \S*?/?feats\.arrow: file too large\n", told), told


def test_a_program_that_is_stopped_while_it_is_loaded_says_so(tmp_path: Path) -> None:
    slow = "import sys, time\nprint('loading', flush=True)\ntime.sleep(60)\n"
    (tmp_path / "typer.py").write_text(slow)
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        [sys.executable, "-m", "kvae", "--help"],
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "loading\n"
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert (process.returncode, told) == (130, "kvae: interrupted\n")
