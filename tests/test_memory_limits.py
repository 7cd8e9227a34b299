"""Memory of every command on an input that is ten times larger than what it may grow by."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from memory_driver import BASES, COMMANDS, LATENTS, N_LATENT, ROWS
from sequences import PROJECT

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc"),
    # About a minute of a processor; the first test waits for all of them.
    pytest.mark.timeout(1800),
]

MEGABYTE = 10**6
GROWTH = 25 * MEGABYTE
N_FIELDS = 8_362
MORE_ROWS = ROWS["large"] - ROWS["small"]
MORE_BASES = BASES["large"] - BASES["small"]
MORE_LATENTS = LATENTS["large"] - LATENTS["small"]
OF_LATENTS = tuple(
    name for name in COMMANDS if name in ("index", "search", "cluster") or "latents" in name
)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("memory")
    python_path = os.pathsep.join([str(PROJECT / "python"), str(Path(__file__).parent)])
    result = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("memory_driver.py")), str(folder)],
        env={
            **os.environ,
            "PYTHONPATH": python_path,
            "OMP_NUM_THREADS": "1",
            "MALLOC_ARENA_MAX": "2",
        },
        capture_output=True,
        text=True,
        timeout=1700,
    )
    for path in folder.glob("*.*"):
        if path.is_file():
            path.unlink()
    assert result.returncode == 0, result.stderr[-3000:]
    lines = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    return {line["name"]: line for line in lines}


def growth(found: dict[str, Any], name: str) -> int:
    """Bytes that a command needs more for the large input than for the small one."""
    return int(found[name]["large"][0] - found[name]["small"][0])


def test_the_inputs_are_large_enough() -> None:
    assert MORE_ROWS * N_FIELDS * 4 > 10 * GROWTH
    assert BASES["largest"] - BASES["small"] > 10 * GROWTH


@pytest.mark.parametrize(
    "name", [n for n in COMMANDS if n not in OF_LATENTS and "sequences" not in n]
)
def test_memory_does_not_grow_with_rows(found: dict[str, Any], name: str) -> None:
    assert growth(found, name) < GROWTH


@pytest.mark.parametrize("name", [n for n in COMMANDS if "sequences" in n])
def test_sequences_take_two_bits_a_base(found: dict[str, Any], name: str) -> None:
    """That is what is promised; their rows would take as much as those of a feature file."""
    assert growth(found, name) < 0.27 * MORE_BASES + GROWTH
    assert MORE_BASES // 5_000 * N_FIELDS * 4 > 2 * (0.27 * MORE_BASES + GROWTH)


@pytest.mark.parametrize("name", OF_LATENTS)
def test_latents_take_a_few_times_their_size(found: dict[str, Any], name: str) -> None:
    """They are read as a whole: vectors, copies of length 1 and a graph of them, and names."""
    per_row = 4 * 4 * N_LATENT + 1_000
    assert growth(found, name) < per_row * MORE_LATENTS + GROWTH


@pytest.mark.parametrize(("name", "threads"), [("encode packed", 1), ("encode with 3 threads", 3)])
def test_no_more_threads_than_were_asked_for(
    found: dict[str, Any], name: str, threads: int
) -> None:
    """As many gather rows ahead, and as many compute, beside those that wait for others."""
    assert found[name]["large"][1] <= 3 * threads + 2
