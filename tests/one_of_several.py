"""One of the processes of a small run; started by torchrun from the tests.

Its argument is JSON: ``output``, the ``changes`` of the configuration's keys,
``resume``, ``profile`` (the preset kvae), ``seen`` (a folder for the rows that each
process read while training), ``alike`` (columns to the number that all rows have there)
and ``stop`` (the rank and step at which a process is sent SIGTERM) or ``spoil``
(the rank whose rows are spoilt). Or ``features``, what shards are called in an object store:
then ``caches`` is a folder for the copies of each process, and ``kill`` is the rank and step
at which one is killed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np

from kvae.config import override
from kvae.divided_rows import DividedRows
from kvae.epoch_progress import TrainProgress
from kvae.errors import KvaeError
from kvae.row_sources import Indices
from kvae.training.run import TrainingInterrupted, train
from short_kmers import profile_run, profile_store
from small import MemoryStore, Rows, make_layout, make_store, small_run

SIZES = [9, 8, 10, 7, 9, 8, 6, 9, 10, 4]


class Watched(MemoryStore):
    """Rows that tell who reads them."""

    log: list[list[int]]
    calls: int
    spoilt: bool
    stop: int

    def rows(self, indices: Indices, out: Rows | None = None) -> Rows:
        self.log.append(indices.tolist())
        if len(self.log) == self.stop:
            os.kill(os.getpid(), signal.SIGTERM)
        found = super().rows(indices, out)
        if self.spoilt:
            found[:] = np.nan
        return found


def watch_shards(log: list[list[int]], kill: int) -> None:
    """Have rows of shards tell which of them are read, and stop there."""
    read = DividedRows.stretches_of

    def stretches_of(source: DividedRows, indices: Indices) -> Any:
        log.append(indices.tolist())
        if len(log) == kill:
            os.kill(os.getpid(), signal.SIGKILL)
        return read(source, indices)

    setattr(DividedRows, "stretches_of", stretches_of)  # noqa: B010 - typed as another


def with_constants(store: MemoryStore, alike: dict[str, float]) -> MemoryStore:
    """Rows with the same number in some columns."""
    data = store.data.copy()
    for column, value in alike.items():
        data[:, int(column)] = value
    return store.with_data(data)


def main(wanted: dict[str, Any]) -> int:
    rank = int(os.environ["RANK"])

    def at(event: str) -> int:
        """Step at which something happens to this process."""
        return int(wanted[event][1]) if wanted.get(event, [-1])[0] == rank else -1

    changes = wanted.get("changes", {})
    if wanted.get("profile"):
        plain, config = profile_store(), profile_run(**changes)
    else:
        plain = make_store(make_layout(96, 20, 8), SIZES)
        config = override(small_run(), changes)
    plain = with_constants(plain, wanted.get("alike", {}))
    store = Watched(**vars(plain))
    store.log = []
    store.spoilt = wanted.get("spoil") == rank
    store.stop = at("stop")
    if caches := wanted.get("caches"):
        watch_shards(store.log, at("kill"))
    try:
        train(
            wanted.get("features", store),
            wanted["output"],
            config=config,
            device="cpu",
            threads=1,
            resume=wanted.get("resume", False),
            cache=Path(caches, str(rank)) if caches else None,
            progress=TrainProgress(),
        )
    except KvaeError as error:
        sys.stderr.write(f"rank {rank}: {error}\n")
        return 1
    except TrainingInterrupted as interruption:
        sys.stderr.write(f"rank {rank}: {interruption}\n")
        return 0
    if seen := wanted.get("seen"):
        Path(seen, f"{rank}.json").write_text(json.dumps(store.log))
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
