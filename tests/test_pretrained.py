"""The model that comes with the package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import kvae
import kvae.demo
from kvae.model import KmerVAE
from kvae.presets import get_preset
from kvae.pretrained import PRETRAINED, model_path

COMPLEMENT = bytes.maketrans(b"ACGT", b"TGCA")
GENOMES = Path(kvae.demo.__file__).parent / "genomes"


@pytest.fixture(scope="module")
def model() -> KmerVAE:
    return KmerVAE.from_pretrained()


@pytest.fixture(scope="module")
def windows() -> kvae.FeatureStore:
    """Windows of fourteen species, one file each."""
    return kvae.open_sequences(GENOMES, threads=1)


@pytest.fixture(scope="module")
def latents(windows: kvae.FeatureStore) -> NDArray[np.float32]:
    return kvae.encode(PRETRAINED, windows, device="cpu", threads=1)


def test_it_is_small_and_of_the_default_preset(model: KmerVAE) -> None:
    assert model.config == get_preset("kvae").model
    assert model_path(PRETRAINED).stat().st_size < 30e6
    assert not model.training
    assert all(
        torch.isfinite(tensor).all() and tensor.dtype != torch.float16
        for tensor in model.state_dict().values()
    )


def test_a_contig_and_its_reverse_complement_have_the_same_latent(
    model: KmerVAE, windows: kvae.FeatureStore
) -> None:
    sequences = windows.sequences(np.arange(0, len(windows), 20, dtype=np.int64))
    reverse = [sequence.translate(COMPLEMENT)[::-1] for sequence in sequences]
    assert reverse != sequences
    with torch.inference_mode():
        one, other = (
            model.inference(torch.from_numpy(kvae.featurize_sequences(each, threads=1))).mean
            for each in (sequences, reverse)
        )
    assert torch.equal(one, other)


def test_windows_of_a_contig_are_nearer_than_those_of_different_species(
    windows: kvae.FeatureStore, latents: NDArray[np.float32]
) -> None:
    contigs = np.array(windows.ids.to_pylist())
    sources = windows.source_codes
    distances = np.linalg.norm(latents[:, None] - latents[None], axis=2)
    within = distances[(contigs[:, None] == contigs) & ~np.eye(len(contigs), dtype=bool)]
    between = distances[sources[:, None] != sources]
    # The typical pair of one contig; genomes have islands that are unlike themselves.
    assert np.median(within) < np.quantile(between, 0.05)


def test_neighbours_are_of_the_same_species_more_often_than_by_4_mers(
    windows: kvae.FeatureStore, latents: NDArray[np.float32]
) -> None:
    rows = windows.rows(np.arange(len(windows), dtype=np.int64))
    shares = np.exp(rows[:, windows.layout.block("4-mers").slice])
    scaled = (shares - shares.mean(axis=0)) / shares.std(axis=0)

    def errors(vectors: NDArray[np.float32]) -> float:
        distances = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)
        np.fill_diagonal(distances, np.inf)
        nearest = distances.argmin(axis=1)
        return float((windows.source_codes[nearest] != windows.source_codes).mean())

    assert errors(latents) < errors(scaled)
    assert errors(latents) < 0.05


def test_it_decodes_a_profile(model: KmerVAE, windows: kvae.FeatureStore) -> None:
    rows = torch.from_numpy(windows.rows(np.arange(0, len(windows), 10, dtype=np.int64)))
    with torch.inference_mode():
        profile = model.generative(model.inference(rows).mean).profile(1e-6)
    assert torch.allclose(profile.sum(dim=1), torch.ones(len(rows)), atol=1e-5)
    frequency = (rows[:, windows.layout.block("7-mers").slice].exp() - 1e-6).clamp(min=0.0)
    nats = -(frequency * profile.log()).sum(dim=1).mean()
    mean = frequency.mean(dim=0)
    assert nats < -(mean * mean.clamp(min=1e-9).log()).sum() - 0.1


def test_training_goes_on_from_it(tmp_path: Path, windows: kvae.FeatureStore) -> None:
    result = kvae.train(
        windows, tmp_path / "run", init=PRETRAINED, epochs=1, device="cpu", threads=1, lr=1e-9
    )
    trained = KmerVAE.load(result.run / "model.safetensors")
    start = KmerVAE.from_pretrained()
    for name, tensor in trained.encoder.state_dict().items():
        assert torch.allclose(tensor, start.encoder.state_dict()[name], atol=1e-5), name
