"""Whatever memory is refused: one line and exit code 1, the old output, nothing beside it.

A library that is preloaded makes the Nth allocation of the Rust half fail (``scarce.c``);
`scarce_driver` runs the commands.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from kvae import cli
from sequences import PROJECT
from thorough import LONG, rather

TESTS = Path(__file__).parent
# What Rust's tells before it aborts, of which the extension makes its own end.
STANDARD_LIBRARY = r"^\s*memory allocation of \d\d bytes failed\n(note: run with .*\n)?"
# Everything, and what is large: text, rows, pieces of the output.
SIZES = {"any": 0, "large": 1 << 16}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C compiler and Linux")
    path = tmp_path_factory.mktemp("scarce") / "scarce.so"
    command = [compiler, "-O1", "-Wall", "-Werror", "-shared", "-fPIC"]
    subprocess.run([*command, "-o", path, TESTS / "scarce.c"], check=True, capture_output=True)
    return path


def sweep(
    library: Path, folder: Path, scenario: str, size: str, lasting: bool, runs: int
) -> list[Any]:
    folder.mkdir()
    python_path = os.pathsep.join([str(PROJECT / "python"), str(TESTS)])
    environment = {
        "LD_PRELOAD": str(library),
        "PYTHONPATH": python_path,
        "OMP_NUM_THREADS": "1",
    } | {
        # With traces the standard library needs memory to tell that there is none.
        "RUST_BACKTRACE": "0"
    }
    numbers = map(str, (SIZES[size], int(lasting), runs))
    result = subprocess.run(
        [sys.executable, str(TESTS / "scarce_driver.py"), scenario, str(folder), *numbers],
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scenario", ["featurize", "featurize packed", "merge", "encode"])
def test_any_allocation_may_fail(
    library: Path, tmp_path: Path, scenario: str, size: str, lasting: bool
) -> None:
    lines = sweep(library, tmp_path / "scarce", scenario, size, lasting, rather(16, 2_000))
    check(lines, {"old"})


@pytest.mark.parametrize("lasting", [True, False] if LONG else [True])
@pytest.mark.parametrize("size", SIZES)
def test_any_allocation_of_training_on_sequences_may_fail(
    library: Path, tmp_path: Path, size: str, lasting: bool
) -> None:
    folder = tmp_path / "scarce"
    lines = sweep(library, folder, "train sequences", size, lasting, rather(3, 2_000))
    # The weights may be there already.
    check(lines, {"old", "new"})


def check(lines: list[Any], states: set[str]) -> None:
    assert lines
    for line in lines:
        # The standard library asks the system itself for a few bytes of each thread, and tells.
        told = re.sub(STANDARD_LIBRARY, "", line["told"])
        assert line["left"] == [], line
        if line["code"] == 0:
            # What was refused was not needed.
            assert line["state"] == "new", line
            continue
        assert line["code"] == 1, line
        assert line["state"] in states, line
        assert told.startswith("kvae: error: "), line
        assert "memory" in told, line
        assert told.count("\n") == 1, line
    assert any(line["code"] == 1 for line in lines)


def load_a_library() -> None:
    raise ImportError("numpy says a lot.\nlibx.so: failed to map segment from shared object\n")


@pytest.mark.parametrize(
    "ask",
    [
        lambda: np.empty(1 << 50),
        lambda: torch.empty(1 << 50),
        lambda: pa.allocate_buffer(1 << 50),
        lambda: bytes(1 << 50),
        load_a_library,
    ],
    ids=["numpy", "torch", "Arrow", "Python", "the loader of libraries"],
)
def test_what_others_are_refused_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ask: Callable[[], object]
) -> None:
    monkeypatch.setattr(cli, "speak_utf8", lambda: None)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(cli, "_program_for", lambda _: lambda **_: ask())
    with pytest.raises(SystemExit) as end:
        cli.main()
    told = capsys.readouterr().err
    assert end.value.code == 1
    assert told.startswith("kvae: error: not enough memory")
    assert told.count("\n") == 1


def test_other_errors_are_defects_and_keep_their_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(**_: object) -> None:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(cli, "speak_utf8", lambda: None)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(cli, "_program_for", lambda _: fail)
    with pytest.raises(RuntimeError, match="shapes differ"):
        cli.main()
