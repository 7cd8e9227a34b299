"""Latents that are moved to where the decoder explains their rows better."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kvae.model.derive import gc_of_kmers, shares
from kvae.model.posterior import Latent
from kvae.model.refining import refined


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


def test_models_can_be_trained_after_others_were_made_in_inference_mode() -> None:
    shares.cache_clear()
    gc_of_kmers.cache_clear()
    with torch.inference_mode():
        assert not shares(5, 4).is_inference()
        assert not gc_of_kmers(5).is_inference()
