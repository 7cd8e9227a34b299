"""The benchmark of training in its smallest form: what a machine with a GPU runs first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sequences import DATA, PROJECT


@pytest.mark.parametrize("preset", ["dot", "kvae"])
def test_the_benchmark_runs_and_prints_json(tmp_path: Path, preset: str) -> None:
    line = [sys.executable, str(PROJECT / "benches" / "bench_train.py"), str(DATA)]
    line += f"--preset {preset} --rows 90 --steps 1 --runs 1 --batch-size 4 --threads 1".split()
    line += ["--device", "cpu", "--precision", "bf16", "--json", "-"]
    done = subprocess.run(
        line,
        env=os.environ | {"PYTHONPATH": str(PROJECT / "python")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["precision"], report["rows"], report["device"]) == ("bf16", 90, "cpu")
    names = {"ceiling", "from log", "from counts", "from packed", "the long way"}
    names |= {"a first script, log"}
    if preset == "dot":
        names |= {"from packed, resident"}
    assert report["figures"].keys() == names
    for figures in report["figures"].values():
        assert all(value > 0.0 for value in figures.values())
    assert report["packed_bytes"] >= 90 * 5000 / 4
    assert not list(tmp_path.iterdir())
