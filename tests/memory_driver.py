"""Runs commands on a small and on a large input, and looks at their memory meanwhile.

Started by `test_memory_limits`: ``python memory_driver.py FOLDER``. Makes the inputs there, and
prints a line of JSON per command: its name, and for both inputs the bytes and threads that it
had at most beside those at its start. Every command is run in a process forked for it, which has
all modules loaded and nothing else. Pages of files that are mapped are not counted: the system
takes them back when it needs them.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import re
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

import kvae
from kvae import KmerVAE
from kvae.config import RunConfig, override
from kvae.exporting import features, formats, latents
from kvae.presets import get_preset
from reports import write_latents
from sequences import fasta, random_sequence, write

M_MMAP_THRESHOLD = -3
# Bases of a row where rows are many times larger than the sequences that they are of.
WINDOW = 300
ROWS = {"small": 2_600, "large": 10_400}
RECORD = 60_000
# Latents, and bases of sequences that are kept in memory.
LATENTS = {"small": 2_000, "large": 12_000}
N_LATENT = 64
BASES = {"small": 13_000_000, "large": 39_000_000, "largest": 280_000_000}

NARROW = {
    "latent": 4,
    "encoder.branches.7-mers.hidden": [8],
    "encoder.shared": [8],
    "decoder.shared": [8],
    "value_hidden": [8],
    "gate_hidden": [8],
    "embedding": 4,
    "epochs": 1,
    "batch_size": 64,
}
PLAIN: dict[str, Any] = {"device": "cpu", "threads": 1}


def memory(pid: int | str = "self") -> int:
    """Bytes that a process has for itself now; 0 where it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (OSError, ValueError):
        return 0
    return 1024 * sum(int(kb) for kb in re.findall(r"Rss(?:Anon|Shmem):\s+(\d+) kB", status))


def settle() -> None:
    """Have the C library give back at once what is large, as it learns not to."""
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1 << 18)


def watched(act: Callable[[], object]) -> tuple[int, int]:
    """Do it in a process of its own: what it has at most beside its first."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.write(writing, b"%d\n" % memory())
            act()
            code = 0
        except BaseException:  # noqa: BLE001 - told
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        start = int(pipe.readline())
    peak, threads = start, 1
    while True:
        peak = max(peak, memory(pid))
        with suppress(OSError):
            threads = max(threads, len(os.listdir(f"/proc/{pid}/task")))
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            break
        time.sleep(0.002)
    if status:
        raise SystemExit(f"failed: {status}")
    return peak - start, threads - 1


def make_inputs() -> None:
    """Write small and large files of every kind that commands read."""
    for size, rows in ROWS.items():
        letters = random_sequence(rows * WINDOW)
        records = [
            (f"r{i}", letters[start : start + RECORD])
            for i, start in enumerate(range(0, len(letters), RECORD))
        ]
        path = write(Path(f"{size}.fa"), fasta(records))
        for store in ("log", "counts", "packed"):
            kvae.featurize(
                path,
                f"{size}.{store}.arrow",
                window=WINDOW,
                min_length=WINDOW,
                store=store,
                sequence=store != "log",
                threads=1,
            )
    for size, n_bases in BASES.items():
        line = random_sequence(1_000_000).encode()
        with Path(f"{size}.genome.fa").open("wb") as file:
            for i in range(n_bases // len(line)):
                file.write(b">g%d\n%s\n" % (i, line))
    rng = np.random.default_rng(0)
    for size, n in LATENTS.items():
        # Five windows of every contig.
        ids = [f"contig {i // 5}" for i in range(n)]
        vectors = rng.normal(size=(n, N_LATENT)).astype(np.float32)
        write_latents(Path(f"{size}.latent.arrow"), ids, ["a.fa"] * n, vectors)
    watched(lambda: train("small.packed.arrow", "run"))
    write(Path("small.json"), json.dumps({"preset": "dot", **NARROW}).encode())
    # What a model loads, it has loaded in every process then.
    KmerVAE.load("run/model.safetensors")


def train(features: str, output: str) -> None:
    preset = get_preset("dot")
    config = override(RunConfig(preset="dot", model=preset.model, loss=preset.loss), NARROW)
    kvae.train(features, output, config=config, force=True, **PLAIN)


def encoded(kind: str, suffix: str, **options: Any) -> Callable[[str], object]:
    options = PLAIN | {"batch_size": 64, "force": True} | options
    return lambda size: kvae.encode("run", f"{size}.{kind}", f"encoded{suffix}", **options)


def by_small_pieces() -> None:
    """Have exports write more pieces than one, of few rows too."""
    features._NUMBERS = formats._GROUP = 1 << 18
    latents._ROWS = 1 << 10


def exported(source: str, output: str, **options: Any) -> Callable[[str], object]:
    return lambda size: kvae.export(f"{size}.{source}", output, threads=1, force=True, **options)


# Their memory is that of large arrays, of which what the C library keeps differs by a hundred
# megabytes from one time to the next.
OF_LARGE_ARRAYS = ("train", "pretrain", "evaluate", "report", "compare", "plan")
COMMANDS: dict[str, Callable[[str], object]] = {
    "featurize packed": lambda size: kvae.featurize(
        f"{size.replace('large', 'largest')}.genome.fa",
        "out.arrow",
        store="packed",
        threads=1,
        force=True,
    ),
    "featurize log": lambda size: kvae.featurize(
        f"{size}.fa", "out.arrow", window=WINDOW, threads=1, force=True
    ),
    "train log": lambda size: train(f"{size}.log.arrow", "out"),
    "train counts": lambda size: train(f"{size}.counts.arrow", "out"),
    "train packed": lambda size: train(f"{size}.packed.arrow", "out"),
    "train sequences": lambda size: train(f"{size}.genome.fa", "out"),
    **{
        f"encode {store}": encoded(f"{store}.arrow", ".arrow")
        for store in ("log", "counts", "packed")
    },
    **{
        f"encode to {suffix}": encoded("packed.arrow", suffix)
        for suffix in (".parquet", ".tsv", ".npz", ".h5ad")
    },
    "encode with 3 threads": encoded("packed.arrow", ".arrow", threads=3),
    "encode sequences": encoded("genome.fa", ".arrow"),
    "describe": lambda size: kvae.describe(f"{size}.log.arrow"),
    **{
        f"export {what} {suffix}": exported("counts.arrow", f"table{suffix}", what=what, k=[k])
        for what, suffix, k in (
            ("log", ".arrow", 4),
            ("counts", ".parquet", 4),
            ("frequencies", ".tsv", 4),
            ("counts", ".npz", 7),
            ("counts", ".h5ad", 7),
            ("log", ".h5ad", 4),
        )
    },
    **{
        f"export latents {suffix}": exported("latent.arrow", f"latents{suffix}")
        for suffix in (".parquet", ".tsv", ".npz", ".h5ad")
    },
    "pretrain": lambda size: kvae.pretrain(
        f"{size}.packed.arrow",
        "out.safetensors",
        code=4,
        epochs=1,
        batch_size=64,
        force=True,
        **PLAIN,
    ),
    "evaluate": lambda size: kvae.evaluate(
        "run", f"{size}.packed.arrow", rows=100, seeds=1, vae_steps=1, **PLAIN
    ),
    "report": lambda size: kvae.report(
        "run",
        "report.html",
        features=f"{size}.packed.arrow",
        map="pca",
        map_rows=500,
        force=True,
        **PLAIN,
    ),
    "compare": lambda size: kvae.compare(
        f"{size}.packed.arrow", ["small.json"], "compare", rows=100, epochs=1, force=True, **PLAIN
    ),
    "plan": lambda size: kvae.plan(f"{size}.packed.arrow", preset="dot", **PLAIN),
    "index": lambda size: kvae.index(f"{size}.latent.arrow", "index", threads=1, force=True),
    "search": lambda size: kvae.search(f"{size}.latent.arrow", record="contig 7", threads=1),
    "cluster": lambda size: kvae.cluster(
        f"{size}.latent.arrow", "clusters.tsv", k=3, threads=1, force=True
    ),
}


def main() -> None:
    # The children start no thread before they fork, nor does this process.
    warnings.simplefilter("ignore")
    by_small_pieces()
    os.chdir(sys.argv[1])
    for name in ("kvae.training.run", "kvae.encoding", "kvae.exporting", "kvae.searching"):
        importlib.import_module(name)
    make_inputs()
    for name, act in COMMANDS.items():
        line: dict[str, Any] = {"name": name}
        for size in ("small", "large"):

            def run(name: str = name, act: Any = act, size: str = size) -> None:
                if name.startswith(OF_LARGE_ARRAYS):
                    settle()
                act(size)

            line[size] = watched(run)
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
