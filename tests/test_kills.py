"""Killed at any moment, a command leaves the old output or the new one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sequences import PROJECT
from thorough import rather

TESTS = Path(__file__).parent


def killed(folder: Path, scenario: str, number: signal.Signals, times: int) -> list[Any]:
    folder.mkdir()
    python_path = os.pathsep.join([str(PROJECT / "python"), str(TESTS)])
    script = str(TESTS / "kill_driver.py")
    result = subprocess.run(
        [sys.executable, script, scenario, str(folder), str(int(number)), str(times)],
        env={**os.environ, "PYTHONPATH": python_path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(lines) == times
    return lines


# A hundred times killed, fifty times stopped by each of the two signals where tests may take long.
CASES = [
    (scenario, number, rather(few, 100 if number == signal.SIGKILL else 50))
    for scenario, number, few in [
        ("featurize more", signal.SIGKILL, 25),
        ("featurize more", signal.SIGINT, 8),
        ("featurize more", signal.SIGTERM, 8),
        ("merge more", signal.SIGKILL, 8),
        ("merge more", signal.SIGINT, 3),
        ("merge more", signal.SIGTERM, 3),
        ("index", signal.SIGKILL, 6),
        ("index", signal.SIGINT, 2),
        ("index", signal.SIGTERM, 3),
        ("export anndata", signal.SIGKILL, 3),
        ("encode", signal.SIGKILL, 4),
        ("encode", signal.SIGINT, 2),
        ("encode", signal.SIGTERM, 3),
        ("train", signal.SIGKILL, 10),
        ("train", signal.SIGINT, 4),
        ("train", signal.SIGTERM, 4),
    ]
]


@pytest.mark.parametrize(("scenario", "number", "times"), CASES)
def test_a_command_may_be_killed_at_any_moment(
    tmp_path: Path, scenario: str, number: signal.Signals, times: int
) -> None:
    for line in killed(tmp_path / "work", scenario, number, times):
        assert line["state"] in ("old", "new"), line
        assert line["after"] == 0, line
        assert line["remaining"] == [], line
        if scenario == "train":
            # Resumed, it has come to the very same end.
            assert line["state"] == "new", line
        if number == signal.SIGKILL:
            assert line["code"] in (-signal.SIGKILL, 0), line
            continue
        # A signal may come before Python has a handler, or when all is done.
        assert line["code"] in (128 + number, 0, -number), line
        assert line["left"] == [], line
        assert "Traceback" not in line["told"], line
