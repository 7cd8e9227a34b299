"""Latents that are moved to where the decoder explains their rows better."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import kvae
from kvae.errors import KvaeError
from kvae.model import KmerVAE
from kvae.model.derive import gc_of_kmers, shares
from kvae.model.posterior import Latent
from kvae.model.refining import refined
from small import MemoryStore, small_model


@pytest.fixture(scope="module")
def pretrained() -> KmerVAE:
    return KmerVAE.from_pretrained()


@pytest.fixture(scope="module")
def rows(feature_file: Path) -> NDArray[np.float32]:
    return kvae.FeatureStore(feature_file).rows(np.arange(0, 71, 5))


def decoder(seed: int) -> Tensor:
    """Weights of a linear decoder of 5 units to 60 k-mers."""
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(5, 60))).float()


def answers(seed: int, rows: int = 4) -> tuple[Latent, Tensor]:
    """Say what an encoder might of rows, and counts of them."""
    rng = np.random.default_rng(seed)
    latent = Latent(torch.zeros(rows, 5), torch.full((rows, 5), -1.0))
    z = torch.from_numpy(rng.normal(size=(rows, 5))).float()
    p = torch.softmax(z @ decoder(0), dim=1).double().numpy()
    p /= p.sum(axis=1, keepdims=True)
    return latent, torch.from_numpy(np.stack([rng.multinomial(3000, one) for one in p])).float()


def test_the_counts_are_more_likely_and_the_latent_is_not_far() -> None:
    latent, counts = answers(1)
    weight = decoder(0)

    def profile(z: Tensor) -> Tensor:
        return torch.softmax(z @ weight, dim=1)

    found = refined(profile, latent, counts)

    def cost(z: Tensor) -> Tensor:
        moved = (z - latent.mean) / (0.5 * latent.log_var).exp()
        likely = (counts * profile(z).log()).sum(dim=1)
        return 5.0 * moved.square().sum(dim=1) - likely

    before, after = cost(latent.mean), cost(found)
    assert (after < before).all()
    # The best there is, by many more steps.
    best = latent.mean.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([best], max_iter=500, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        total = cost(best).sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    won = (before - after) / (before - cost(best.detach()))
    assert (won > 0.5).all()
    assert (won <= 1.0 + 1e-4).all()


def test_rows_are_refined_one_by_one_and_in_inference_mode() -> None:
    latent, counts = answers(2)
    weight = decoder(0).requires_grad_()

    def profile(z: Tensor) -> Tensor:
        return torch.softmax(z @ weight, dim=1)

    both = refined(profile, latent, counts)
    assert not both.requires_grad
    assert weight.grad is None
    for i in range(len(counts)):
        one = Latent(latent.mean[i : i + 1], latent.log_var[i : i + 1])
        torch.testing.assert_close(refined(profile, one, counts[i : i + 1])[0], both[i])
    with torch.inference_mode():
        copy = Latent(latent.mean.clone(), latent.log_var.clone())
        assert torch.equal(refined(profile, copy, counts.clone()), both)


def test_without_counts_nothing_moves() -> None:
    latent, counts = answers(3)
    found = refined(lambda z: torch.softmax(z @ decoder(0), dim=1), latent, 0 * counts)
    assert torch.equal(found, latent.mean)


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


def test_models_can_be_trained_after_others_were_made_in_inference_mode() -> None:
    shares.cache_clear()
    with torch.inference_mode():
        assert not shares(5, 4).is_inference()
        assert not gc_of_kmers(5).is_inference()
