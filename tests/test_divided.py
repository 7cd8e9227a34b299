"""Shards divided among processes: each fetches and reads its own, and all train as one."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import kvae
from kvae import FeatureStore, distributed
from kvae.dividing import FewShardsError, divide
from kvae.latents import read_latents
from kvae.row_sources import open_rows
from kvae.training.processes import Processes
from object_store import ObjectStore, named_by_environment, object_store
from sequences import fasta, random_sequence, write
from short_kmers import PROFILE_KS, profile_run
from test_several import assert_same_losses, several
from training_runs import Record, lines, run

SHARDS = 5
URI = "s3://bucket/shards/"
CHANGES: dict[str, Any] = {"epochs": 2, "batch_size": 12, "contrast_weight": 0.0}
OPTIONS: dict[str, Any] = {"k": list(PROFILE_KS), "window": 300, "min_length": 100}


def test_the_largest_part_is_as_small_as_it_can_be() -> None:
    draw = random.Random(0)
    for _ in range(400):
        rows = draw.choices([0, 0, 1, 2, 5, 9, 40], k=draw.randint(1, 7))
        count = draw.randint(1, 5)
        if sum(n > 0 for n in rows) < count:
            with pytest.raises(FewShardsError):
                divide(rows, count)
            continue
        parts = divide(rows, count)
        assert [i for part in parts for i in part] == list(range(len(rows)))
        sizes = [sum(rows[i] for i in part) for part in parts]
        assert min(sizes) > 0
        ways = itertools.combinations(range(1, len(rows)), count - 1)
        cuts = [itertools.pairwise((0, *way, len(rows))) for way in ways]
        assert max(sizes) == min(max(sum(rows[a:b]) for a, b in cut) for cut in cuts)


def test_rows_belong_to_the_process_that_can_read_them() -> None:
    rows = np.array([0, 3, 4, 9, 10, 11])
    parts = []
    for rank in range(3):
        processes = Processes(rank, 3)
        processes.starts = (0, 4, 10, 20)
        parts.append(rows[processes.own(rows)].tolist())
    assert parts == [[0, 3], [4, 9], [10, 11]]


@pytest.fixture(scope="module")
def genomes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("genomes")
    for i in range(8):
        contigs = [(f"c{i}_{j}", random_sequence(700 + 100 * j, 10 * i + j)) for j in range(5)]
        write(folder / f"{i}.fa", fasta(contigs))
    return folder


@pytest.fixture(scope="module")
def shards(genomes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards") / "feats"
    for i in range(1, SHARDS + 1):
        kvae.featurize(genomes, folder, shard=(i, SHARDS), **OPTIONS)
    return folder


@pytest.fixture(scope="module")
def server(shards: Path) -> Iterator[ObjectStore]:
    pytest.importorskip("moto", reason="needs moto, a store to test with")
    with object_store() as running:
        running.put_folder("shards", shards)
        yield running


@pytest.fixture
def store(server: ObjectStore, tmp_path: Path) -> Iterator[ObjectStore]:
    with named_by_environment(server, tmp_path / "cache") as running:
        yield running


def test_a_part_of_the_shards_is_opened_by_itself(shards: Path) -> None:
    whole = FeatureStore(shards)
    parts = [FeatureStore(shards, part=(i, 3)) for i in (1, 2, 3)]
    assert sum(map(len, parts)) == len(whole)
    for part, start in zip(parts, (parts[0].starts or ())[:3], strict=True):
        rows = np.arange(start, start + len(part))
        assert np.array_equal(part.rows(np.arange(len(part))), whole.rows(rows))
        assert np.array_equal(part.source_codes, whole.source_codes[rows])
        assert part.source_names == whole.source_names
        assert part.ids.to_pylist() == whole.ids.to_pylist()[start : start + len(part)]
    with pytest.raises(FewShardsError):
        FeatureStore(shards, part=(1, SHARDS + 1))
    with pytest.raises(FewShardsError):
        FeatureStore(shards / "feats-0001-of-0005.arrow", part=(1, 1))


def arrow_files(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.rglob("*.arrow"))


def test_what_cannot_be_divided_is_fetched_whole(store: ObjectStore, tmp_path: Path) -> None:
    progress = Record()
    source = open_rows(URI, cache=tmp_path / "all", part=(1, 9), progress=progress)
    assert arrow_files(tmp_path / "all") == [f"feats-000{i}-of-0005.arrow" for i in range(1, 6)]
    (message,) = progress.messages
    assert message.startswith("s3://bucket/shards: is fetched whole for every process (5 shard")
    one = f"{URI}feats-0002-of-0005.arrow"
    assert len(open_rows(one, part=(1, 2))) < len(source)
    assert len(open_rows([URI], part=(2, 5), cache=tmp_path / "own")) < len(source)
    assert arrow_files(tmp_path / "own") == ["feats-0002-of-0005.arrow"]


class Tasks:
    """What of Ray starts tasks; they run when they are waited for."""

    exceptions = SimpleNamespace(
        RayTaskError=RuntimeError, WorkerCrashedError=RuntimeError, ActorDiedError=RuntimeError
    )

    def cluster_resources(self) -> dict[str, int]:
        return {"CPU": 1}

    def remote(self, **options: object) -> Any:
        def actor(kind: Any) -> Any:
            def start(*arguments: Any) -> Any:
                encoder = kind(*arguments)

                def later(*given: Any) -> Any:
                    return lambda: encoder.encode(*given)

                return SimpleNamespace(encode=SimpleNamespace(remote=later))

            return SimpleNamespace(remote=start)

        return actor

    def wait(self, tasks: list[Any]) -> tuple[list[Any], list[Any]]:
        return tasks[:1], tasks[1:]

    def get(self, task: Any) -> Any:
        return task()


def test_workers_fetch_the_shards_that_they_encode(
    store: ObjectStore, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(FeatureStore(shards), tmp_path / "run", config=profile_run(epochs=1))
    fetched: list[list[str]] = []

    @contextmanager
    def cluster(address: str | None) -> Iterator[Tasks]:
        yield Tasks()

    def before(number: int) -> None:
        fetched.append(arrow_files(tmp_path / "cache"))

    monkeypatch.setattr(distributed, "_cluster", cluster)
    latents = distributed.encode_ray(
        tmp_path / "run", URI, tmp_path / "latents", threads=1, device="cpu", before=before
    )
    assert [len(names) for names in fetched] == [0, 1, 2, 3, 4]
    kvae.encode(tmp_path / "run", shards, tmp_path / "whole.arrow")
    vectors = [read_latents(path).vectors for path in latents]
    whole = read_latents(tmp_path / "whole.arrow").vectors
    np.testing.assert_allclose(np.concatenate(vectors), whole, atol=1e-5)


def test_processes_fetch_their_own_shards_and_train_as_one(
    store: ObjectStore, shards: Path, tmp_path: Path
) -> None:
    """Killed once, too: what is left of the run is the same, in any number of processes."""
    n_rows = len(FeatureStore(shards))
    config = profile_run(**CHANGES)
    whole, divided = tmp_path / "whole", tmp_path / "divided"
    run(FeatureStore(shards), whole, config=config, epochs=3)
    caches, seen = tmp_path / "caches", tmp_path / "seen"
    wanted: dict[str, Any] = {
        "profile": True,
        "changes": CHANGES,
        "features": URI,
        "caches": str(caches),
    }
    # Rows are read three times before the first epoch, and ten times in every epoch.
    several(divided, **wanted, code=1, kill=[1, 17])
    assert len(lines(divided)) == 1
    seen.mkdir()
    several(divided, **wanted, resume=True, seen=str(seen))
    assert len(lines(divided)) == 2

    fetched = [arrow_files(caches / str(rank)) for rank in range(2)]
    assert all(fetched)
    assert [*fetched[0], *fetched[1]] == [f"feats-000{i}-of-0005.arrow" for i in range(1, 6)]
    # The sample that inputs are learned from has all rows that train; the epoch has all.
    logs = [json.loads(path.read_text()) for path in sorted(seen.iterdir())]
    owned = [{row for rows in log for row in rows} for log in logs]
    assert owned[0].isdisjoint(owned[1])
    assert owned[0] | owned[1] == set(range(n_rows))
    counts = Counter(row for log in logs for rows in log for row in rows)
    facts = json.loads((divided / "split.json").read_text())
    assert facts == json.loads((whole / "split.json").read_text())
    assert Counter(counts.values()) == {2: facts["train_rows"], 1: facts["validation_rows"]}

    run(FeatureStore(shards), divided, config=config, epochs=3, resume=True)
    assert_same_losses(whole, divided)
    stored = [json.loads((one / "baselines.json").read_text()) for one in (whole, divided)]
    assert stored[0]["data"] == stored[1]["data"]
    for part in ("train", "validation"):
        assert stored[1][part] == pytest.approx(stored[0][part], rel=1e-4)


def test_classes_meet_in_batches_of_divided_rows(store: ObjectStore, tmp_path: Path) -> None:
    changes = {"epochs": 1, "batch_size": 12, "positives": "source", "per_class": 3}
    several(
        tmp_path / "run",
        profile=True,
        changes=changes,
        features=URI,
        caches=str(tmp_path / "caches"),
    )
    (record,) = lines(tmp_path / "run")
    assert all(np.isfinite(value) for value in record["train"].values())
    assert record["train"]["contrast"] > 0.0
