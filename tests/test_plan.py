"""What inputs will take, beside what they took."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import in_process
import kvae
from kvae.planning import plan
from kvae.remote import places, samples
from kvae.remote.uris import Uri
from object_store import ObjectStore, object_store
from sequences import bgzf, fasta, fastq, random_sequence, write


def test_small_inputs_are_counted(
    data_files: list[Path],
    feature_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    inputs = " ".join(map(str, data_files))
    line = f"kvae plan {inputs} --preset slim --device cpu --threads 1 --json -q"
    assert in_process.kvae(line, monkeypatch) == 0
    found = json.loads(capfd.readouterr().out)
    store = kvae.FeatureStore(feature_file)
    assert found["is_exact"]
    assert found["rows"] == len(store)
    assert found["bases"] == int(store.column("length").to_numpy().sum())
    assert found["files"] == len(data_files)
    assert found["input_bytes"] == sum(path.stat().st_size for path in data_files)
    for kind, size in found["stores"].items():
        kvae.featurize(data_files, tmp_path / f"{kind}.arrow", store=kind)
        assert size == pytest.approx((tmp_path / f"{kind}.arrow").stat().st_size, rel=0.05)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "counts.arrow",
        "log.arrow",
        "packed.arrow",
    ]
    assert found["featurize_seconds"] > 0
    assert found["epoch_seconds"] > 0
    assert found["encode_seconds"] > 0
    assert found["parameters"] > 100_000
    assert 2 <= found["batch_size"] <= 65_536
    assert found["measured"]["training_bytes_per_row"] > 4 * store.layout.n_fields


def test_features_are_planned_without_featurizing(feature_file: Path, tmp_path: Path) -> None:
    found = plan(feature_file, preset="slim", device="cpu", threads=1, folder=tmp_path)
    assert found.is_exact
    assert found.rows == 71
    assert found.featurize_seconds is None
    assert found.input_bytes == feature_file.stat().st_size
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectStore]:
    pytest.importorskip("moto", reason="needs moto, a store to test with")
    with object_store() as running:
        yield running


def test_of_remote_inputs_a_sample_is_fetched(
    server: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in server.variables.items():
        monkeypatch.setenv(name, value)
    places._s3.cache_clear()
    read, n_read = places.RemoteFile.read_at, 0

    def read_at(file: places.RemoteFile, source: Any, offset: int, size: int) -> bytes:
        nonlocal n_read
        n_read += size
        return read(file, source, offset, size)

    monkeypatch.setattr(places.RemoteFile, "read_at", read_at)
    monkeypatch.setattr(samples, "_BYTES", 40_000)
    options: dict[str, Any] = {"preset": "slim", "device": "cpu", "threads": 1, "folder": tmp_path}
    options |= {"cache": tmp_path / "cache", "window": 1000, "min_length": 500}
    text = fasta([(f"r{i}", random_sequence(3000, i)) for i in range(60)])
    reads = fastq([(f"r{i}", random_sequence(900, i)) for i in range(90)])
    packed = {"a.fa": text, "b.fa.gz": gzip.compress(text), "c.fa.gz": bgzf(text)}
    packed |= {"d.fa.bz2": bz2.compress(text, 1), "e.fa.xz": lzma.compress(text), "f.fq": reads}
    for name, content in packed.items():
        server.put(f"genomes/{name}", content)
        assert len(content) > samples._BYTES
    found = plan("s3://bucket/genomes/", **options)
    assert (found.files, found.is_exact) == (6, True)
    assert found.rows == 5 * 180 + 90
    assert found.measured["train_rows"] > 100
    for name in packed:
        (tmp_path / "begun").mkdir(exist_ok=True)
        file = places.open_place(Uri.of(f"s3://bucket/genomes/{name}")).file()
        assert file is not None
        path = samples.beginning(file, tmp_path / "begun")
        assert path is not None
        kvae.featurize(path, tmp_path / "begun.arrow", k=[3], min_length=500, force=True)
        assert 10 < len(kvae.FeatureStore(tmp_path / "begun.arrow")) < 90

    rows: dict[str, Any] = {"window": 1000, "min_length": 500, "store": "log"}
    for name, content in packed.items():
        write(tmp_path / "here" / name, content)
    for i in (1, 2, 3):
        kvae.featurize(tmp_path / "here", tmp_path / "shards", shard=(i, 3), **rows)
    kvae.merge(tmp_path / "shards", tmp_path / "whole.arrow")
    server.put_folder("shards", tmp_path / "shards")
    server.put("whole.arrow", (tmp_path / "whole.arrow").read_bytes())
    n_read = 0
    stored = plan("s3://bucket/shards", **options)
    assert (stored.files, stored.rows, stored.bases) == (3, found.rows, found.bases)
    assert stored.is_exact
    one = plan("s3://bucket/whole.arrow", **options)
    assert (one.files, one.rows, one.is_exact) == (1, found.rows, False)
    assert one.bases == pytest.approx(found.bases, rel=0.2)
    # What is mapped is some rows; of the shards there are manifests.
    assert n_read < 1_000_000
    assert not [*(tmp_path / "cache").rglob("*.arrow")]


def test_plans_that_cannot_be(tmp_path: Path, data_files: list[Path]) -> None:
    with pytest.raises(kvae.KvaeError, match="no such file"):
        plan(tmp_path / "a.fa", folder=tmp_path)
    with pytest.raises(kvae.KvaeError, match="either a model or a preset"):
        plan(data_files, model="pretrained", preset="slim", folder=tmp_path)
    assert list(tmp_path.iterdir()) == []
