"""Whatever system call fails: one line, the old output or the new one, nothing beside it.

A library that is preloaded makes the Nth call on files of a folder fail, for every N
(``faults.c``); `fault_driver` runs the commands.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sequences import PROJECT
from thorough import LONG, rather

TESTS = Path(__file__).parent
EVERY_KIND = 255


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C compiler and Linux")
    path = tmp_path_factory.mktemp("faults") / "faults.so"
    source = TESTS / "faults.c"
    command = [compiler, "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-ldl"]
    subprocess.run([*command, "-o", path, source], check=True, capture_output=True)
    return path


def sweep(library: Path, folder: Path, scenario: str, error: int, step: int) -> list[Any]:
    folder.mkdir()
    python_path = os.pathsep.join([str(PROJECT / "python"), str(TESTS)])
    environment = {"LD_PRELOAD": str(library), "KVAE_FAULTS": str(folder), "OMP_NUM_THREADS": "1"}
    script = str(TESTS / "fault_driver.py")
    result = subprocess.run(
        [sys.executable, script, scenario, str(folder), str(EVERY_KIND), str(error), str(step)],
        env={**os.environ, "PYTHONPATH": python_path} | environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EACCES, errno.EMFILE])
@pytest.mark.parametrize("scenario", ["featurize", "featurize packed"])
def test_any_call_of_featurize_may_fail(
    library: Path, tmp_path: Path, scenario: str, error: int
) -> None:
    check(sweep(library, tmp_path / "faults", scenario, error, 1), tmp_path, at_least=12)


@pytest.mark.parametrize(
    ("scenario", "error", "at_least"),
    [("encode", errno.ENOSPC, 8), ("encode features", errno.EIO, 5)],
)
def test_any_call_of_encode_may_fail(
    library: Path, tmp_path: Path, scenario: str, error: int, at_least: int
) -> None:
    lines = sweep(library, tmp_path / "faults", scenario, error, rather(3, 1))
    check(lines, tmp_path, at_least)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EACCES] if LONG else [errno.EIO])
@pytest.mark.parametrize(
    ("scenario", "step", "at_least"),
    [
        ("merge", 2, 36),
        ("index", 5, 9),
        ("export anndata", 23, 6),
        *(
            (scenario, 1, at_least)
            for scenario, at_least in {
                "cluster": 10,
                "bins": 100,
                "search": 50,
                "search index": 18,
                "export parquet": 100,
                "export text": 40,
                "export numpy": 60,
                "export latents": 12,
                "report": 10,
            }.items()
            if LONG
        ),
    ],
)
def test_any_call_of_what_writes_files_may_fail(
    library: Path, tmp_path: Path, scenario: str, step: int, error: int, at_least: int
) -> None:
    lines = sweep(library, tmp_path / "faults", scenario, error, rather(step, 1))
    check(lines, tmp_path, at_least)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO] if rather(0, 1) else [errno.ENOSPC])
def test_any_call_of_train_may_fail_and_the_run_goes_on(
    library: Path, tmp_path: Path, error: int
) -> None:
    lines = sweep(library, tmp_path / "faults", "train", error, rather(17, 1))
    check(lines, tmp_path, at_least=9)
    # Resumed, it has come to the very same end.
    assert {line["state"] for line in lines} == {"new"}


def check(lines: list[Any], folder: Path, at_least: int) -> None:
    short, *failed = lines
    assert short["code"] == 0, short
    assert short["state"] == "new"
    for line in failed:
        assert line["left"] == []
        assert line["after"] == 0
        if line["code"] == 0:
            # What failed was not needed.
            assert line["state"] == "new", line
            continue
        assert line["code"] == 1, line
        assert line["state"] in ("old", "new"), line
        assert line["told"].startswith(f"kvae: error: {folder}"), line
        assert line["told"].count("\n") == 1, line
        assert ".tmp" not in line["told"], line
        # The files are sound.
        assert " again" not in line["told"], line
    assert sum(line["code"] == 1 for line in failed) >= at_least
