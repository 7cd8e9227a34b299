"""A model as an object: made, fitted, encoding and reconstructing; its data set."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

import kvae
from kvae.array_rows import ArrayRows
from kvae.data import FeatureDataset
from kvae.errors import KvaeError
from kvae.layout import Layout
from kvae.model import KmerVAE
from kvae.presets import PRESETS, get_preset, loss_for
from pages import run_python
from small import MemoryStore, small_model
from training_runs import Finished, assert_same_weights, lines


def assert_same_state(one: KmerVAE, other: KmerVAE) -> None:
    a, b = one.state_dict(), other.state_dict()
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def pretrained() -> KmerVAE:
    return KmerVAE.from_pretrained()


@pytest.fixture(scope="module")
def rows(feature_file: Path) -> NDArray[np.float32]:
    return kvae.FeatureStore(feature_file).rows(np.arange(0, 71, 5))


def test_the_examples_run(
    tmp_path: Path,
    data_files: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "genomes").mkdir()
    for path in data_files:
        (tmp_path / "genomes" / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    names = run_python("python.md")
    store = names["store"]
    assert names["rows"].shape == (2, 8362)
    assert names["latents"].shape == (len(store), 64)
    assert names["more"].shape == (2, 64)
    assert names["decoded"].presence.shape == names["decoded"].value.shape == (2, 8192)
    assert names["decoded"].kmers[:2] == ["AAAAAAA", "AAAAAAC"]
    assert names["small"].encode(store).shape == (len(store), 32)
    assert names["clusters"].shape == (20,)
    said = capsys.readouterr().out
    assert said == "rows of 8362 fields expected, got an array of shape (2, 100)\n"


# --- models to start from -----------------------------------------------------------


def test_the_model_of_the_package_has_two_names(pretrained: KmerVAE) -> None:
    assert_same_state(pretrained, KmerVAE.from_pretrained("pretrained"))
    assert pretrained.config == get_preset("kvae").model
    assert not pretrained.training


def test_a_run_and_its_file_are_the_same_model(finished: Finished, layout: Layout) -> None:
    of_run = KmerVAE.from_pretrained(finished.folder, layout=layout)
    of_file = KmerVAE.from_pretrained(finished.folder / "model.safetensors", layout=layout)
    assert_same_state(of_run, of_file)
    assert of_run.config == small_model()


def test_the_layout_of_a_model_with_other_kmers_is_found(tmp_path: Path) -> None:
    ks = (4, 3)
    config = small_model(
        **{
            "encoder.branches": [{"block": "3-mers", "hidden": [8]}],
            "decoder.sparse.block": "4-mers",
            "decoder.dense": [],
        }
    )
    model = KmerVAE(config, Layout.from_ks(ks))
    model.save(tmp_path / "model.safetensors")
    loaded = KmerVAE.from_pretrained(tmp_path / "model.safetensors")
    assert loaded.layout == Layout.from_ks(ks)
    x = kvae.featurize_sequences(["ACGTTGCA" * 20, "TTGAC" * 30], k=ks)
    assert loaded.encode(x).shape == (2, 12)
    decoded = loaded.reconstruct(x)
    assert decoded.kmers == kvae.kmers(4)
    assert decoded.presence.shape == (2, 136)


def test_what_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(KvaeError, match=r"nowhere: no model there"):
        KmerVAE.from_pretrained(tmp_path / "nowhere")


@pytest.mark.parametrize("name", PRESETS)
def test_every_architecture_has_the_loss_of_its_preset(name: str) -> None:
    assert loss_for(get_preset(name).model) == get_preset(name).loss


def test_a_changed_architecture_has_the_loss_of_its_kind() -> None:
    assert loss_for(small_model()) == get_preset("dot").loss


# --- fit -----------------------------------------------------------------------------


def test_fit_is_train(finished: Finished, store: MemoryStore, tmp_path: Path) -> None:
    model = KmerVAE(small_model(), store.layout)
    fitted = model.fit(
        store, tmp_path / "run", epochs=6, batch_size=16, lr=5e-3, device="cpu", threads=1
    )
    assert fitted is model
    assert not model.training
    assert_same_weights(finished.folder, tmp_path / "run")
    assert_same_state(model, KmerVAE.from_pretrained(tmp_path / "run", layout=store.layout))
    assert model.history == lines(tmp_path / "run")
    assert [record["epoch"] for record in model.history] == [1, 2, 3, 4, 5, 6]


def test_fit_keeps_no_folder(
    store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    KmerVAE(small_model(), store.layout).fit(store, epochs=1, batch_size=16, threads=1)
    assert list(tmp_path.iterdir()) == []


def test_fit_goes_on_from_the_weights_it_has(finished: Finished, store: MemoryStore) -> None:
    loaded = KmerVAE.from_pretrained(finished.folder, layout=store.layout)
    before = {name: tensor.clone() for name, tensor in loaded.state_dict().items()}
    loaded.fit(store, epochs=1, batch_size=16, lr=1e-9, device="cpu", threads=1)
    for name, parameter in loaded.named_parameters():
        assert torch.allclose(parameter, before[name], atol=1e-6), name
    new = KmerVAE(small_model(), store.layout)
    new.fit(store, epochs=1, batch_size=16, lr=1e-9, device="cpu", threads=1)
    assert loaded.history[-1]["validation"]["loss"] < new.history[-1]["validation"]["loss"]


def test_fit_refuses_another_architecture(store: MemoryStore) -> None:
    model = KmerVAE(small_model(), store.layout)
    with pytest.raises(KvaeError, match="the model is what it is"):
        model.fit(store, settings={"model.latent": 3})


def test_fit_refuses_rows_of_another_layout(store: MemoryStore, small_file: Path) -> None:
    with pytest.raises(KvaeError, match=r"small\.arrow: the model was made for feature layout"):
        KmerVAE(small_model(), store.layout).fit(small_file)


def test_fit_takes_an_array(store: MemoryStore) -> None:
    model = KmerVAE(small_model(), store.layout)
    model.fit(store.data, epochs=3, batch_size=16, lr=5e-3, device="cpu", threads=1)
    losses = [record["train"]["loss"] for record in model.history]
    assert losses[-1] < losses[0]


# --- encode and reconstruct ----------------------------------------------------------


def test_encode_is_that_of_the_run(finished: Finished, store: MemoryStore) -> None:
    model = KmerVAE.from_pretrained(finished.folder, layout=store.layout)
    expected = kvae.encode(finished.folder, store, device="cpu", threads=1)
    latents = model.encode(store, batch_size=7, threads=1)
    assert latents.dtype == np.float32
    np.testing.assert_allclose(latents, expected, rtol=1e-5, atol=1e-6)
    for features in (store.data, torch.from_numpy(store.data), store.data.astype(np.float64)):
        np.testing.assert_array_equal(model.encode(features, batch_size=7, threads=1), latents)


def test_encode_computes_as_after_training(finished: Finished, store: MemoryStore) -> None:
    model = KmerVAE.from_pretrained(finished.folder, layout=store.layout)
    expected = model.encode(store.data, threads=1)
    model.train()
    np.testing.assert_array_equal(model.encode(store.data, threads=1), expected)
    assert model.training


def test_encode_writes_files_of_a_model_object(
    finished: Finished, store: MemoryStore, tmp_path: Path
) -> None:
    model = KmerVAE.from_pretrained(finished.folder, layout=store.layout)
    result = kvae.encode(model, store.data, tmp_path / "latent.npz", threads=1)
    assert (result.rows, result.latent) == (len(store), 12)
    with np.load(tmp_path / "latent.npz") as archive:
        assert archive["id"].tolist() == [f"row_{i}" for i in range(len(store))]
        np.testing.assert_array_equal(archive["start"], 0)
        length = np.rint(np.exp(store.data[:, 0]))
        np.testing.assert_array_equal(archive["length"], length)
        np.testing.assert_array_equal(archive["end"], length)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((2, 7), np.float32), r"rows of 126 fields expected, got .* \(2, 7\)"),
        (np.zeros(126, np.float32), r"rows of 126 fields expected, got .* \(126,\)"),
        (np.zeros((0, 126), np.float32), "no rows"),
        (np.zeros((1, 126), np.bool_), "numbers expected"),
        (np.full((3, 126), np.nan, np.float32), r"row 0 \(record row_0\): .* not finite"),
    ],
    ids=["narrow", "one row", "none", "bool", "nan"],
)
def test_arrays_that_are_no_rows(
    store: MemoryStore, rows: NDArray[np.float32], message: str
) -> None:
    model = KmerVAE(small_model(), store.layout).eval()
    with pytest.raises(KvaeError, match=message):
        model.encode(rows, threads=1)
    with pytest.raises(KvaeError, match=message):
        model.reconstruct(rows, threads=1)


def test_names_of_an_array(store: MemoryStore) -> None:
    with pytest.raises(KvaeError, match="2 names for"):
        ArrayRows(store.data, store.layout, ids=["a", "b"])
    names = [f"c{i // 3}" for i in range(len(store))]
    assert ArrayRows(store.data, store.layout, ids=names).ids.to_pylist() == names


@pytest.mark.parametrize("name", ["deep", "slim", "dot", "kvae"])
def test_what_is_reconstructed(name: str, pretrained: KmerVAE, rows: NDArray[np.float32]) -> None:
    torch.manual_seed(0)
    model = pretrained if name == "kvae" else KmerVAE.from_preset(name)
    decoded = model.reconstruct(rows, batch_size=4, threads=1)
    assert decoded.kmers == kvae.kmers(7)
    assert decoded.presence.shape == decoded.value.shape == (len(rows), 8192)
    assert decoded.presence.dtype == decoded.value.dtype == np.float32
    assert 0.0 <= decoded.presence.min() <= decoded.presence.max() <= 1.0
    assert 0.0 <= decoded.value.min() <= decoded.value.max() <= 1.0
    model.eval()
    with torch.inference_mode():
        x = torch.from_numpy(rows)
        said = model.generative(model.inference(x).mean)
        logit = said.presence_logit(torch.from_numpy(np.exp(rows[:, :1]) - 6))
        frequency = said.frequency(1e-6)
    if logit is not None:
        np.testing.assert_allclose(decoded.presence, torch.sigmoid(logit), atol=1e-5)
    if name == "dot":
        np.testing.assert_allclose(decoded.presence * decoded.value, frequency, atol=1e-7)
    if name in ("deep", "kvae"):
        np.testing.assert_allclose(decoded.value, frequency, atol=1e-7)


def test_a_tilted_reconstruction_is_nearer_to_the_row(
    pretrained: KmerVAE, rows: NDArray[np.float32]
) -> None:
    plain = pretrained.reconstruct(rows, threads=1)
    found = pretrained.reconstruct(rows, tilt=True, threads=1)
    np.testing.assert_allclose(found.value.sum(axis=1), 1.0, atol=1e-5)
    row = (np.exp(rows[:, 1:8193]) - 1e-6).clip(0)

    better = (row * np.log(found.value / plain.value)).sum(axis=1)
    assert (better > 0).all()
    length = np.exp(rows[:, :1])
    np.testing.assert_allclose(found.presence, -np.expm1(-(length - 6) * found.value), atol=1e-5)


def test_only_profiles_are_tilted(store: MemoryStore) -> None:
    model = KmerVAE(small_model(), store.layout).eval()
    with pytest.raises(KvaeError, match="the model has to decode profiles"):
        model.reconstruct(store.data, tilt=True, threads=1)


def test_a_refined_reconstruction_is_nearer_to_the_rows(
    pretrained: KmerVAE, rows: NDArray[np.float32]
) -> None:
    before = {name: value.clone() for name, value in pretrained.state_dict().items()}
    plain = pretrained.reconstruct(rows, threads=1)
    found = pretrained.reconstruct(rows, refine=True, threads=1)
    again = pretrained.reconstruct(rows, refine=True, batch_size=3, threads=1)
    both = pretrained.reconstruct(rows, refine=True, tilt=True, threads=1)
    np.testing.assert_allclose(found.value.sum(axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(found.value, again.value, rtol=1e-3)
    assert all(torch.equal(before[name], now) for name, now in pretrained.state_dict().items())
    assert all(parameter.grad is None for parameter in pretrained.parameters())
    row = (np.exp(rows[:, 1:8193]) - 1e-6).clip(0)

    def nats(value: NDArray[np.float32]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = -(row * np.log(value)).sum(axis=1)
        return found

    assert (nats(found.value) < nats(plain.value)).all()
    assert (nats(both.value) < nats(found.value)).all()


def test_only_profiles_are_refined(store: MemoryStore) -> None:
    model = KmerVAE(small_model(), store.layout).eval()
    with pytest.raises(KvaeError, match=r"refine .*the model has to decode profiles"):
        model.reconstruct(store.data, refine=True, threads=1)


def test_the_pretrained_model_tells_what_is_there(
    pretrained: KmerVAE, rows: NDArray[np.float32]
) -> None:
    decoded = pretrained.reconstruct(rows, threads=1)
    np.testing.assert_allclose(decoded.value.sum(axis=1), 1.0, atol=1e-5)
    there = rows[:, 1:8193] > np.log(2e-6)
    said = decoded.presence > 0.5
    best_guess = max(there.mean(), 1 - there.mean())
    assert (said == there).mean() > best_guess + 0.02


# --- the data set --------------------------------------------------------------------


def test_a_loader_gives_every_row_once(small_file: Path) -> None:
    store = kvae.FeatureStore(small_file)
    data = FeatureDataset(small_file)
    assert len(data) == len(store) == 1100
    assert data.layout == store.layout
    assert data.ids == store.ids.to_pylist()
    batches = list(DataLoader(data, batch_size=256))
    assert [len(batch) for batch in batches] == [256, 256, 256, 256, 76]
    expected = store.rows(np.arange(1100))
    np.testing.assert_array_equal(torch.cat(batches).numpy(), expected)
    shuffled = torch.cat(list(DataLoader(data, batch_size=100, shuffle=True))).numpy()
    assert not np.array_equal(shuffled, expected)
    np.testing.assert_array_equal(np.sort(shuffled, axis=0), np.sort(expected, axis=0))


def test_rows_of_the_data_set(small_file: Path) -> None:
    data = FeatureDataset(small_file, threads=1)
    assert data[3].shape == (34,)
    assert torch.equal(data[-1], data[len(data) - 1])
    pair = data.__getitems__([5, 2])
    assert torch.equal(pair[0], data[5])
    assert torch.equal(pair[1], data[2])
    for row in (1100, -1101):
        with pytest.raises(IndexError, match="rows 0 to 1099"):
            data[row]


def test_a_worker_process_opens_the_file_again(small_file: Path) -> None:
    data = FeatureDataset(small_file, threads=1)
    again = pickle.loads(pickle.dumps(data))
    assert torch.equal(again[700], data[700])
    assert again.ids == data.ids


def test_a_data_set_of_sequences_and_of_an_array(data_files: list[Path]) -> None:
    from_files = FeatureDataset(data_files[0], k=(4,), threads=1)
    from_array = FeatureDataset(from_files.source.rows(np.arange(4)), k=(4,))
    assert from_array[2].shape == (138,)
    assert torch.equal(from_array[2], from_files[2])
