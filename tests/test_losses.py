"""Losses against loops written from their definitions."""

from __future__ import annotations

import math

import pytest
import torch

from hand_made import (
    FREQUENCY,
    PRESENT,
    Space,
    cells,
    hand_made_latent,
    hand_made_output,
    hand_made_rows,
    loop_parts,
    mean,
    output_of,
    reader,
)
from kvae.config import LossConfig
from kvae.layout import Layout
from kvae.model import KmerVAE
from kvae.model.decoder import Decoded
from kvae.model.losses import loss_terms, negative_elbo, reconstruction_loss
from small import PSEUDOCOUNT, make_store, small_model


def test_presence_and_frequencies_of_hand_made_rows() -> None:
    target = reader()(hand_made_rows())
    assert target.present.tolist() == [
        # 2e-4 itself is not above the threshold, up to float32's rounding of it.
        [False, False, target.present[0, 2].item(), True, True],
        *PRESENT[1:],
    ]
    torch.testing.assert_close(target.frequency, torch.tensor(FREQUENCY), rtol=2e-6, atol=1e-11)
    assert (target.frequency >= 0.0).all()
    any_occurrence = reader(threshold=1e-5)(hand_made_rows())
    assert any_occurrence.present[0].tolist() == [False, True, True, True, True]


@pytest.mark.parametrize("space", ["linear", "log"])
@pytest.mark.parametrize("gated", [True, False])
def test_group_errors_against_loops(space: Space, gated: bool) -> None:
    x, out = hand_made_rows(), hand_made_output(space, gated)
    found = loss_terms(out, reader(space, threshold=2.5e-4)(x), LossConfig())
    expected = loop_parts(x, out, space)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].value.item() == pytest.approx(value, rel=1e-5), name


def cosine(a: list[float], b: list[float]) -> float:
    norms = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
    return 1.0 - sum(x * y for x, y in zip(a, b, strict=True)) / norms


@pytest.mark.parametrize("space", ["linear", "log"])
@pytest.mark.parametrize("gated", [True, False])
def test_optional_terms_against_loops(space: Space, gated: bool) -> None:
    x, out = hand_made_rows(), hand_made_output(space, gated)
    config = LossConfig(cosine_weight=1.5, zero_penalty=2.5, zero_weight=1.0 if gated else 0.1)
    target = reader(space, threshold=2.5e-4)(x)
    terms = loss_terms(out, target, config)
    output = [[output_of(out, space, b, k) for k in range(5)] for b in range(3)]
    wanted = target.value.tolist()
    expected = {"cos7": mean(cosine(output[b], wanted[b]) for b in range(3))}
    for k in (4, 3):
        decoded, rows = out.dense[f"{k}-mers"].tolist(), target.dense[f"{k}-mers"].tolist()
        expected[f"cos{k}"] = mean(cosine(decoded[b], rows[b]) for b in range(3))
    absent = [(b, k) for b, k in cells() if not PRESENT[b][k]]
    expected["excess_absent"] = mean(max(output[b][k] - wanted[b][k], 0.0) ** 2 for b, k in absent)
    if not gated:
        expected["mse7_weighted"] = mean(
            (1.0 if PRESENT[b][k] else 0.1) * (output[b][k] - wanted[b][k]) ** 2 for b, k in cells()
        )
    plain = loss_terms(out, target, LossConfig())
    assert terms.keys() == plain.keys() | expected.keys()
    for name, value in expected.items():
        assert terms[name].value.item() == pytest.approx(value, rel=1e-4, abs=1e-7), name

    found = {name: term.value.item() for name, term in terms.items()}
    l7 = found["valMSE"] + found["BCE"] if gated else found["mse7_weighted"]
    l7 += 1.5 * found["cos7"] + 2.5 * found["excess_absent"]
    dense = sum(found[f"mse{k}"] + 1.5 * found[f"cos{k}"] for k in (4, 3))
    total = (l7 + dense + found["mse_gc"]) * 11 / 4
    assert reconstruction_loss(found, 11, config) == pytest.approx(total)
    # Instead of the squared errors: of all groups but GC, which has no direction.
    instead = LossConfig(cosine_weight=1.5, mse_weight=0.0)
    only = {name: value for name, value in found.items() if name != "excess_absent"}
    l7 = (found["BCE"] if gated else 0.0) + 1.5 * found["cos7"]
    total = (l7 + 1.5 * (found["cos4"] + found["cos3"]) + found["mse_gc"]) * 11 / 4
    assert reconstruction_loss(only, 11, instead) == pytest.approx(total)


def test_zero_penalty_pulls_in_one_direction_only() -> None:
    target = reader("log", threshold=2.5e-4)(hand_made_rows())
    floor = math.log(PSEUDOCOUNT)
    value_BK = torch.full((3, 5), floor, requires_grad=True)
    above = torch.zeros(3, 5, dtype=torch.bool)
    above[1, :2] = True
    out = Decoded(
        torch.where(above, value_BK + 3.0, value_BK - 3.0),
        None,
        {name: log_BK for name, log_BK in target.dense.items()},
        target.gc,
        "log",
        floor,
    )
    excess = loss_terms(out, target, LossConfig(zero_penalty=1.0))["excess_absent"]
    (gradient,) = torch.autograd.grad(excess.total, value_BK)
    assert ((gradient > 0.0) == above).all()
    assert gradient[~above].abs().sum().item() == 0.0


def test_a_cosine_of_nothing_is_finite() -> None:
    a_BK = torch.zeros(2, 3, requires_grad=True)
    target = reader("linear")(hand_made_rows())
    out = hand_made_output("linear", gated=False)
    nothing = Decoded(out.value * 0.0 + a_BK.sum(), None, out.dense, out.gc, "linear", out.floor)
    loss = loss_terms(nothing, target, LossConfig(cosine_weight=1.0))["cos7"].value
    (gradient,) = torch.autograd.grad(loss, a_BK)
    assert loss.item() == pytest.approx(1.0)
    assert torch.isfinite(gradient).all()


def test_reconstruction_is_the_weighted_sum_scaled_to_the_target() -> None:
    parts = {"BCE": 0.5, "valMSE": 0.25, "mse4": 0.125, "mse3": 2.0, "mse_gc": 4.0}
    plain = reconstruction_loss(parts, 8361, LossConfig())
    assert plain == pytest.approx((0.5 + 0.25 + 0.125 + 2.0 + 4.0) * 8361 / 4)
    weighed = reconstruction_loss(parts, 8361, LossConfig(w7=2.0, bce_weight=3.0))
    assert weighed == pytest.approx((2.0 * (3.0 * 0.5 + 0.25) + 6.125) * 8361 / 5)
    ungated = reconstruction_loss({"mse7": 0.25, "valMSE": 9.0, "mse_gc": 4.0}, 10, LossConfig())
    assert ungated == pytest.approx((0.25 + 4.0) * 10 / 2)


def test_kl_agrees_with_torch_distributions() -> None:
    latent = hand_made_latent()
    posterior = torch.distributions.Normal(latent.mean, (0.5 * latent.log_var).exp())
    prior = torch.distributions.Normal(0.0, 1.0)
    expected = torch.distributions.kl_divergence(posterior, prior)
    torch.testing.assert_close(latent.kl(), expected, rtol=1e-5, atol=1e-6)


def test_loss_is_reconstruction_plus_weighted_kl() -> None:
    out, latent = hand_made_output("linear"), hand_made_latent()
    config = LossConfig(bce_weight=2.0)
    target = reader(threshold=2.5e-4)(hand_made_rows())
    elbo = negative_elbo(latent, out, target, 11, config, beta=0.25)
    parts = loop_parts(hand_made_rows(), out, "linear")
    reconstruction = (
        (2.0 * parts["BCE"] + parts["valMSE"] + parts["mse4"] + parts["mse3"] + parts["mse_gc"])
        * 11
        / 4
    )
    kl = latent.kl().sum().item() / 3
    assert elbo.reconstruction.item() == pytest.approx(reconstruction, rel=1e-5)
    assert elbo.kl.item() == pytest.approx(kl, rel=1e-6)
    assert elbo.loss.item() == pytest.approx(reconstruction + 0.25 * kl, rel=1e-5)


def test_rows_without_any_kmer_have_a_finite_loss_and_gradient(layout: Layout) -> None:
    torch.manual_seed(0)
    model = KmerVAE(small_model(), layout)
    x = torch.full((4, layout.n_fields), math.log(PSEUDOCOUNT))
    elbo = model.elbo(x)
    torch.autograd.backward(elbo.loss)
    assert elbo.terms["valMSE"].value.item() == 0.0
    assert torch.isfinite(elbo.loss)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_kl_weight_rises_linearly() -> None:
    config = LossConfig(beta=2.0, kl_warmup_epochs=3)
    assert [config.kl_weight(epoch) for epoch in (1, 2, 3, 4, 9)] == [0.5, 1.0, 1.5, 2.0, 2.0]
    assert LossConfig().kl_weight(1) == 1.0


def test_one_batch_can_be_overfitted(layout: Layout) -> None:
    store = make_store(layout, [4, 4], seed=2)
    x = torch.from_numpy(store.data)
    torch.manual_seed(0)
    model = KmerVAE(small_model(**{"decoder.sparse.readout.embedding": 16}), layout)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    config = LossConfig(bce_weight=2.0, beta=1e-4)
    first = model.elbo(x, config)
    for _ in range(400):
        elbo = model.elbo(x, config)
        optimizer.zero_grad()
        torch.autograd.backward(elbo.loss)
        optimizer.step()
    assert elbo.decoded is not None
    assert elbo.target is not None
    assert elbo.decoded.gate_logit is not None
    hits = (elbo.decoded.gate_logit > 0.0).eq(elbo.target.present)
    present = elbo.target.present
    constant = elbo.target.frequency[present].var().item()
    assert elbo.loss.item() < 0.1 * first.loss.item()
    assert hits.float().mean().item() > 0.98
    assert elbo.terms["valMSE"].value.item() < 0.2 * constant
