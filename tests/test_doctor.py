"""The checkup of a machine: what it finds here, and what it says of other machines."""

from __future__ import annotations

import copy
import json
import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch

import kvae
from in_process import kvae as program
from kvae import _core
from kvae.checkup import machine
from kvae.checkup.advice import advice, problems
from kvae.checkup.packages import EXTRAS, REQUIRED
from kvae.device import resolve_device
from sequences import PROJECT, run_kvae


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> kvae.Checkup:
    folder = tmp_path_factory.mktemp("folder")
    found = kvae.doctor(folder)
    assert list(folder.iterdir()) == []
    return found


def test_this_machine_is_well(found: kvae.Checkup) -> None:
    assert found.works, found.problems
    facts = found.facts
    assert facts["packages"]["kvae"] == kvae.__version__
    assert torch.__version__.startswith(facts["packages"]["required"]["torch"])
    assert facts["simd"]["active"] == _core.backend()
    assert facts["simd"]["active"] in facts["simd"]["available"]
    assert "scalar" in facts["simd"]["available"]
    assert facts["simd"]["agree"]
    assert facts["processor"]["threads"] == _core.available_threads()
    assert facts["processor"]["cpus"] == os.cpu_count()
    assert facts["memory"]["total"] > facts["memory"]["available"] > 1e8
    assert facts["folder"]["writable"]
    assert facts["folder"]["free"] > 0
    run = facts["devices"]["run"]
    assert run["computes"]
    assert run["device"] == str(resolve_device("auto"))
    assert json.loads(found.as_json())["problems"] == []


def test_names_are_those_of_the_package() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]

    def names(requirements: list[str]) -> set[str]:
        return {line.partition(">")[0] for line in requirements}

    assert set(REQUIRED) <= names(project["dependencies"])
    extras = project["optional-dependencies"]
    assert {extra: set(packages) for extra, (packages, _) in EXTRAS.items()} == {
        extra: names(lines) for extra, lines in extras.items()
    }


# --- what it says -------------------------------------------------------------------

GB = 10**9
WELL: dict[str, Any] = {
    "packages": {"required": {"torch": "2.6.0", "numpy": "2.0"}},
    "simd": {
        "forced": None,
        "active": "avx512",
        "available": ["scalar", "avx2", "avx512"],
        "agree": True,
    },
    "processor": {"cpus": 8, "affinity": 8, "cgroup": None, "threads": 8, "variables": {}},
    "memory": {"total": 64 * GB, "available": 32 * GB, "cgroup": None},
    "devices": {
        "driver": "550.54",
        "cuda_build": "12.4",
        "hip_build": None,
        "cuda": [{"name": "a GPU"}],
        "mps": False,
        "run": {"device": "cuda:0", "precision": "bf16", "compile": True, "computes": True},
        "error": None,
        "warnings": [],
    },
    "folder": {"path": "/data", "free": 900 * GB, "writable": True, "direct": True},
}


def changed(**changes: Any) -> dict[str, Any]:
    """The facts of a good machine with some that are not; keys by subject__name."""
    facts = copy.deepcopy(WELL)
    for key, value in changes.items():
        subject, _, name = key.partition("__")
        facts[subject][name] = value
    return facts


def test_nothing_is_said_of_a_good_machine() -> None:
    assert list(problems(WELL)) == []
    assert list(advice(WELL)) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"simd__active": None, "simd__error": "KVAE_SIMD=x: use scalar, avx2 or avx512"},
            "KVAE_SIMD=x: use scalar, avx2 or avx512, or unset the variable",
        ),
        ({"simd__available": []}, "install kvae again"),
        ({"simd__agree": False}, "set KVAE_SIMD=scalar, and report it"),
        ({"devices__error": "libcudart.so.12: missing"}, "torch cannot be loaded (libcudart"),
        (
            {"devices__run": {"device": "cuda:0", "computes": False}},
            "computes wrongly, or not at all, on cuda:0: use --device cpu",
        ),
        ({"packages__required": {"torch": "2.6.0", "scipy": None}}, "pip install scipy"),
    ],
    ids=["variable", "nothing counts", "counts differ", "torch", "device", "package"],
)
def test_what_keeps_kvae_from_working(changes: dict[str, Any], message: str) -> None:
    (line,) = problems(changed(**changes))
    assert message in line


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"simd__forced": "scalar", "simd__active": "scalar"}, "also has avx512"),
        ({"simd__active": "scalar", "simd__available": ["scalar"]}, "neither AVX2 nor AVX-512"),
        ({"processor__affinity": 2, "processor__threads": 2}, "2 of 8 CPUs may be used, which its"),
        ({"processor__cgroup": 3.5, "processor__threads": 3}, "its control group decides"),
        ({"processor__variables": {"OMP_NUM_THREADS": "1"}}, "kvae's --threads decides"),
        ({"memory__available": GB}, "1.0 GB of memory are left"),
        ({"memory__cgroup": GB // 2}, "0.5 GB of memory are left"),
        ({"devices__cuda": [], "devices__driver": None}, "has no NVIDIA driver: runs use the CPU"),
        ({"devices__cuda": []}, "the driver may be too old, or CUDA_VISIBLE_DEVICES hides it"),
        ({"devices__cuda": [], "devices__cuda_build": None}, "built for the CPU: install a build"),
        ({"folder__writable": False}, "/data: cannot be written to"),
        ({"folder__free": GB}, "/data: 1.0 GB free"),
        ({"folder__direct": False}, "cannot write past the page cache"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_what_could_be_better(changes: dict[str, Any], message: str) -> None:
    facts = changed(**changes)
    assert list(problems(facts)) == []
    (line,) = advice(facts)
    assert message in line
    assert "\n" not in line


def test_what_the_driver_says_is_passed_on() -> None:
    facts = changed(devices__cuda=[], devices__warnings=["the driver is too old (found 11040)"])
    assert list(advice(facts))[-1] == "the driver is too old (found 11040)"


# --- how it is found ----------------------------------------------------------------


def test_a_backend_that_fails_is_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "BACKENDS", ("scalar", "nonsense"))
    monkeypatch.setenv("KVAE_SIMD", "")
    facts = machine.simd_facts()
    assert facts["available"] == ["scalar"]
    assert facts["forced"] is None


def test_limits_of_control_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    files: dict[str, list[str]] = {}
    monkeypatch.setattr(machine, "_lines", lambda path: files.get(str(path), []))
    assert machine.processor_facts()["cgroup"] is None
    files["/sys/fs/cgroup/cpu.max"] = ["150000 100000"]
    assert machine.processor_facts()["cgroup"] == 1.5
    files["/sys/fs/cgroup/cpu.max"] = ["max 100000"]
    assert machine.processor_facts()["cgroup"] is None
    del files["/sys/fs/cgroup/cpu.max"]
    files["/sys/fs/cgroup/cpu/cpu.cfs_quota_us"] = ["400000"]
    files["/sys/fs/cgroup/cpu/cpu.cfs_period_us"] = ["100000"]
    assert machine.processor_facts()["cgroup"] == 4.0
    files["/proc/meminfo"] = ["MemTotal: 16000 kB", "MemFree: 1 kB", "MemAvailable: 9000 kB"]
    files["/sys/fs/cgroup/memory.max"] = ["8192000"]
    expected = {"total": 16_384_000, "available": 9_216_000, "cgroup": 8_192_000}
    assert machine.memory_facts() == expected
    for unlimited in ("max", "9223372036854771712"):
        files["/sys/fs/cgroup/memory.max"] = [unlimited]
        assert machine.memory_facts()["cgroup"] is None


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    facts = machine.folder_facts(tmp_path / "missing")
    assert (facts["free"], facts["writable"], facts["direct"]) == (None, False, False)


# --- the command --------------------------------------------------------------------


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert program("kvae doctor", monkeypatch) == 0
    told = capsys.readouterr()
    assert told.err == ""
    names = {line.split("  ")[0] for line in told.out.partition("\n\n")[0].splitlines()}
    assert {"kvae", "instructions", "threads", "memory", "a run takes", "folder"} <= names
    assert told.out.endswith("kvae works here.\n")
    assert program("kvae doctor --json", monkeypatch) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["problems"] == []
    assert content["folder"]["path"] == str(tmp_path)


def test_a_problem_is_told_by_the_exit_code() -> None:
    result = run_kvae("doctor", env=os.environ | {"KVAE_SIMD": "nonsense"})
    assert result.returncode == 1
    assert "problem: KVAE_SIMD=nonsense: use scalar, avx2 or avx512" in result.stdout
    assert "kvae works here" not in result.stdout
