"""Time rows of contigs in memory: kvae, what others offer, and the limits.

    python benches/bench_memory.py contigs.fa [--contigs 20000] [--runs 5] [--peers PYTHON]

Every measurement runs in a process of its own, which reads the contigs first and
then times only the work on them, in CPU seconds of all threads and in wall time.
The measurements take turns; figures are medians. ``--peers`` is a Python that has
numpy and pykmertools; what is not installed is left out and named.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys

PRELUDE = """
import json, sys, threading, time
path, limit, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
contigs = []
with open(path, "rb") as file:
    for record in file.read().split(b">")[1:]:
        contigs.append(b"".join(record.split(b"\\n")[1:]))
        if len(contigs) == limit:
            break
bases = sum(map(len, contigs))
BATCH = 1000
batches = [contigs[i:i + BATCH] for i in range(0, len(contigs), BATCH)]

def in_threads(work, parts):
    workers = [threading.Thread(target=work, args=(part,)) for part in parts]
    for worker in workers: worker.start()
    for worker in workers: worker.join()

def report(work):
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(json.dumps({"bases": bases, "wall": wall, "cpu": cpu}))
"""

KVAE_REUSED = """
import kvae, numpy as np
out = np.empty((BATCH, 8362), np.float32)
kvae.featurize_sequences(batches[0], threads=threads, out=out[:len(batches[0])])
def work():
    for batch in batches:
        kvae.featurize_sequences(batch, threads=threads, out=out[:len(batch)])
report(work)
"""

# In one process, in turns: memory that is fresh to the machine and not only to the
# process takes several times longer to get, whoever is the first to touch it.
FRESH = """
import kvae, numpy as np
def rows():
    kvae.featurize_sequences(contigs, threads=threads)
def fill():
    array = np.empty((len(contigs), 8362), np.float32)
    in_threads(lambda part: part.fill(-13.8), np.array_split(array, threads))
rows(), fill()
report(rows)
report(fill)
"""

KVAE_FOUR = """
import kvae, numpy as np
out = np.empty((BATCH, 136), np.uint32)
def work():
    for batch in batches:
        kvae.count_kmers(batch, 4, threads=threads, out=out[:len(batch)])
report(work)
"""

PYKMERTOOLS = """
import pykmertools
computer = pykmertools.OligoComputer({k})
texts = [[contig.decode() for contig in batch] for batch in batches]
def work():
    for batch in texts:
        computer.vectorise_batch(batch)
report(work)
"""

BINCOUNT = """
import numpy as np
code = np.full(256, 4, np.int64)
code[np.frombuffer(b"ACGTacgt", np.uint8)] = [0, 1, 2, 3] * 2
def index(k):
    words = np.arange(4 ** k)
    rc, rest = np.zeros_like(words), words.copy()
    for _ in range(k):
        rc, rest = rc * 4 + 3 - rest % 4, rest // 4
    return np.unique(np.minimum(words, rc), return_inverse=True)[1]
tables = {k: index(k) for k in (7, 4, 3)}
def row(contig):
    codes, parts = code[np.frombuffer(contig, np.uint8)], []
    for k, table in tables.items():
        words, valid = np.zeros(len(codes) - k + 1, np.int64), np.ones(len(codes) - k + 1, bool)
        for i in range(k):
            part = codes[i:i + len(words)]
            words, valid = words * 4 + part, valid & (part < 4)
        counts = np.bincount(table[words[valid]], minlength=table.max() + 1)
        parts.append(np.log(counts / max(counts.sum(), 1) + 1e-6).astype(np.float32))
    return np.concatenate(parts)
def work():
    for contig in contigs:
        row(contig)
report(work)
"""

VAMB = """
import numpy as np
from vambcore import kmercounts
texts = [bytearray(contig) for contig in contigs]
def work():
    for text in texts:
        kmercounts(np.zeros(256, np.uint32), text)
report(work)
"""


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("contigs")
    parser.add_argument("--contigs", dest="limit", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peers", default=sys.executable)
    options = parser.parse_args()
    ours = sys.executable
    jobs = [
        ("kvae, log rows into one array", ours, KVAE_REUSED, 1),
        ("kvae, log rows, a fresh array|filling a fresh numpy array", ours, FRESH, 1),
        ("kvae, 4-mers", ours, KVAE_FOUR, 1),
        ("numpy bincount, log rows", options.peers, BINCOUNT, 10),
        ("pykmertools, k = 7", options.peers, PYKMERTOOLS.format(k=7), 10),
        ("pykmertools, k = 4", options.peers, PYKMERTOOLS.format(k=4), 1),
        ("VAMB's counter, k = 4", options.peers, VAMB, 1),
    ]
    results: dict[str, list[dict[str, float]]] = {}
    for run in range(options.runs):
        for name, python, script, share in jobs:
            # Slow ones are shown fewer contigs, and fewer times.
            if share > 1 and run >= 2:
                continue
            limit = str(options.limit // share)
            command = [python, "-c", PRELUDE + script, options.contigs, limit]
            done = subprocess.run(
                [*command, str(options.threads)], capture_output=True, text=True, check=False
            )
            if done.returncode:
                reason = done.stderr.strip().splitlines()[-1:]
                print(f"left out: {name} ({' '.join(reason)})", file=sys.stderr)
                jobs = [job for job in jobs if job[0] != name]
                continue
            for part, line in zip(name.split("|"), done.stdout.splitlines(), strict=True):
                results.setdefault(part, []).append(json.loads(line))
    print(f"{'':32} {'CPU ns/base':>12} {'wall ns/base':>13} {'x CPU':>7}")
    first = None
    for name, runs in results.items():
        cpu = statistics.median(run["cpu"] / run["bases"] for run in runs) * 1e9
        wall = statistics.median(run["wall"] / run["bases"] for run in runs) * 1e9
        first = first or cpu
        print(f"{name:32} {cpu:12.2f} {wall:13.2f} {cpu / first:7.1f}")


if __name__ == "__main__":
    main()
