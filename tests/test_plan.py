"""What inputs will take, beside what they took."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import in_process
import kvae
from kvae.planning import plan


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


def test_plans_that_cannot_be(tmp_path: Path, data_files: list[Path]) -> None:
    with pytest.raises(kvae.KvaeError, match="no such file"):
        plan(tmp_path / "a.fa", folder=tmp_path)
    with pytest.raises(kvae.KvaeError, match="either a model or a preset"):
        plan(data_files, model="pretrained", preset="slim", folder=tmp_path)
    assert list(tmp_path.iterdir()) == []
