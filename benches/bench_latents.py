"""Cluster and search many latents: time, memory, and what of the nearest is found.

    python benches/bench_latents.py [--rows 1000000] [--groups 5000] [--threads 2]

Latents are made up: groups of directions in 64 dimensions, spread as the contigs of one
genome are around theirs. Every step runs in a process of its own, whose peak memory is
read when it ends. Recall is the share of the true nearest rows, found by comparing all
with all, that the index finds.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

import kvae
from kvae.latents import latent_format, latent_schema, read_latents
from kvae.nearest import nearest_of_all, unit_rows

WIDTH = 64
QUERIES = 1000
HITS = 10


def make(path: Path, rows: int, groups: int) -> None:
    """Write latents of so many rows, and the group of each of them beside it."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(groups, WIDTH)).astype(np.float32)
    code = rng.integers(groups, size=rows)
    schema = latent_schema(WIDTH, {}, with_logvar=False)
    with latent_format(path)(path, schema) as writer:
        for start in range(0, rows, 8192):
            of = code[start : start + 8192]
            vectors = centres[of] + rng.normal(size=(len(of), WIDTH)).astype(np.float32)
            n = len(of)
            flat = pa.array(vectors.astype(np.float32).reshape(-1))
            columns = [
                pa.array([f"contig_{i}" for i in range(start, start + n)]),
                pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), ["made up"]),
                pa.array(np.zeros(n, np.uint64)),
                pa.array(np.full(n, 5000, np.uint64)),
                pa.array(np.full(n, 5000, np.uint64)),
                pa.FixedSizeListArray.from_arrays(flat, type=schema.field("latent").type),
            ]
            writer.write(pa.record_batch(columns, schema=schema))
    np.save(path.with_suffix(".npy"), code)


def run_cluster(folder: Path, threads: int) -> dict[str, float]:
    """Cluster, and compare with the groups."""
    from sklearn.metrics import adjusted_rand_score

    found = kvae.cluster(folder / "latent.arrow", threads=threads)
    code = np.load(folder / "latent.npy")
    facts = found.summary()
    return {
        "clusters": facts["clusters"],
        "unclustered": facts["unclustered_share_of_contigs"],
        "ari": adjusted_rand_score(code, found.of_rows),
    }


def run_k_means(folder: Path, threads: int) -> dict[str, float]:
    """Cluster around as many centres as there are groups."""
    from sklearn.metrics import adjusted_rand_score

    code = np.load(folder / "latent.npy")
    k = len(np.unique(code))
    found = kvae.cluster(folder / "latent.arrow", k=k, threads=threads)
    return {"k": k, "ari": adjusted_rand_score(code, found.of_rows)}


def run_index(folder: Path, threads: int) -> dict[str, float]:
    """Build an index."""
    built = kvae.index(folder / "latent.arrow", folder / "latent.index", threads=threads)
    size = sum(path.stat().st_size for path in built.path.iterdir())
    return {"bytes_per_row": size / len(built.rows)}


def queries(folder: Path) -> np.ndarray:
    """Vectors near some of the rows, but of none of them."""
    vectors = read_latents(folder / "latent.arrow").vectors
    rng = np.random.default_rng(1)
    chosen = vectors[rng.choice(len(vectors), QUERIES, replace=False)]
    return chosen + rng.normal(scale=0.5, size=chosen.shape).astype(np.float32)


def run_search(folder: Path, threads: int) -> dict[str, float]:
    """Search the index, and count what it finds of the true nearest rows."""
    asked = np.load(folder / "queries.npy")
    start = time.perf_counter()
    found = kvae.search(folder / "latent.index", asked, hits=HITS, threads=threads)
    seconds = time.perf_counter() - start
    true = np.load(folder / "true.npy")
    shared = [len({*a} & {*b}) for a, b in zip(found.rows.tolist(), true.tolist(), strict=True)]
    return {
        "seconds": seconds,
        "queries_per_s": QUERIES / seconds,
        "recall": sum(shared) / true.size,
    }


def run_exact(folder: Path, threads: int) -> dict[str, float]:
    """Compare all rows with all queries, as search does in a latent file."""
    asked = queries(folder)
    unit = unit_rows(read_latents(folder / "latent.arrow").vectors)
    start = time.perf_counter()
    rows, _ = nearest_of_all(unit, unit_rows(asked).astype(np.float32), HITS)
    seconds = time.perf_counter() - start
    np.save(folder / "queries.npy", asked)
    np.save(folder / "true.npy", rows)
    return {"seconds": seconds, "queries_per_s": QUERIES / seconds}


STEPS: dict[str, Callable[[Path, int], dict[str, float]]] = {
    "cluster": run_cluster,
    "k-means": run_k_means,
    "exact search": run_exact,
    "index": run_index,
    "search": run_search,
}


def step(name: str, folder: Path, threads: int) -> dict[str, float]:
    """Run a step in a process of its own, and measure it."""
    start = time.perf_counter()
    command = [sys.executable, __file__, "--step", name, "--folder", str(folder)]
    out = subprocess.run(
        [*command, "--threads", str(threads)], check=True, capture_output=True, text=True
    )
    return {"wall_s": time.perf_counter() - start, **json.loads(out.stdout)}


def main() -> None:
    """Measure all steps, or run one."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--groups", type=int, default=5000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--step", choices=STEPS)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.step:
        facts = STEPS[options.step](options.folder, options.threads)
        used = resource.getrusage(resource.RUSAGE_SELF)
        facts["cpu_s"] = used.ru_utime + used.ru_stime
        facts["peak_mb"] = used.ru_maxrss / 1024
        print(json.dumps(facts))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder / "latent.arrow", options.rows, options.groups)
        print(f"{options.rows:,} rows of {WIDTH}, {options.groups:,} groups")
        for title in STEPS:
            facts = step(title, folder, options.threads)
            print(f"{title:14}", *(f"{key} {value:,.3g}" for key, value in facts.items()))


if __name__ == "__main__":
    main()
