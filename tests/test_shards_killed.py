"""Shards survive what kills their workers, and cost no more memory than one file."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import kvae
from sequences import fasta, random_sequence, write

N_SHARDS = 32

# Featurizes shards in the order given, as jobs of a cluster do, and ends when it is told to.
WORKER = """
import json, sys
import kvae

source, folder, count, order = sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
for index in order:
    result = kvae.featurize(source, folder, shard=(index, count), threads=2)
    print(index, "again" if result.repeated else "new", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 12 Mb, in records of any length."""
    rng = random.Random(0)
    letters = random_sequence(1_000_000)
    records = []
    for i in range(1_500):
        start, length = rng.randrange(900_000), rng.randrange(1_000, 15_000)
        records.append((f"r{i}", letters[start : start + length]))
    return write(tmp_path_factory.mktemp("source") / "a.fa", fasta(records))


def worker(source: Path, folder: Path, order: list[int]) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WORKER, str(source), str(folder), str(N_SHARDS)]
    return subprocess.Popen(
        [*command, json.dumps(order)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_killed_workers_lose_and_double_nothing(source: Path, tmp_path: Path) -> None:
    rng = random.Random(1)
    order = rng.sample(range(1, N_SHARDS + 1), N_SHARDS)
    folder = tmp_path / "feats"
    made: list[int] = []
    for kill in (True, True, True, False):
        process = worker(source, folder, order)
        assert process.stdout is not None
        if kill:
            # Once it is at work, at any moment of a shard.
            for _ in range(min(rng.randrange(2, 5) + len(made), N_SHARDS)):
                process.stdout.readline()
            time.sleep(rng.random() * 0.03)
            process.send_signal(signal.SIGKILL)
        out, err = process.communicate()
        assert process.returncode == (-signal.SIGKILL if kill else 0), err
        made = [i for i in order if (folder / f"feats-{i:04}-of-0032.json").exists()]
        # All but what was under way is whole.
        assert made == order[: len(made)]
    again = sum(line.endswith("again") for line in out.splitlines())
    assert again >= 6
    kvae.featurize(source, tmp_path / "whole.arrow")
    kvae.merge(folder, tmp_path / "merged.arrow")
    assert (tmp_path / "merged.arrow").read_bytes() == (tmp_path / "whole.arrow").read_bytes()


PEAK = """
import re, sys
from pathlib import Path
import kvae

source, folder, output, count = *sys.argv[1:4], int(sys.argv[4])

def peak():
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1])

def reset():
    Path("/proc/self/clear_refs").write_text("5")

peaks = []
for index in range(1, count + 1):
    reset()
    kvae.featurize(source, folder, shard=(index, count), threads=2)
    peaks.append(peak())
reset()
kvae.merge(folder, output)
print(max(peaks), peak())
"""


def test_memory_is_that_of_a_few_batches(source: Path, tmp_path: Path) -> None:
    peaks = []
    for count in (1, N_SHARDS):
        arguments = [str(source), str(tmp_path / f"{count}"), str(tmp_path / f"{count}.arrow")]
        command = [sys.executable, "-c", PEAK, *arguments, str(count)]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append([int(peak) for peak in result.stdout.split()])
    size = (tmp_path / "1.arrow").stat().st_size / 1024
    (shard_of_1, merge_of_1), (shard_of_32, merge_of_32) = peaks
    kilobytes = 30_000
    assert size > 2 * kilobytes
    assert shard_of_32 - shard_of_1 < kilobytes
    assert merge_of_32 - merge_of_1 < kilobytes
    assert merge_of_1 - shard_of_1 < size / 2
