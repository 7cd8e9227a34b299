"""Real genomes through the whole of it: featurize, train with the default preset, encode."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import kvae
from kvae.training import TrainResult

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("workflow") / "feats.arrow"
    kvae.featurize(DATA, path, window=2000)
    return path


@pytest.fixture(scope="module")
def result(features: Path) -> TrainResult:
    output = features.parent / "run"
    return kvae.train(features, output, epochs=3, batch_size=16, device="cpu", threads=1)


def test_the_default_model_learns(result: TrainResult, features: Path) -> None:
    lines = (result.run / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert result.n_parameters == kvae.KmerVAE.from_preset("kvae").n_parameters
    assert records[-1]["train"]["loss"] < records[0]["train"]["loss"]
    for name in ("nats", "contrast"):
        assert records[-1]["train"][name] < records[0]["train"][name]
    assert result.train_rows + result.validation_rows == len(kvae.FeatureStore(features))
    # Whole genomes are held out: one of the four.
    split = json.loads((result.run / "split.json").read_text())
    assert split["unit"] == "source"
    assert len(split["held_out"]) == 1


def test_latents_carry_the_rows_they_belong_to(result: TrainResult, features: Path) -> None:
    path = features.parent / "latent.arrow"
    kvae.encode(result.run, features, path, device="cpu")
    table = pa.ipc.open_file(str(path)).read_all()
    store = kvae.FeatureStore(features)
    for name in ("id", "start", "end", "length"):
        assert table[name].to_pylist() == store.column(name).to_pylist()
    assert table["source"].to_pylist() == store.column("source").to_pylist()
    latent = np.array(table["latent"].to_pylist(), dtype=np.float32)
    n_latent = kvae.KmerVAE.from_preset().config.n_latent
    assert latent.shape == (len(store), n_latent)
    np.testing.assert_allclose(np.linalg.norm(latent, axis=1), n_latent**0.5, rtol=1e-4)
    np.testing.assert_array_equal(latent, kvae.encode(result.run, features, device="cpu"))
    # Not collapsed: rows of different genomes differ by far more than rounding.
    assert latent.std(axis=0).max() > 0.05


def test_features_of_other_blocks_are_refused_with_both_layouts_named(
    result: TrainResult, tmp_path: Path
) -> None:
    kvae.featurize(DATA, tmp_path / "other.arrow", k=(4, 3))
    other = kvae.FeatureStore(tmp_path / "other.arrow").layout.fingerprint
    own = kvae.Layout.from_ks((7, 4, 3)).fingerprint
    with pytest.raises(kvae.KvaeError, match=rf"{own}.*{other}"):
        kvae.encode(result.run, tmp_path / "other.arrow", device="cpu")
    with pytest.raises(kvae.KvaeError, match="the model needs the block 7-mers"):
        kvae.train(tmp_path / "other.arrow", tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_extra_blocks_of_the_features_leave_the_model_as_it_is(tmp_path: Path) -> None:
    kvae.featurize(DATA, tmp_path / "more.arrow", k=(7, 4, 3, 5))
    result = kvae.train(
        tmp_path / "more.arrow", tmp_path / "run", epochs=1, device="cpu", threads=1
    )
    assert result.n_parameters == kvae.KmerVAE.from_preset("kvae").n_parameters


def test_the_logs_last_design_learns(features: Path, tmp_path: Path) -> None:
    result = kvae.train(
        features, tmp_path / "run", preset="dot", epochs=3, batch_size=16, device="cpu", threads=1
    )
    lines = (result.run / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert result.n_parameters == 6_954_379
    assert records[-1]["train"]["loss"] < 0.8 * records[0]["train"]["loss"]
    assert records[-1]["train"]["gateAcc"] > records[0]["train"]["gateAcc"]
    assert kvae.encode(result.run, features, device="cpu").std(axis=0).max() > 0.05


def test_a_missing_feature_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(kvae.KvaeError, match=r"nothing\.arrow"):
        kvae.train(tmp_path / "nothing.arrow", tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
