"""Time whole processes on the same contigs: kvae, what others offer, and dd.

    python benches/bench_featurize.py contigs.fa [--runs 5] [--peers PYTHON] [--json FILE]

The commands take turns, so that a machine that changes its speed changes it for
all; figures are medians, in CPU seconds per gigabase unless they say otherwise.
What is not installed is left out and named. ``--peers`` is a Python that has
pykmertools (with its program kmertools), vamb and numpy.

Outputs are new files in a temporary folder beside the contigs, deleted before the
next command runs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

# CPU seconds from which on a command is run only once.
SLOW = 10

PYKMERTOOLS = """
import sys, pykmertools
computer = pykmertools.OligoComputer({k})
batch = []
def flush():
    computer.vectorise_batch(batch)
    batch.clear()
for record in open(sys.argv[1]).read().split(">")[1:]:
    batch.append("".join(record.split("\\n")[1:]))
    if len(batch) == 1000:
        flush()
flush()
"""

VAMB = """
import sys, numpy
from vambcore import kmercounts
for record in open(sys.argv[1], "rb").read().split(b">")[1:]:
    counts = numpy.zeros(256, numpy.uint32)
    kmercounts(counts, bytearray(b"".join(record.split(b"\\n")[1:])))
"""

BINCOUNT = """
import sys, numpy as np
code = np.full(256, 4, np.int64)
code[np.frombuffer(b"ACGTacgt", np.uint8)] = [0, 1, 2, 3] * 2
def index(k):
    words = np.arange(4 ** k)
    rc, rest = np.zeros_like(words), words.copy()
    for _ in range(k):
        rc, rest = rc * 4 + 3 - rest % 4, rest // 4
    canonical = np.minimum(words, rc)
    return np.unique(canonical, return_inverse=True)[1]
tables = {k: index(k) for k in (7, 4, 3)}
for record in open(sys.argv[1], "rb").read().split(b">")[1:]:
    codes = code[np.frombuffer(b"".join(record.split(b"\\n")[1:]), np.uint8)]
    row = []
    for k, table in tables.items():
        words, valid = np.zeros(len(codes) - k + 1, np.int64), np.ones(len(codes) - k + 1, bool)
        for i in range(k):
            part = codes[i:i + len(words)]
            words, valid = words * 4 + part, valid & (part < 4)
        counts = np.bincount(table[words[valid]], minlength=table.max() + 1)
        row.append(np.log(counts / max(counts.sum(), 1) + 1e-6).astype(np.float32))
    np.concatenate(row)
"""


@dataclass
class Job:
    """A command, and what it took so far."""

    name: str
    command: list[str]
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    memory: int = 0
    size: int = 0

    def run(self, folder: Path) -> None:
        """Run once in an empty folder."""
        start = time.perf_counter()
        process = subprocess.Popen(
            self.command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.wall.append(time.perf_counter() - start)
        if process.returncode:
            raise SystemExit(f"failed: {' '.join(self.command)[:200]}")
        self.cpu.append(usage.ru_utime + usage.ru_stime)
        self.memory = max(self.memory, usage.ru_maxrss * 1024)
        self.size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def jobs(contigs: Path, threads: int, peers: str | None, only: str | None) -> list[Job]:
    """List what can be run here."""
    kvae = [sys.executable, "-m", "kvae"]
    base = [*kvae, "featurize", str(contigs), "-o", "f.arrow", "-q", "-t", str(threads)]
    found = [
        Job("kvae, log rows", base),
        Job("kvae, counts", [*base, "--store", "counts"]),
        Job("kvae, packed", [*base, "--store", "packed"]),
        Job("kvae, --k 4", [*base, "--k", "4", "--no-sequence"]),
        Job("kvae --version (start only)", [*kvae, "--version"]),
        Job("cat", ["cat", str(contigs)]),
    ]
    python = peers or sys.executable
    kmertools = shutil.which("kmertools") or str(Path(python).parent / "kmertools")
    if Path(kmertools).exists():
        for k in (7, 4):
            oligo = [kmertools, "comp", "oligo", "-i", str(contigs), "-o", "f.txt", "-k", str(k)]
            found.append(Job(f"kmertools, k = {k}", [*oligo, "-t", str(threads)]))
    for name, module, script in (
        ("pykmertools, k = 7", "pykmertools", PYKMERTOOLS.format(k=7)),
        ("pykmertools, k = 4", "pykmertools", PYKMERTOOLS.format(k=4)),
        ("VAMB's counter, k = 4", "vambcore", VAMB),
        ("numpy bincount, k = 7, 4, 3", "numpy", BINCOUNT),
    ):
        probe = subprocess.run([python, "-c", f"import {module}"], capture_output=True)
        if probe.returncode == 0:
            found.append(Job(name, [python, "-c", script, str(contigs)]))
        else:
            print(f"left out: {name} ({module} is not installed)", file=sys.stderr)
    for name, program, command in (
        ("jellyfish, one histogram", "jellyfish", f"count -m 7 -C -s 10M -t {threads} {contigs}"),
        ("KMC, one histogram", "kmc", f"-k7 -fm -ci1 -t{threads} {contigs} f ."),
    ):
        if shutil.which(program):
            found.append(Job(name, [program, *command.split()]))
        else:
            print(f"left out: {name} ({program} is not installed)", file=sys.stderr)
    return [job for job in found if only is None or only in job.name]


def dd(size: int) -> list[Job]:
    """Write as many bytes to a new file, through the page cache and past it."""
    command = ["dd", "if=/dev/zero", "of=f", "bs=16M", f"count={size}", "iflag=count_bytes"]
    return [
        Job(f"dd of {size / 1e9:.2f} GB", [*command, "conv=fsync"]),
        # Direct writes are of whole blocks.
        Job(
            f"dd oflag=direct of {size / 1e9:.2f} GB",
            [*command[:-2], f"count={-(-size // 2**24)}", "oflag=direct", "conv=fsync"],
        ),
    ]


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("contigs", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("--peers", help="Python with the peers installed")
    parser.add_argument("--only", help="run what has this in its name")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    contigs = arguments.contigs.resolve()
    with open(contigs, "rb") as file:
        bases = sum(len(line) - 1 for line in file if not line.startswith(b">"))
    todo = jobs(contigs, arguments.threads, arguments.peers, arguments.only)
    for run in range(arguments.runs + 1):
        for job in list(todo):
            # The first run warms caches and is forgotten; slow commands run once.
            if run > 0 and job.cpu and min(job.cpu) > SLOW:
                continue
            with tempfile.TemporaryDirectory(dir=contigs.parent) as folder:
                job.run(Path(folder))
            if run == 0 and min(job.cpu) <= SLOW:
                job.wall.clear()
                job.cpu.clear()
            if run == 0 and job.name == "kvae, log rows":
                todo[1:1] = dd(job.size)
    print(f"{contigs.name}: {bases:,} bases, {arguments.threads} threads, medians")
    print(f"{'':34}{'CPU s/Gb':>10}{'wall s':>9}{'peak MB':>9}{'file MB':>9}{'runs':>6}")
    rows = []
    for job in todo:
        row = {
            "name": job.name,
            "cpu_s_per_gb": statistics.median(job.cpu) / bases * 1e9,
            "wall_s": statistics.median(job.wall),
            "peak_mb": job.memory / 1e6,
            "file_mb": job.size / 1e6,
            "runs": len(job.cpu),
        }
        rows.append(row)
        print(
            f"{job.name:34}{row['cpu_s_per_gb']:10.2f}{row['wall_s']:9.2f}"
            f"{row['peak_mb']:9.0f}{row['file_mb']:9.0f}{row['runs']:6}"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps({"bases": bases, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
