"""The profile output space, its likelihood across halves, and the contrast of latents."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import reference
from hand_made import Space
from kvae.config import LossConfig
from kvae.epoch_progress import TrainProgress
from kvae.model import KmerVAE
from kvae.model.decoder import LEAST_FREQUENCY, Decoded
from kvae.model.losses import contrast, loss_terms
from kvae.training.baselines import scan
from kvae.training.metrics import EpochSums
from kvae.training.processes import Processes
from kvae.training.split import split_rows
from short_kmers import profile_layout, profile_rows, profile_run, short_sequences
from small import PSEUDOCOUNT, MemoryStore

KMERS = reference.columns(5)


def model(**changes: Any) -> KmerVAE:
    torch.manual_seed(3)
    return KmerVAE(profile_run(**changes).model, profile_layout()).eval()


def decoded() -> Decoded:
    return model().generative(3.0 * torch.randn(4, 5, generator=torch.Generator().manual_seed(1)))


def paired_rows(n: int = 6) -> Tensor:
    """First halves of some sequences, then their second halves."""
    sequences = short_sequences()[:n]
    first = [s[: len(s) // 2] for s in sequences]
    return profile_rows([*first, *(s[len(s) // 2 :] for s in sequences)])


# --- the profile ---------------------------------------------------------------------


def test_a_profile_is_gate_times_value_and_adds_up_to_1() -> None:
    trained = model()
    z_BL = 3.0 * torch.randn(4, 5)
    out = trained.generative(z_BL)
    sparse = trained.decoder.sparse
    assert sparse.gate is not None
    assert sparse.gate_readout is not None
    assert sparse.gc is None
    trunk = trained.decoder.shared(z_BL)
    value = sparse.value_readout(sparse.value(trunk)).double()
    gate = sparse.gate_readout(sparse.gate(trunk)).double()
    product = torch.log1p(value.exp()) / (1.0 + (-gate).exp())
    expected = product / product.sum(dim=1, keepdim=True)
    torch.testing.assert_close(out.value.double(), expected, rtol=1e-4, atol=1e-9)
    torch.testing.assert_close(out.value.sum(dim=1), torch.ones(4))
    assert (out.value > 0.0).all()
    for same in (out.kmers(), out.frequency(PSEUDOCOUNT), out.profile(PSEUDOCOUNT)):
        assert torch.equal(same, out.value)
    assert out.row().shape == (4, trained.read_target.n_target)


def test_short_kmers_and_gc_are_those_of_the_profile() -> None:
    out = decoded()
    assert list(out.dense) == ["4-mers", "3-mers"]
    profile = out.value.tolist()
    for k in (4, 3):
        column = {kmer: i for i, kmer in enumerate(reference.columns(k))}
        for b, row in enumerate(profile):
            shares = [0.0] * len(column)
            for kmer, p in zip(KMERS, row, strict=True):
                parts = [kmer[i : i + k] for i in range(5 - k + 1)]
                for part in parts:
                    shares[column[reference.canonical(part)]] += p / len(parts)
            expected = [math.log(share + PSEUDOCOUNT) for share in shares]
            assert out.dense[f"{k}-mers"][b].tolist() == pytest.approx(expected, abs=1e-5)
    for b, row in enumerate(profile):
        gc = sum(p * reference.gc(kmer) for kmer, p in zip(KMERS, row, strict=True))
        assert out.gc[b].item() == pytest.approx(math.log(gc + PSEUDOCOUNT), abs=1e-5)


@given(st.floats(1e-12, 1e4), st.floats(1.0, 1e6))
def test_presence_is_that_of_a_draw_from_the_profile(expected: float, n_windows: float) -> None:
    value = torch.tensor([[expected / n_windows]], requires_grad=True)
    out = Decoded(value, torch.zeros(1, 1), {}, torch.zeros(1, 1), "profile", -10.0)
    logit = out.presence_logit(torch.tensor([[n_windows]]))
    assert logit is not None
    x = max(expected, LEAST_FREQUENCY)
    # p = 1 - exp(-x), so that p / (1 - p) = exp(x) - 1.
    wanted = x if x > 500.0 else math.log(math.expm1(x))
    assert logit.item() == pytest.approx(wanted, rel=1e-4, abs=1e-4)
    torch.autograd.backward(logit.sum())
    assert value.grad is not None
    assert math.isfinite(value.grad.item())
    if x < 10.0:
        p = 1.0 - math.exp(-x)
        assert torch.sigmoid(logit).item() == pytest.approx(p, rel=1e-3)


@pytest.mark.parametrize("space", ["linear", "log"])
def test_elsewhere_the_gate_says_what_is_present(space: Space) -> None:
    gate = torch.randn(2, 3)
    out = Decoded(torch.rand(2, 3), gate, {}, torch.zeros(2, 1), space, -10.0)
    assert out.presence_logit(torch.ones(2, 1)) is gate


# --- its likelihood ------------------------------------------------------------------


def test_each_half_is_decoded_as_the_other() -> None:
    trained, config = model(), profile_run()
    x_BF = paired_rows()
    noise_BL = torch.randn(12, 5)
    elbo = trained.elbo(x_BF, config.loss, noise_BL=noise_BL)
    out = trained(x_BF, noise_BL=noise_BL)[1]
    fields = profile_layout().block("5-mers").slice
    frequency = np.exp(x_BF[:, fields].double().numpy()) - PSEUDOCOUNT
    log_p = np.log(out.value.detach().double().numpy() + LEAST_FREQUENCY)
    nats = [
        -sum(f * p for f, p in zip(frequency[(b + 6) % 12], log_p[b], strict=True))
        for b in range(12)
    ]
    assert elbo.terms["nats"].value.item() == pytest.approx(np.mean(nats), rel=1e-5)
    assert elbo.terms["nats"].count.item() == 12
    # Presence is that of the other half, too, of which so many 5-mers were seen.
    present = frequency > trained.config.presence_threshold
    places = np.exp(x_BF[:, 0].double().numpy()) - 4
    bce = []
    for b in range(12):
        other = (b + 6) % 12
        for k, p in enumerate(out.value[b].tolist()):
            found = -math.expm1(-places[other] * p)
            bce.append(-math.log(found if present[other, k] else 1.0 - found))
    assert elbo.terms["BCE"].value.item() == pytest.approx(np.mean(bce), rel=1e-3)


def test_the_loss_is_the_likelihood_the_kl_and_the_contrast() -> None:
    trained, config = model(), profile_run()
    x_BF, noise_BL = paired_rows(), torch.randn(12, 5)
    classes_B = torch.tensor([0, 1, 2, 0, 1, 3]).repeat(2)
    elbo = trained.elbo(x_BF, config.loss, beta=0.7, noise_BL=noise_BL, classes_B=classes_B)
    loss, terms = config.loss, elbo.terms
    expected = loss.nats_weight * terms["nats"].value + 0.7 * elbo.kl
    expected = expected + loss.contrast_weight * terms["contrast"].value
    torch.testing.assert_close(elbo.loss, expected)
    # What else is counted is to look at, and teaches nothing.
    assert not any(terms[name].total.requires_grad for name in ("valMSE", "BCE", "mse4", "mse_gc"))
    assert terms["nats"].total.requires_grad
    assert terms["contrast"].total.requires_grad
    latent = trained.inference(x_BF)
    torch.testing.assert_close(
        terms["contrast"].value, contrast(latent.mean, classes_B, loss.temperature).value
    )
    # Without classes every sequence is alike to itself alone.
    alone = trained.elbo(x_BF, config.loss, noise_BL=noise_BL).terms["contrast"]
    wanted = contrast(latent.mean, torch.arange(6).repeat(2), loss.temperature)
    torch.testing.assert_close(alone.value, wanted.value)
    sums = EpochSums(config.loss, 0.7, trained.read_target.n_target, PSEUDOCOUNT)
    sums.update(elbo)
    assert sums.result()["loss"] == pytest.approx(elbo.loss.item(), rel=1e-6)


def test_every_parameter_learns_from_finite_gradients() -> None:
    trained, config = model().train(), profile_run()
    elbo = trained.elbo(paired_rows(), config.loss)
    torch.autograd.backward(elbo.loss)
    for name, parameter in trained.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    weights = ("encoder.discriminant", "encoder.correction", "encoder.log_var")
    for name in (*weights, "decoder.sparse.value_readout.query", "decoder.shared.0"):
        gradient = trained.get_parameter(f"{name}.weight").grad
        assert gradient is not None
        assert gradient.abs().sum() > 0.0, name


def test_errors_may_count_beside_the_likelihood() -> None:
    trained, x_BF = model(), paired_rows()
    changes = {"loss.mse_weight": 2.0, "loss.bce_weight": 0.5, "loss.contrast_weight": 0.0}
    config = profile_run(**changes)
    elbo = trained.elbo(x_BF, config.loss, noise_BL=torch.randn(12, 5))
    part = {name: term.value.item() for name, term in elbo.terms.items()}
    errors = 2.0 * part["valMSE"] + 0.5 * part["BCE"] + part["mse_gc"]
    errors += 2.0 * (part["mse4"] + part["mse3"])
    expected = errors * trained.read_target.n_target / 4 + config.loss.nats_weight * part["nats"]
    assert elbo.reconstruction.item() == pytest.approx(expected, rel=1e-5)
    assert elbo.terms["BCE"].total.requires_grad
    assert "contrast" not in elbo.terms


def test_no_profile_has_no_nats() -> None:
    trained, x_BF = model(), paired_rows()
    out = trained(x_BF)[1]
    linear = Decoded(out.value, out.gate_logit, out.dense, out.gc, "linear", out.floor)
    assert "nats" not in loss_terms(linear, trained.read_target(x_BF), LossConfig())


def test_the_mean_profile_is_what_the_likelihood_has_to_beat() -> None:
    small = profile_run()
    sequences = short_sequences()
    data = profile_rows(sequences).numpy()
    codes = np.arange(len(sequences), dtype=np.int32) % 5
    names = [f"c{i}" for i in range(len(sequences))]
    rows = MemoryStore(data, profile_layout(), codes, [f"{i}.fna" for i in range(5)], names)
    split = split_rows(rows, 0.2, seed=0)
    read_target = KmerVAE(small.model, profile_layout()).read_target
    where = torch.device("cpu")
    scores = scan(rows, split, read_target, where, Processes(), TrainProgress().advance)
    fields = profile_layout().block("5-mers").slice
    frequency = (np.exp(data[:, fields].astype(np.float64)) - PSEUDOCOUNT).clip(0.0)
    profile = frequency[split.train].mean(axis=0).clip(LEAST_FREQUENCY)
    for part, chosen in (("train", split.train), ("validation", split.validation)):
        nats = [-(row * np.log(profile)).sum() for row in frequency[chosen]]
        assert scores[part]["nats_constant"] == pytest.approx(np.mean(nats), rel=1e-6)


# --- the contrast --------------------------------------------------------------------


def naive_contrast(
    latents: list[list[float]], classes: list[int], temperature: float
) -> tuple[float, int]:
    """Sum of the losses of the rows that are not alone, and their number."""
    norms = [math.sqrt(sum(x * x for x in row)) for row in latents]
    unit = [[x / norm for x in row] for row, norm in zip(latents, norms, strict=True)]
    total, n = 0.0, 0
    for i, a in enumerate(unit):
        logits = {
            j: sum(x * y for x, y in zip(a, b, strict=True)) / temperature
            for j, b in enumerate(unit)
            if j != i
        }
        every = sum(math.exp(logit) for logit in logits.values())
        alike = [j for j in logits if classes[j] == classes[i]]
        if alike:
            total -= sum(math.log(math.exp(logits[j]) / every) for j in alike) / len(alike)
            n += 1
    return total, n


@given(
    st.lists(st.integers(0, 3), min_size=2, max_size=9),
    st.floats(0.05, 3.0),
    st.integers(0, 1000),
)
def test_contrast_against_loops(classes: list[int], temperature: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    mean_BL = torch.randn(len(classes), 4, generator=generator, requires_grad=True)
    found = contrast(mean_BL, torch.tensor(classes), temperature)
    total, n = naive_contrast(mean_BL.tolist(), classes, temperature)
    assert found.count.item() == n
    assert found.total.item() == pytest.approx(total, rel=1e-4, abs=1e-4)
    torch.autograd.backward(found.value)
    assert mean_BL.grad is not None
    assert torch.isfinite(mean_BL.grad).all()
    # Directions alone count.
    longer = contrast(3.0 * mean_BL.detach(), torch.tensor(classes), temperature)
    assert longer.total.item() == pytest.approx(total, rel=1e-4, abs=1e-4)


def test_rows_alone_in_their_classes_have_no_contrast() -> None:
    mean_BL = torch.randn(5, 3, requires_grad=True)
    found = contrast(mean_BL, torch.arange(5), 0.1)
    assert (found.total.item(), found.count.item(), found.value.item()) == (0.0, 0.0, 0.0)
    # They are in the way of others all the same.
    classes_B = torch.tensor([0, 0, 1, 2, 3])
    assert contrast(mean_BL, classes_B, 0.1).value > contrast(mean_BL[:3], classes_B[:3], 0.1).value


def test_classes_apart_have_next_to_no_contrast_and_less_of_it_when_cold() -> None:
    apart = torch.tensor([[1.0, 0.0], [1.0, 0.01], [-1.0, 0.0], [-1.0, 0.01]])
    classes_B = torch.tensor([0, 0, 1, 1])
    cold, warm = (contrast(apart, classes_B, t).value.item() for t in (0.1, 1.0))
    assert cold < 1e-6 < warm
    mixed = contrast(apart, torch.tensor([0, 1, 0, 1]), 0.1).value.item()
    assert mixed > 10.0
