"""Encoders in another runtime give the latents of kvae."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

import kvae
from in_process import kvae as program
from kvae.errors import KvaeError
from kvae.layout import Layout
from kvae.model import KmerVAE
from kvae.model.files import model_fingerprint
from small import MemoryStore, small_model

Matrix = NDArray[np.float32]


def run_graph(path: Path, rows: Matrix) -> list[Matrix]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    assert entry.name == "features"
    assert entry.type == "tensor(float)"
    assert entry.shape[0] == "rows"
    found: list[Matrix] = session.run(["latent", "logvar"], {"features": rows})
    return found


def assert_same_latents(graph: Path, source: str, store: kvae.FeatureStore) -> None:
    """The graph's latents are those of encode, however many rows there are."""
    rows = store.rows(np.arange(len(store)))
    latent, logvar = kvae.encode(source, store, with_logvar=True, device="cpu", threads=1)
    found = run_graph(graph, rows)
    # Single precision, summed in another order, of latents that may be of length 8.
    np.testing.assert_allclose(found[0], latent, atol=3e-5, rtol=0)
    np.testing.assert_allclose(found[1], logvar, atol=1e-5, rtol=0)
    assert latent.std() > 0.01
    for n in (1, 5):
        np.testing.assert_allclose(run_graph(graph, rows[:n])[0], latent[:n], atol=3e-5)


def test_latents_of_the_pretrained_model(feature_file: Path, pretrained_graph: Path) -> None:
    store = kvae.FeatureStore(feature_file, threads=1)
    assert_same_latents(pretrained_graph, "pretrained", store)


@pytest.mark.parametrize("name", ["dot", "kvae"])
def test_latents_are_those_of_encode(
    name: str,
    feature_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = kvae.FeatureStore(feature_file, threads=1)
    rows = torch.from_numpy(store.rows(np.arange(len(store))))
    torch.manual_seed(0)
    model = KmerVAE.from_preset(name, latent=24)
    with torch.no_grad():
        # As after training: statistics of BatchNorm, and inputs that are whitened.
        if name == "dot":
            model.train()(rows)
        else:
            classes = torch.from_numpy(store.source_codes.astype(np.int64))
            model.encoder.learn(rows, classes)  # type: ignore[operator]
    monkeypatch.chdir(tmp_path)
    model.save("model.safetensors")
    assert program("kvae export model.safetensors -o encoder.onnx", monkeypatch) == 0
    told = capsys.readouterr()
    fields = "rows of 8,362 fields to 24 latent units"
    assert (told.out, told.err) == ("", f"encoder.onnx: encoder, {fields}\n")
    assert_same_latents(tmp_path / "encoder.onnx", "model.safetensors", store)


def test_the_graph_says_which_features_it_takes(
    store: MemoryStore, layout: Layout, tmp_path: Path
) -> None:
    model = KmerVAE(small_model(), layout)
    kvae.export(model, tmp_path / "encoder.onnx")
    assert model.training
    graph = onnx.load(tmp_path / "encoder.onnx")
    onnx.checker.check_model(graph, full_check=True)
    facts = {entry.key: entry.value for entry in graph.metadata_props}
    assert facts["kvae.layout"] == layout.fingerprint
    assert facts["kvae.k"] == "7,4,3"
    assert facts["kvae.model"] == model_fingerprint(model)
    assert facts["kvae.version"] == kvae.__version__
    assert float(facts["kvae.pseudocount"]) == layout.pseudocount
    assert facts["kvae.blocks"].startswith("length:0-1,7-mers:1-97,")
    expected = model.encode(store.data, threads=1)
    np.testing.assert_allclose(
        run_graph(tmp_path / "encoder.onnx", store.data)[0], expected, atol=1e-5
    )


def test_what_is_no_encoder(
    feature_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KvaeError, match="no model there"):
        kvae.export(tmp_path / "missing", tmp_path / "a.onnx")
    with pytest.raises(KvaeError, match=r"feats\.arrow: not a readable safetensors file"):
        kvae.export(feature_file, tmp_path / "a.onnx")
    with pytest.raises(KvaeError, match="comes from one model"):
        kvae.export(["a", "b"], tmp_path / "a.onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(KvaeError, match=r"needs onnx.*pip install 'kvae\[onnx\]'"):
        kvae.export("pretrained", tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []
