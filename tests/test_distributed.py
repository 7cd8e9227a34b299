"""Shards by the workers of a Ray cluster on this machine, some of which are killed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kvae
from sequences import fasta, random_sequence, write
from tools import marks_of

pytestmark = marks_of("ray", "scale")

# In a process of its own: ray starts others and installs handlers.
PROGRAM = """
import json, os, sys, time
os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
# As kvae starts it: see kvae.distributed.
os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
# Two workers, whatever the machine has; they find the same packages as this process.
import ray
from pathlib import Path
import kvae
from kvae.distributed import encode_ray, featurize_ray

source, other, work = sys.argv[1], sys.argv[2], Path(sys.argv[3])
ray.init(
    address="local", num_cpus=2, include_dashboard=False, logging_level="ERROR",
    log_to_driver=False,
    runtime_env={"env_vars": {"PYTHONPATH": os.environ["PYTHONPATH"]}},
)
told, start = {}, time.monotonic()


def log(step):
    print(f"{time.monotonic() - start:.1f} {step}", file=sys.stderr, flush=True)


deadly = (2,)


def kill_once(number):
    # As a machine that is lost would: without a word, in the middle of a run.
    marker = work / f"killed-{number}"
    if number in deadly and not marker.exists():
        marker.write_text("")
        os._exit(9)
    with (work / "calls").open("a") as file:
        file.write(f"{number} {os.getpid()}\\n")


def hook(number):
    kill_once(number)


options = dict(k=[7, 4, 3], shards=3, retries=2)
manifests = featurize_ray(source, work / "feats", before=hook, **options)
log("featurized")
told["rows"] = [manifest["rows"] for manifest in manifests]
told["killed"] = sorted(path.name for path in work.glob("killed-*"))
told["calls"] = (work / "calls").read_text().splitlines()
times = {path.name: path.stat().st_mtime_ns for path in (work / "feats").iterdir()}
featurize_ray(source, work / "feats", **options)
log("again")
told["again"] = times == {path.name: path.stat().st_mtime_ns for path in (work / "feats").iterdir()}
try:
    featurize_ray(other, work / "bad", shards=2)
except kvae.KvaeError as error:
    told["mistake"] = str(error)


log("mistake")
def always(number):
    os._exit(9)


try:
    featurize_ray(source, work / "lost", shards=1, retries=1, before=always)
except kvae.KvaeError as error:
    told["lost"] = str(error)

log("lost")


def cut(number):
    # In the middle of a shard: some of its latents are in a file that has no name yet.
    marker = work / f"cut-{number}"
    with (work / "encoded").open("a") as file:
        file.write(f"{number}\\n")
    if number in deadly and not marker.exists():
        marker.write_text("")
        import kvae.encoding

        kvae.encoding._vectors = lambda *_: os._exit(9)


files = encode_ray(
    "pretrained", work / "feats", work / "latents", workers=1, retries=2, before=cut
)
told["cut"] = (work / "encoded").read_text().split()
log("encoded")
told["encoded"] = [path.name for path in files]
times = [path.stat().st_mtime_ns for path in files]
encode_ray("pretrained", work / "feats", work / "latents", workers=1)
told["encoded again"] = times == [path.stat().st_mtime_ns for path in files]
(work / "told.json").write_text(json.dumps(told))
"""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder in which two workers have featurized and encoded, and what was told."""
    folder = tmp_path_factory.mktemp("ray")
    records = [(f"r{i}", random_sequence(6_000 + 7 * i, i)) for i in range(40)]
    source = write(folder / "a.fa", fasta(records))
    other = write(folder / "b.fa", fasta([("a", "ACGT" * 500 + "!")]))
    python = str(Path(kvae.__file__).parent.parent)
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, source, other, folder],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "PYTHONPATH": python}
        | {"OMP_NUM_THREADS": "1"},
        timeout=550,
    )
    assert result.returncode == 0, result.stderr
    return folder, json.loads((folder / "told.json").read_text())


def test_two_workers_give_the_rows_of_one_process(done: tuple[Path, dict[str, Any]]) -> None:
    folder, told = done
    kvae.featurize(folder / "a.fa", folder / "whole.arrow")
    kvae.merge(folder / "feats", folder / "merged.arrow")
    assert (folder / "merged.arrow").read_bytes() == (folder / "whole.arrow").read_bytes()
    assert sum(told["rows"]) == 40


def test_lost_workers_lose_and_double_nothing(done: tuple[Path, dict[str, Any]]) -> None:
    _, told = done
    assert told["killed"] == ["killed-2"]
    numbers = sorted(int(call.split()[0]) for call in told["calls"])
    assert numbers == [1, 2, 3]
    assert "its worker was lost too often" in told["lost"]


def test_an_encoder_that_is_lost_in_a_shard_starts_it_again(
    done: tuple[Path, dict[str, Any]],
) -> None:
    folder, told = done
    assert (folder / "cut-2").exists()
    # Shard 1 was whole, and shard 3 not begun.
    assert sorted(told["cut"]) == ["1", "2", "2", "3"]
    found = sorted(path.name for path in (folder / "latents").glob("latent-*"))
    assert found == [f"latent-000{i}-of-0003.arrow" for i in range(1, 4)]


def test_what_is_whole_is_not_made_again(done: tuple[Path, dict[str, Any]]) -> None:
    _, told = done
    assert told["again"]
    assert told["encoded again"]


def test_mistakes_are_one_line(done: tuple[Path, dict[str, Any]]) -> None:
    folder, told = done
    assert told["mistake"].startswith(f"{folder / 'b.fa'}, line ")
    assert "\n" not in told["mistake"]


def test_latents_are_those_of_one_process(done: tuple[Path, dict[str, Any]]) -> None:
    folder, told = done
    assert told["encoded"] == [f"latent-000{i}-of-0003.arrow" for i in range(1, 4)]
    parts = []
    for i in range(1, 4):
        shard = folder / f"feats/feats-000{i}-of-0003.arrow"
        parts.append(kvae.encode("pretrained", shard))
    expected = kvae.encode("pretrained", folder / "feats")
    np.testing.assert_allclose(np.vstack(parts), expected, rtol=1e-4, atol=1e-5)
    import pyarrow as pa

    for i, part in enumerate(parts, start=1):
        with pa.memory_map(str(folder / f"latents/latent-000{i}-of-0003.arrow")) as source:
            column = pa.ipc.open_file(source).read_all()["latent"].combine_chunks()
        stored = column.flatten().to_numpy().reshape(part.shape)
        np.testing.assert_allclose(stored, part, rtol=1e-4, atol=1e-5)
