"""What 10^8 and 10^10 contigs take, by rates that are measured here, and how far to trust it.

    python benches/scale.py contigs.fa            # the tables of docs/scale.md
    python benches/scale.py contigs.fa --json

Featurizes shards of a file with 1, 2 and 4 processes of one thread each, which is what a
cluster does with more of them, and merges them; then multiplies. Figures of GPUs are
assumptions and marked as such.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# A contig of the model: as long as a row.
BASES = 5_000
ROWS = (10**8, 10**10)
SHARDS = 8
# Rows a second that one GPU trains on and encodes. Not measured here.
GPU_TRAIN, GPU_ENCODE = 20_000, 200_000
EPOCHS = 20
CORES, DEVICE_BYTES = 1_000, 2e9

WORKER = """
import sys
import kvae
source, folder, kind, count, *mine = sys.argv[1:]
for index in mine:
    kvae.featurize(source, folder, shard=(int(index), int(count)), store=kind, threads=1)
"""


def featurize(source: Path, folder: Path, kind: str, processes: int) -> dict[str, float]:
    """Featurize all shards with so many processes: seconds, CPU seconds, bytes."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(source), str(folder), kind, str(SHARDS)]
            + [str(i) for i in range(1, SHARDS + 1) if i % processes == worker]
        )
        for worker in range(processes)
    ]
    assert all(worker.wait() == 0 for worker in workers)
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    manifests = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    return {
        "seconds": seconds,
        "cpu": cpu,
        "bytes": sum(manifest["bytes"] for manifest in manifests),
        "rows": sum(manifest["rows"] for manifest in manifests),
        "bases": sum(manifest["bases"] for manifest in manifests),
    }


def measure(source: Path) -> dict[str, Any]:
    """Run everything that is measured."""
    import kvae

    found: dict[str, Any] = {"cores": len(os.sched_getaffinity(0)), "runs": {}}
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        folder = Path(name)
        for kind in ("log", "counts", "packed"):
            for processes in (1, 2, 4) if kind == "log" else (2,):
                found["runs"][f"{kind} {processes}"] = featurize(
                    source, folder / "feats", kind, processes
                )
            if kind == "log":
                start, cpu = time.perf_counter(), time.process_time()
                kvae.merge(folder / "feats", folder / "merged.arrow")
                found["merge"] = {
                    "seconds": time.perf_counter() - start,
                    "cpu": time.process_time() - cpu,
                    "bytes": (folder / "merged.arrow").stat().st_size,
                }
                (folder / "merged.arrow").unlink()
    return found


def model(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Multiply: what so many contigs take."""
    tables = []
    for rows in ROWS:
        table: dict[str, Any] = {"contigs": rows, "bases": rows * BASES}
        for kind in ("log", "counts", "packed"):
            run = found["runs"][f"{kind} 2"]
            scale = rows / run["rows"]
            # The rows that were measured are about as long as those of the model.
            table[f"{kind} bytes"] = run["bytes"] * scale
            table[f"{kind} CPU hours"] = run["cpu"] * scale / 3600
        merge = found["merge"]
        table["merge CPU hours"] = merge["cpu"] * rows / found["runs"]["log 2"]["rows"] / 3600
        table["GPU hours to train (not measured)"] = rows * EPOCHS / GPU_TRAIN / 3600
        table["GPU hours to encode (not measured)"] = rows / GPU_ENCODE / 3600
        table[f"hours of {CORES} cores, log"] = table["log CPU hours"] / CORES
        table[f"hours to write log at {DEVICE_BYTES / 1e9:.0f} GB/s"] = (
            table["log bytes"] / DEVICE_BYTES / 3600
        )
        table[f"hours to write packed at {DEVICE_BYTES / 1e9:.0f} GB/s"] = (
            table["packed bytes"] / DEVICE_BYTES / 3600
        )
        tables.append(table)
    return tables


def main() -> None:
    """Measure, multiply, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = measure(arguments.source.absolute())
    tables = model(found)
    if arguments.json:
        print(json.dumps({"measured": found, "model": tables}, indent=1))
        return
    print("| run | wall s | CPU s | rows/s | MB/s |\n|---|---|---|---|---|")
    for name, run in found["runs"].items():
        rate, written = run["rows"] / run["seconds"], run["bytes"] / run["seconds"] / 1e6
        print(
            f"| {name} | {run['seconds']:.2f} | {run['cpu']:.2f} | {rate:,.0f} | {written:,.0f} |"
        )
    merge = found["merge"]
    written = merge["bytes"] / merge["seconds"] / 1e6
    print(f"| merge | {merge['seconds']:.2f} | {merge['cpu']:.2f} | | {written:,.0f} |\n")
    print(f"| | {ROWS[0]:.0e} contigs | {ROWS[1]:.0e} |\n|---|---|---|")
    for key in list(tables[0])[1:]:
        print(f"| {key} | {tables[0][key]:.3g} | {tables[1][key]:.3g} |")


if __name__ == "__main__":
    main()
