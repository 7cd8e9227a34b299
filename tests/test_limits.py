"""Memory does not grow with the input, and threads are as many as were asked for."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import kvae
from kvae.encoding import encode
from kvae.progress import Progress
from sequences import fasta, fastq, random_sequence, write
from small import MemoryStore
from training_runs import Finished

MEGABYTE = 1 << 20

PEAK = """
import re
import sys
from pathlib import Path

exec(sys.argv[1])
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


def peak(code: str, folder: Path) -> int:
    """Bytes of memory that a program needs at most."""
    command = [sys.executable, "-c", PEAK, code]
    environment = {**os.environ, "MALLOC_ARENA_MAX": "2"}
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return int(result.stdout.split()[-1]) * 1024


FEATURIZE = """
import kvae
kvae.featurize("in", "out.arrow", k=[3], sequence=False, threads=2, force=True)
"""


def small_and_large(folder: Path, kind: str) -> tuple[bytes, bytes]:
    """Two inputs of one kind, the larger one of 150 MB of text or more."""
    line = random_sequence(1_000_000).encode() + b"\n"
    if kind == "many records":
        records = fasta([(f"r{i}", random_sequence(1_500, i)) for i in range(600)])
        return records, records * 170
    if kind == "FASTQ":
        reads = fastq([(f"r{i}", random_sequence(1_500, i)) for i in range(300)])
        return reads, reads * 170
    if kind == "one line of 150 Mb":
        return b">a\n" + line, b">a\n" + line[:-1] * 150
    if kind == "a gzip of 200 Mb of one letter":
        return tuple(gzip.compress(b">a\n" + b"A" * n, 1) for n in (10**6, 2 * 10**8))  # type: ignore[return-value]
    member = gzip.compress(b">a\n" + line * 10, 1)
    return member, member * 16


@pytest.mark.parametrize(
    "kind",
    [
        "many records",
        "FASTQ",
        "one line of 150 Mb",
        "a gzip of 200 Mb of one letter",
        "a gzip of many members",
    ],
)
def test_featurizing_takes_as_much_for_any_size(tmp_path: Path, kind: str) -> None:
    peaks = []
    for content in small_and_large(tmp_path, kind):
        write(tmp_path / "in", content)
        peaks.append(peak(FEATURIZE, tmp_path))
    (tmp_path / "in").unlink()
    assert peaks[1] < 140 * MEGABYTE
    assert peaks[1] - peaks[0] < 90 * MEGABYTE


READ = """
import numpy as np
from kvae import FeatureStore

store = FeatureStore("out.arrow", threads=1)
out = np.empty((256, store.layout.n_fields), np.float32)
for start in range(0, len(store) - 255, 256):
    store.rows(np.arange(start, start + 256), out=out)
"""


def test_reading_rows_takes_less_than_their_file(tmp_path: Path) -> None:
    write(tmp_path / "in", fasta([("a", random_sequence(2_400_000))]))
    featurize = (
        "import kvae; kvae.featurize('in', 'out.arrow', window=300, sequence=False, threads=2)"
    )
    assert peak(featurize, tmp_path) < 180 * MEGABYTE
    size = (tmp_path / "out.arrow").stat().st_size
    assert size > 250 * MEGABYTE
    assert peak(READ, tmp_path) < 160 * MEGABYTE
    (tmp_path / "out.arrow").unlink()


def threads_of(folder: Path, n: int) -> int:
    """Threads of a process that featurizes, once it waits for more input."""
    command = [sys.executable, "-m", "kvae", "featurize", "-", "-t", str(n), "-o", f"{n}.arrow"]
    with subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(fasta([("a", random_sequence(3_000_000))]))
        process.stdin.flush()
        most, end = 0, time.monotonic() + 60.0
        while time.monotonic() < end and most < 1 + n:
            most = max(most, len(os.listdir(f"/proc/{process.pid}/task")))
            time.sleep(0.01)
        # More than there should be would show by now.
        for _ in range(20):
            most = max(most, len(os.listdir(f"/proc/{process.pid}/task")))
            time.sleep(0.01)
        process.stdin.close()
        assert process.wait(timeout=60) == 0
    return most


MERGE = """
import resource
import sys

resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]) << 20,) * 2)
from kvae.cli import main

sys.argv = ["kvae", "merge", "-q", "shards", "-o", "merged.arrow", "--force"]
main()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of the address space")
def test_merging_writes_all_or_nothing_where_memory_is_short(tmp_path: Path) -> None:
    records = [(f"r{i}", random_sequence(5_000, i)) for i in range(600)]
    kvae.featurize(write(tmp_path / "in.fa", fasta(records)), tmp_path / "whole.arrow")
    for i in range(3):
        kvae.featurize(tmp_path / "in.fa", tmp_path / "shards", shard=(i + 1, 3))
    for megabytes in (180, 220, 260, 300, 2_000):
        result = subprocess.run(
            [sys.executable, "-c", MERGE, str(megabytes)],
            cwd=tmp_path,
            # With traces the standard library needs memory to tell that there is none.
            env={**os.environ, "RUST_BACKTRACE": "0"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if result.returncode == 0:
            assert (tmp_path / "merged.arrow").read_bytes() == (
                tmp_path / "whole.arrow"
            ).read_bytes()
            (tmp_path / "merged.arrow").unlink()
            continue
        assert not (tmp_path / "merged.arrow").exists()
        # The stack of a thread is memory too, which the system refuses in other words.
        assert "memory" in result.stderr or "temporarily unavailable" in result.stderr
        assert "Traceback" not in result.stderr
        # What is written waits in memory that cannot be refused: the process ends.
        if result.returncode != -signal.SIGABRT:
            assert result.returncode == 1, result.stderr
            assert len(result.stderr.splitlines()) == 1, result.stderr
            assert result.stderr.startswith("kvae: error: ")
    assert result.returncode == 0


def test_featurize_has_the_threads_that_were_asked_for(tmp_path: Path) -> None:
    """The calling thread only watches, and another one what signals come."""
    assert [threads_of(tmp_path, n) for n in (1, 2, 5)] == [3, 4, 7]


class Look(Progress):
    """Sees with how many threads torch computes."""

    def __init__(self) -> None:
        self.seen: set[int] = set()

    def advance(self, rows: int) -> None:
        self.seen.add(torch.get_num_threads())


@pytest.mark.parametrize("n", [1, 3])
def test_encode_has_the_threads_that_were_asked_for(
    finished: Finished, store: MemoryStore, n: int
) -> None:
    before, look = torch.get_num_threads(), Look()
    encode(finished.folder, store, device="cpu", threads=n, progress=look)
    assert look.seen == {n}
    assert torch.get_num_threads() == before


def test_all_threads_are_those_that_a_process_may_use() -> None:
    code = (
        "import os; from kvae._core import available_threads; "
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); assert available_threads() == 1"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
