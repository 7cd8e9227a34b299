"""The autoencoder of 7-mers, from its training to the run that takes it over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from in_process import kvae
from kvae.config import AutoencoderConfig
from kvae.encoding import encode
from kvae.errors import KvaeError
from kvae.layout import Layout
from kvae.model import KmerVAE
from kvae.model.autoencoder import KmerAutoencoder, read_expansion
from kvae.progress import Progress
from kvae.training.pretraining import pretrain
from kvae.training.split import split_rows
from small import MemoryStore, make_layout
from training_runs import run


class Messages(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def message(self, text: str) -> None:
        self.lines.append(text)


SETTINGS: dict[str, Any] = {"code": 6, "batch_size": 16, "lr": 5e-3, "device": "cpu", "threads": 1}


@pytest.fixture(scope="module")
def pretrained(store: MemoryStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pretrained") / "kmers.safetensors"
    pretrain(store, path, epochs=8, **SETTINGS)
    return path


def options(path: Path) -> dict[str, Any]:
    return {
        "gate_readout": "dense",
        "decoder.sparse.readout": {"kind": "pretrained", "code": 6, "weights": str(path)},
    }


def test_it_learns_and_keeps_its_best_weights(store: MemoryStore, tmp_path: Path) -> None:
    progress = Messages()
    path = tmp_path / "kmers.safetensors"
    result = pretrain(store, path, epochs=8, progress=progress, **SETTINGS)
    errors = [float(line.split("(val ")[1].split(",")[0]) for line in progress.lines]
    assert len(errors) == 8
    assert result.best_epoch == errors.index(min(errors)) + 1
    assert result.best_mse < errors[0]

    split = split_rows(store, 0.1, seed=0)
    rows = store.data[:, 1:97].astype(np.float64)
    mean = rows[split.train].mean(axis=0)
    constant = np.square(rows[split.validation] - mean).mean()
    assert result.constant_mse == pytest.approx(constant, rel=1e-5)

    model = KmerAutoencoder(AutoencoderConfig(code=6), store.layout).eval()
    model.load_state_dict(load_file(path))
    log_BK = torch.from_numpy(store.data[split.validation, 1:97])
    with torch.no_grad():
        error = (model(log_BK) - log_BK).square().mean().item()
    assert error == pytest.approx(result.best_mse, rel=1e-5)


def test_the_same_seed_gives_the_same_file(store: MemoryStore, tmp_path: Path) -> None:
    for name in ("a", "b"):
        pretrain(store, tmp_path / name, epochs=2, **SETTINGS)
    first, second = load_file(tmp_path / "a"), load_file(tmp_path / "b")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_an_existing_file_is_kept_unless_forced(store: MemoryStore, tmp_path: Path) -> None:
    path = tmp_path / "kmers.safetensors"
    path.write_text("precious")
    with pytest.raises(KvaeError, match="exists already: give --force"):
        pretrain(store, path, epochs=1, **SETTINGS)
    bad = store.data.copy()
    bad[5, 8] = np.nan
    with pytest.raises(KvaeError, match=r"row 5 \(record .*\): features are not finite"):
        pretrain(store.with_data(bad), path, epochs=1, force=True, **SETTINGS)
    assert path.read_text() == "precious"
    assert [entry.name for entry in tmp_path.iterdir()] == ["kmers.safetensors"]
    pretrain(store, path, epochs=1, force=True, **SETTINGS)
    assert load_file(path)["expand.bias"].shape == (96,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"code": 0}, "pretraining: code: Input should be greater"),
        ({"epochs": 0}, "pretraining: epochs: Input should be greater"),
        ({"lr": -1.0}, "pretraining: lr: "),
    ],
)
def test_unusable_numbers_are_refused(
    store: MemoryStore, tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(KvaeError, match=message):
        pretrain(store, tmp_path / "kmers.safetensors", **arguments)


def test_a_run_holds_the_frozen_weights_itself(
    store: MemoryStore, pretrained: Path, tmp_path: Path
) -> None:
    own = tmp_path / "kmers.safetensors"
    own.write_bytes(pretrained.read_bytes())
    frozen = load_file(own)
    folder = tmp_path / "run"
    run(store, folder, settings=options(own))
    stored = load_file(folder / "model.safetensors")
    for name in ("weight", "bias"):
        taken = stored[f"decoder.sparse.value_readout.{name}"]
        assert torch.equal(taken, frozen[f"expand.{name}"])
    own.unlink()
    latents = encode(folder, store, device="cpu")
    assert latents.shape == (len(store), 12)
    assert np.isfinite(latents).all()
    again: dict[str, Any] = {"config": None, "resume": True, "epochs": 4}
    assert run(store, folder, **again).epochs == 4
    stored = load_file(folder / "model.safetensors")
    assert torch.equal(stored["decoder.sparse.value_readout.bias"], frozen["expand.bias"])
    with pytest.raises(KvaeError, match=r"kmers\.safetensors: no such file"):
        run(store, tmp_path / "new", settings=options(own))
    assert not (tmp_path / "new").exists()


def test_files_that_do_not_fit_are_refused(
    layout: Layout, pretrained: Path, tmp_path: Path
) -> None:
    weight, bias = read_expansion(pretrained, layout, "7-mers")
    assert (weight.shape, bias.shape) == ((96, 6), (96,))
    with pytest.raises(KvaeError, match="was trained on 7-mers, 4-mers expected"):
        read_expansion(pretrained, layout, "4-mers")
    with pytest.raises(KvaeError, match="made for feature layout small-layout"):
        read_expansion(pretrained, make_layout(96, 20, 8, "other"), "7-mers")
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(pretrained.read_bytes()[:-10])
    with pytest.raises(KvaeError, match="not a readable safetensors file"):
        read_expansion(damaged, layout, "7-mers")
    KmerVAE.from_preset("dot", layout=layout).save(damaged)
    with pytest.raises(KvaeError, match="format is 'kvae-model-1', 'kvae-kmers-1' expected"):
        read_expansion(damaged, layout, "7-mers")


def test_the_program_pretrains_trains_and_encodes(
    feature_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "feats.arrow").symlink_to(feature_file)
    assert kvae("kvae pretrain feats.arrow -o k.st --epochs 2 --code 5 -t 1", monkeypatch) == 0
    told = capsys.readouterr().err
    assert "epoch 2/2 mse" in told
    command = told.partition("next: ")[2].strip()
    for change in ("encoder.branches.7-mers.hidden=[8]", "decoder.shared=[8]", "value_hidden=[8]"):
        command += f" --set {change}"
    assert kvae(f"{command} --epochs 1 --latent 3 -t 1", monkeypatch) == 0
    assert "epoch 1/1" in capsys.readouterr().err
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["model"]["decoder"]["sparse"]["readout"] == {
        "kind": "pretrained",
        "code": 5,
        "weights": "k.st",
    }
    (tmp_path / "k.st").unlink()
    assert kvae("kvae encode run feats.arrow -o latent.npz -t 1", monkeypatch) == 0
    assert np.load(tmp_path / "latent.npz")["latent"].shape == (71, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--set latnet=3", "no key 'latnet'; close: model.latent"),
        ("--set latent", "--set latent: KEY=VALUE expected"),
        ("--config missing.toml", "missing.toml: no such file"),
        ("--preset dott", "unknown preset 'dott', known: outline, deep, slim, lowrank, dot"),
        ("--set decoder.kind=pretrained", "writes log frequencies, not the logits of a gate"),
    ],
)
def test_mistakes_in_settings_are_one_line(
    feature_file: Path,
    tmp_path: Path,
    arguments: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert kvae(f"kvae train {feature_file} {arguments}", monkeypatch) == 1
    told = capsys.readouterr().err
    assert told.startswith("kvae: error: ")
    assert message in told
    assert told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
