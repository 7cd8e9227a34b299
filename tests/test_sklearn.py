"""The transformer keeps scikit-learn's conventions, and gives the model's latents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.utils import get_tags

import kvae
from kvae.errors import KvaeError
from kvae.model import KmerVAE
from kvae.sklearn import KmerEncoder


@pytest.fixture(scope="module")
def store(feature_file: Path) -> kvae.FeatureStore:
    return kvae.FeatureStore(feature_file, threads=1)


@pytest.fixture(scope="module")
def sequences(store: kvae.FeatureStore) -> list[bytes]:
    return store.sequences(np.arange(len(store)))


@pytest.fixture(scope="module")
def encoder(sequences: list[bytes]) -> KmerEncoder:
    return KmerEncoder(threads=1, device="cpu").fit(sequences)


@pytest.fixture(scope="module")
def expected(store: kvae.FeatureStore) -> NDArray[np.float32]:
    return kvae.encode("pretrained", store, device="cpu", threads=1)


def test_everything_that_has_rows_is_encoded(
    encoder: KmerEncoder,
    store: kvae.FeatureStore,
    sequences: list[bytes],
    expected: NDArray[np.float32],
) -> None:
    rows = store.rows(np.arange(len(store)))
    inputs: list[Any] = [store, rows, rows.astype(np.float64), sequences]
    inputs += [[letters.decode() for letters in sequences], np.array(sequences, dtype=object)]
    for X in inputs:
        latents = encoder.transform(X)
        assert latents.dtype == np.float32
        np.testing.assert_allclose(latents, expected, atol=1e-4)


def test_many_sequences_go_in_parts(
    encoder: KmerEncoder,
    sequences: list[bytes],
    expected: NDArray[np.float32],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kvae.sklearn._SEQUENCES_AT_A_TIME", 16)
    np.testing.assert_allclose(encoder.transform(sequences), expected, atol=1e-4)


def test_parameters() -> None:
    encoder = KmerEncoder("run", batch_size=7)
    params = encoder.get_params()
    assert params["model"] == "run"
    assert params["batch_size"] == 7
    assert {"preset", "latent", "epochs", "random_state", "device", "threads"} < params.keys()
    copy = clone(encoder.set_params(batch_size=9))
    assert copy is not encoder
    assert copy.get_params() == encoder.get_params()
    assert "batch_size=9" in repr(copy)
    with pytest.raises(ValueError, match="nonsense"):
        encoder.set_params(nonsense=1)


def test_a_clone_is_not_fitted(encoder: KmerEncoder, sequences: list[bytes]) -> None:
    copy = clone(encoder)
    with pytest.raises(NotFittedError):
        copy.transform(sequences)
    with pytest.raises(NotFittedError):
        copy.get_feature_names_out()


def test_names_of_the_latent_units(encoder: KmerEncoder, sequences: list[bytes]) -> None:
    names = encoder.get_feature_names_out()
    assert names.dtype == object
    assert names.tolist() == [f"z{i}" for i in range(1, 65)]
    frame = clone(encoder).set_output(transform="pandas").fit_transform(sequences[:3])
    assert frame.columns.tolist() == names.tolist()
    assert frame.shape == (3, 64)


def test_in_a_pipeline(sequences: list[bytes], store: kvae.FeatureStore) -> None:
    pipeline = make_pipeline(
        KmerEncoder(threads=1, device="cpu"), KMeans(4, n_init=5, random_state=0)
    )
    clusters = pipeline.fit_predict(sequences)
    # Four genomes, four clusters: all but a few windows are with their own.
    together = [np.bincount(clusters[store.source_codes == code]).max() for code in range(4)]
    assert sum(together) > 0.9 * len(store)
    np.testing.assert_array_equal(pipeline.predict(sequences), clusters)
    pipeline.set_params(kmerencoder__batch_size=3)
    assert pipeline.named_steps["kmerencoder"].batch_size == 3


def test_a_model_of_ones_own(sequences: list[bytes], tmp_path: Path) -> None:
    model = KmerVAE.from_preset("dot", latent=5).eval()
    model.save(tmp_path / "model.safetensors")
    x = kvae.featurize_sequences(sequences[:4])
    for given in (model, tmp_path / "model.safetensors", str(tmp_path / "model.safetensors")):
        encoder = KmerEncoder(given, device="cpu", threads=1).fit(x)
        assert encoder.n_features_in_ == 8362
        np.testing.assert_allclose(encoder.transform(x), model.encode(x, threads=1), atol=1e-6)


def test_fit_trains_a_preset(sequences: list[bytes]) -> None:
    encoder = KmerEncoder(preset="dot", latent=6, epochs=2, device="cpu", threads=1)
    latents = encoder.fit_transform(sequences)
    assert latents.shape == (len(sequences), 6)
    assert len(encoder.model_.history) == 2
    again = clone(encoder).fit_transform(sequences)
    np.testing.assert_array_equal(latents, again)
    other = clone(encoder).set_params(random_state=1).fit_transform(sequences)
    assert not np.allclose(latents, other, atol=1e-3)


def test_tags() -> None:
    tags = get_tags(KmerEncoder())
    assert tags.input_tags.string
    assert tags.input_tags.two_d_array
    assert not tags.target_tags.required


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ("ACGT", "put it in a list"),
        ([], "no sequences"),
        ([1, 2], "entry 0 is of type int"),
        (["ACGT", None], "entry 1 is of type NoneType"),
        (["ACGTACGT", ""], "empty"),
        (np.zeros((2, 3)), "rows of 8362 fields expected"),
    ],
    ids=["one", "none", "numbers", "gap", "empty", "width"],
)
def test_what_is_not_encoded(encoder: KmerEncoder, X: Any, message: str) -> None:
    with pytest.raises(KvaeError, match=message):
        encoder.transform(X)


def test_what_is_not_trained_on() -> None:
    encoder = KmerEncoder(preset="dot", epochs=1, device="cpu", threads=1)
    with pytest.raises(KvaeError, match="sequence 1 is more than letters"):
        encoder.fit(["ACGT" * 100, ">a\nACGT"])
    with pytest.raises(KvaeError, match="unknown preset"):
        KmerEncoder(preset="nonsense").fit(["ACGT" * 100])
