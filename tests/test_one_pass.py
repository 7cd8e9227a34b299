"""The loss in one pass against its definition, operation by operation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import kvae
from hand_made import TINY, hand_made_rows
from kvae import _core
from kvae.config import LossConfig, ModelConfig
from kvae.model import KmerVAE, vae
from kvae.model.decoder import Decoded
from kvae.model.host_pass import HostCriterion, fits_host
from kvae.model.losses import loss_terms
from kvae.model.one_pass import Watch, has_one_pass, pass_over
from kvae.presets import PRESETS, get_preset
from kvae.training.metrics import EpochSums
from short_kmers import profile_layout, profile_rows, profile_run, profile_store, short_sequences
from small import PSEUDOCOUNT, MemoryStore, make_store, small_model, small_run
from training_runs import lines, run

WATCH = Watch({"2e-4": 2e-4}, -10.0)
DESIGNS: dict[str, dict[str, Any]] = {
    "linear": {},
    "log": {"output_space": "log"},
    "linear, no gate": {"decoder.sparse.gate_hidden": None},
    "log, no gate": {"output_space": "log", "decoder.sparse.gate_hidden": None},
    "floor": {"output_space": "log", "log_floor": -10.0},
    "profile": {"output_space": "profile"},
}


@pytest.fixture(params=[0, 1 << 17, 200], ids=["crate", "one piece", "many pieces"])
def _pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvae.model.one_pass._AT_ONCE", 3)
    if request.param:
        monkeypatch.setattr("kvae.model.one_pass._CELLS", request.param)
        monkeypatch.setattr("kvae.model.one_pass.fits_host", lambda *_: False)


def model_and_rows(design: str) -> tuple[KmerVAE, LossConfig, Tensor]:
    torch.manual_seed(1)
    if design == "profile":
        config = profile_run(**{"encoder.noise": 0.0, "encoder.dropout": 0.0})
        x_BF = profile_rows(short_sequences(10))
        return KmerVAE(config.model, profile_layout()), config.loss, x_BF
    store = make_store(TINY, [7, 4])
    model = KmerVAE(small_model(**DESIGNS[design]), store.layout)
    return model, LossConfig(bce_weight=2.0), torch.from_numpy(store.data)


@pytest.mark.usefixtures("_pieces")
@pytest.mark.parametrize("half", [False, True], ids=["float32", "bf16"])
@pytest.mark.parametrize("design", DESIGNS)
def test_loss_gradient_and_metrics_are_those_of_the_long_way(design: str, half: bool) -> None:
    model, loss, x_BF = model_and_rows(design)
    noise_BL = torch.randn(len(x_BF), model.config.n_latent)
    found = []
    for in_one_pass in (False, True):
        sums = EpochSums(loss, 0.5, 11, PSEUDOCOUNT, at_thresholds=True)
        watch = sums.watch if in_one_pass else None
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            elbo = model.elbo(x_BF, loss, noise_BL=noise_BL, watch=watch)
        assert (elbo.decoded is None) == in_one_pass
        model.zero_grad()
        torch.autograd.backward(elbo.loss)
        sums.update(elbo)
        gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        found.append((float(elbo.loss.detach()), gradients, sums.result()))
    (loss_a, gradients_a, metrics_a), (loss_b, gradients_b, metrics_b) = found
    assert loss_b == pytest.approx(loss_a, rel=1e-6)
    # The long way rounds the chance of presence to bf16, too.
    for name, value in metrics_a.items():
        # Of few cells, one on the other side of a threshold is many.
        if not half or "Acc" not in name:
            assert metrics_b[name] == pytest.approx(value, rel=1e-2 if half else 1e-4, abs=1e-9)
    assert gradients_b.keys() == gradients_a.keys()
    a, b = (torch.cat([g.flatten() for g in all_.values()]) for all_ in (gradients_a, gradients_b))
    if half:
        assert float((b - a).norm()) < 0.01 * float(a.norm())
    else:
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-6 * float(a.abs().max()))


@pytest.mark.usefixtures("_pieces")
@pytest.mark.parametrize("design", DESIGNS)
def test_gradients_against_differences(design: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # In training a gradient is used once, and here several times.
    monkeypatch.setattr("kvae.model.one_pass._scaled", lambda gradient, scale: gradient * scale)
    model, _, x_BF = model_and_rows(design)
    model, x_BF = model.double(), x_BF[:4].double()
    generator = torch.Generator().manual_seed(2)
    n = model.read_target.sparse.stop - model.read_target.sparse.start
    shape = (4, n)
    value_BK = torch.randn(shape, generator=generator, dtype=torch.double, requires_grad=True)
    gate_BK = torch.randn(shape, generator=generator, dtype=torch.double, requires_grad=True)
    gates = [] if model.decoder.sparse.gate is None else [gate_BK]

    def learned(value_BK: Tensor, *gate_BK: Tensor) -> tuple[Tensor, ...]:
        gate = gate_BK[0] if gate_BK else None
        shift = 2 if design == "profile" else 0
        totals = pass_over(
            value_BK, gate, x_BF, shift, model.decoder, model.read_target, WATCH
        ).totals
        found = tuple(total for total in totals.values() if total.requires_grad)
        assert len(found) == (2 if gates and design != "profile" else 1)
        return found

    assert torch.autograd.gradcheck(learned, (value_BK, *gates), fast_mode=n > 100)


numbers = st.floats(-150.0, 150.0, width=32)
in_the_crate = pytest.mark.parametrize("in_crate", [True, False], ids=["crate", "torch"])


@contextmanager
def path(in_crate: bool) -> Iterator[None]:
    """Have float32 computed by the crate, as it is on the host, or by torch."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        if not in_crate:
            monkeypatch.setattr("kvae.model.one_pass.fits_host", lambda *_: False)
        yield


@in_the_crate
@settings(max_examples=25)
@given(st.data(), st.sampled_from(["linear", "log"]), st.booleans(), st.integers(1, 3))
def test_extreme_outputs(
    in_crate: bool, data: st.DataObject, space: Any, gated: bool, n_rows: int
) -> None:
    changes: dict[str, Any] = {"output_space": space}
    if not gated:
        changes["decoder.sparse.gate_hidden"] = None
    model = KmerVAE(small_model(**changes), TINY)
    x_BF = hand_made_rows()[:n_rows]

    def drawn() -> Tensor:
        size = n_rows * 5
        found = data.draw(st.lists(numbers, min_size=size, max_size=size))
        return torch.tensor(found).view(n_rows, 5).requires_grad_()

    value_BK, gate_BK = drawn(), drawn() if gated else None
    inputs = [value_BK] if gate_BK is None else [value_BK, gate_BK]
    shown_BK = torch.nn.functional.softplus(value_BK) if space == "linear" else value_BK
    decoded = Decoded(shown_BK, gate_BK, {}, torch.zeros(n_rows, 1), space, model.decoder.floor)
    target = model.read_target(x_BF)
    plain = loss_terms(decoded, target, LossConfig())
    with path(in_crate):
        passed = pass_over(value_BK, gate_BK, x_BF, 0, model.decoder, model.read_target, WATCH)
    names = ["valMSE", "BCE"] if gated else ["mse7"]
    for name in names:
        total = passed.totals[name]
        torch.testing.assert_close(total, plain[name].total, rtol=2e-5, atol=1e-6)
    a = torch.autograd.grad([plain[name].total for name in names], inputs)
    b = torch.autograd.grad([passed.totals[name] for name in names], inputs)
    for one, other in zip(a, b, strict=True):
        torch.testing.assert_close(other, one, rtol=2e-5, atol=1e-6)


@in_the_crate
@settings(max_examples=10)
@given(st.integers(0, 10_000), st.floats(0.1, 20.0))
def test_profiles_of_any_steepness(in_crate: bool, seed: int, scale: float) -> None:
    model, _, x_BF = model_and_rows("profile")
    generator = torch.Generator().manual_seed(seed)
    shape = (len(x_BF), model.read_target.sparse.stop - model.read_target.sparse.start)
    value_BK, gate_BK = (
        (torch.randn(shape, generator=generator) * scale).requires_grad_() for _ in range(2)
    )
    with path(in_crate):
        passed = pass_over(value_BK, gate_BK, x_BF, 5, model.decoder, model.read_target, WATCH)
    u_BK = torch.nn.functional.softplus(value_BK) * torch.sigmoid(gate_BK)
    profile_BK = u_BK / u_BK.sum(dim=1, keepdim=True)
    wanted_BK = model.read_target(x_BF.roll(-5, 0)).frequency
    nats = -(wanted_BK * (profile_BK + 1e-9).log()).sum()
    torch.testing.assert_close(passed.totals["nats"], nats, rtol=1e-5, atol=1e-5)
    inputs = [value_BK, gate_BK]
    a, b = (torch.autograd.grad(total, inputs) for total in (nats, passed.totals["nats"]))
    for one, other in zip(a, b, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-5 * float(one.abs().max()))


@pytest.mark.parametrize("design", ["linear", "profile"])
@pytest.mark.parametrize("learned", ["value", "gate", "neither"])
def test_what_is_not_learned_gets_no_gradient(design: str, learned: str) -> None:
    model, _, x_BF = model_and_rows(design)
    n = model.read_target.sparse.stop - model.read_target.sparse.start
    found = []
    for in_crate in (True, False):
        generator = torch.Generator().manual_seed(3)
        said = {
            name: torch.randn(len(x_BF), n, generator=generator).requires_grad_(name == learned)
            for name in ("value", "gate")
        }
        with path(in_crate):
            passed = pass_over(
                said["value"], said["gate"], x_BF, 1, model.decoder, model.read_target, WATCH
            )
        totals = [total for total in passed.totals.values() if total.requires_grad]
        if totals:
            torch.autograd.backward(torch.stack(totals).sum())
        assert (said["value"].grad is not None) == (learned == "value")
        assert (said["gate"].grad is not None) == (learned == "gate")
        gradient = None if learned == "neither" else said[learned].grad
        found.append((passed, gradient))
    (a, by_a), (b, by_b) = found
    assert a.sums.keys() == b.sums.keys()
    for name, total in b.sums.items():
        torch.testing.assert_close(a.sums[name], total, rtol=1e-4, atol=1e-7)
    if by_a is not None:
        assert by_b is not None
        torch.testing.assert_close(by_a, by_b, rtol=1e-4, atol=1e-6 * float(by_b.abs().max()))


def test_which_rows_the_crate_takes() -> None:
    x_BF, said_BK = torch.zeros(4, 12), torch.zeros(4, 8)
    assert fits_host(x_BF[:, 2:10], said_BK, said_BK)
    assert fits_host(x_BF[:0, 2:10], said_BK[:0], None)
    assert not fits_host(x_BF[:, 2:10].double(), said_BK, None)
    assert not fits_host(x_BF[:, 2:10], said_BK.bfloat16(), None)
    assert not fits_host(x_BF[:, 2:10], said_BK, said_BK.t().contiguous().t())
    assert not fits_host(x_BF[:, 2:10].to("meta"), said_BK.to("meta"), None)


def test_arrays_that_do_not_fit_are_refused() -> None:
    said = np.zeros((3, 8), dtype=np.float32)
    criterion = HostCriterion(1e-6, 1e-4, 1e-4, -np.inf, -13.0, 1e-5, [])
    for x in (said[:2], said[:, :7], np.zeros((8, 3), dtype=np.float32).T):
        with pytest.raises(kvae.KvaeError, match=r"x is not|a row of x is not"):
            _core.errors_of(x, said, None, None, None, True, criterion, 1)
    for gradient in (said[:2].copy(), np.zeros((8, 3), dtype=np.float32).T):
        with pytest.raises(kvae.KvaeError, match="value_gradient"):
            _core.errors_of(said, said.copy(), None, gradient, None, True, criterion, 1)
    locked = said.copy()
    locked.flags.writeable = False
    with pytest.raises(kvae.KvaeError, match="gate_gradient cannot be written"):
        _core.errors_of(said, said.copy(), said.copy(), None, locked, True, criterion, 1)
    with pytest.raises(kvae.KvaeError, match="windows"):
        _core.profiles_of(
            said, said.copy(), said.copy(), said.copy(), said[0, :2].copy(), None, criterion, 1
        )
    cuts = criterion._replace(cuts=[(1.0, 1.0)] * 5)
    with pytest.raises(kvae.KvaeError, match="5 cuts: give at most 4"):
        _core.errors_of(said, said.copy(), None, None, None, True, cuts, 1)


def test_which_designs_go_the_long_way() -> None:
    for name in PRESETS:
        preset = get_preset(name)
        assert has_one_pass(preset.model, preset.loss)
    dot, loss = get_preset("dot").model, get_preset("dot").loss
    for changes in ({"cosine_weight": 1.0}, {"zero_penalty": 1.0}, {"zero_weight": 0.5}):
        assert not has_one_pass(dot, loss.model_copy(update=changes))
    assert not has_one_pass(
        small_model(**{"decoder.dense": [], "decoder.derived": ["4-mers"]}), loss
    )
    profile = get_preset("kvae")
    weighed = profile.loss.model_copy(update={"mse_weight": 1.0})
    assert not has_one_pass(profile.model, weighed)


@pytest.mark.parametrize("design", DESIGNS)
def test_no_rows_have_nothing_to_learn(design: str) -> None:
    model, loss, x_BF = model_and_rows(design)
    noise_BL = torch.empty(0, model.config.n_latent)
    model.eval()
    elbo = model.elbo(x_BF[:0], loss, noise_BL=noise_BL, watch=WATCH, pool=torch.ones_like)
    torch.autograd.backward(elbo.loss)
    assert elbo.loss.item() == 0.0
    assert elbo.sums is not None
    assert all(float(value) == 0.0 for value in elbo.sums.values())


def test_a_gradient_is_given_once() -> None:
    model, loss, x_BF = model_and_rows("linear")
    found = model.elbo(x_BF, loss, watch=WATCH).loss
    torch.autograd.backward(found)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.backward(found)


@pytest.mark.parametrize("profile", [False, True])
def test_a_run_is_the_same_run_within_rounding(
    store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: bool
) -> None:
    rows, config = store, small_run(epochs=4)
    if profile:
        rows, config = profile_store(), profile_run(epochs=4, batch_size=9)
    run(rows, tmp_path / "pass", config=config)

    def never(model: ModelConfig, loss: LossConfig) -> bool:
        return False

    monkeypatch.setattr(vae, "has_one_pass", never)
    run(rows, tmp_path / "long", config=config)
    for a, b in zip(lines(tmp_path / "pass"), lines(tmp_path / "long"), strict=True):
        for part in ("train", "validation"):
            assert b[part] == pytest.approx(a[part], rel=1e-3, abs=1e-6)
            assert b[part]["loss"] == pytest.approx(a[part]["loss"], rel=1e-5)
