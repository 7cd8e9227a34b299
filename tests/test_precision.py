"""Half precision and compiled steps against plain float32."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file

from kvae.config import RunConfig
from kvae.errors import KvaeError
from kvae.layout import Layout
from kvae.model import KmerVAE, vae
from kvae.presets import PRESETS
from kvae.training import compilation, trainer
from kvae.training.checkpoint import restore_scaler, scaler_state
from kvae.training.compilation import CompiledLoss, wants_compilation
from kvae.training.precision import resolve_precision
from kvae.training.processes import Processes
from short_kmers import profile_run, profile_store
from small import MemoryStore, branch_encoder, make_store, model_rows, small_model, small_run
from training_runs import Record, assert_same_run, checkpoint, lines, run

CPU = torch.device("cpu")
SPACES = [{}, {"output_space": "log"}, {"decoder.sparse.gate_hidden": None}]


def losses(folder: Path, part: str) -> list[float]:
    return [record[part]["loss"] for record in lines(folder)]


@pytest.mark.parametrize("changes", SPACES)
def test_bf16_learns_what_fp32_learns(
    store: MemoryStore, tmp_path: Path, changes: dict[str, Any]
) -> None:
    base = small_run(epochs=8)
    config = RunConfig(model=small_model(**changes), loss=base.loss, training=base.training)
    for precision in ("fp32", "bf16"):
        run(store, tmp_path / precision, config=config, precision=precision)
    for part in ("train", "validation"):
        single, half = (losses(tmp_path / name, part) for name in ("fp32", "bf16"))
        assert half == pytest.approx(single, rel=0.01)
        assert half != single
    tensors = checkpoint(tmp_path / "bf16")[0]
    floats = [t for name, t in tensors.items() if t.is_floating_point() and "sums" not in name]
    assert {t.dtype for t in floats} == {torch.float32}
    facts = json.loads((tmp_path / "bf16" / "environment.json").read_text())
    assert facts["precision"] == "bf16"


def test_bf16_learns_what_fp32_learns_with_the_preset_kvae(tmp_path: Path) -> None:
    changes = {"epochs": 8, "batch_size": 9}
    for precision in ("fp32", "bf16"):
        config = profile_run(**changes, precision=precision)
        run(profile_store(), tmp_path / precision, config=config)
    for part in ("train", "validation"):
        single, half = (losses(tmp_path / name, part) for name in ("fp32", "bf16"))
        assert half == pytest.approx(single, rel=0.01)
        assert half != single


@pytest.mark.parametrize("changes", [*SPACES, {"decoder.dense": [], "decoder.derived": []}])
def test_outputs_are_float32_whatever_the_hidden_layers_are(
    layout: Layout, changes: dict[str, Any]
) -> None:
    model = KmerVAE(small_model(**changes), layout)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        latent, decoded = model(model_rows(layout))
        hidden = branch_encoder(model).shared(torch.zeros(2, 32))
    assert hidden.dtype == torch.bfloat16
    outputs = [latent.mean, latent.log_var, decoded.value, decoded.gc, *decoded.dense.values()]
    assert {t.dtype for t in outputs} == {torch.float32}
    assert decoded.kmers().dtype == torch.float32


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_has_its_loss_in_bf16(full_layout: Layout, preset: str) -> None:
    torch.manual_seed(0)
    model = KmerVAE.from_preset(preset, layout=full_layout, latent=16)
    x_BF = torch.from_numpy(make_store(full_layout, [6]).data)
    noise_BL = torch.randn(6, 16)
    single = model.elbo(x_BF, noise_BL=noise_BL).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model.elbo(x_BF, noise_BL=noise_BL).loss
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(single.item(), rel=0.01)


def test_auto_is_what_the_device_has(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_precision("auto", CPU).name == "fp32"
    assert resolve_precision("auto", torch.device("mps")).name == "fp32"
    monkeypatch.setattr(torch.cuda, "device", lambda device: torch.no_grad())
    for native, expected in ((True, "bf16"), (False, "tf32")):
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda including_emulation, native=native: native
        )
        assert resolve_precision("auto", torch.device("cuda", 0)).name == expected


@pytest.mark.parametrize("name", ["tf32", "fp16"])
def test_what_a_cpu_lacks_is_refused(store: MemoryStore, tmp_path: Path, name: str) -> None:
    with pytest.raises(KvaeError, match=rf"precision {name} is not for cpu: .* fp32 or bf16"):
        run(store, tmp_path / "run", precision=name)
    with pytest.raises(KvaeError, match=r"training\.precision: Input should be 'auto', 'fp32'"):
        run(store, tmp_path / "run", precision="double")
    assert not (tmp_path / "run").exists()


def test_products_are_rounded_on_cuda_alone_and_only_meanwhile() -> None:
    def state() -> tuple[str, bool]:
        return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32

    before = state()
    cuda = torch.device("cuda", 0)
    for device, name, expected in (
        (CPU, "fp32", ("highest", False)),
        (cuda, "fp32", ("highest", False)),
        (cuda, "tf32", ("high", True)),
        (cuda, "bf16", ("high", True)),
    ):
        with resolve_precision(name, device).products():
            assert state() == expected
        assert state() == before


def test_the_scale_of_gradients_survives() -> None:
    scaler = torch.amp.GradScaler("cpu")
    scaler.load_state_dict(scaler.state_dict() | {"scale": 512.0, "_growth_tracker": 7})
    other = torch.amp.GradScaler("cpu")
    restore_scaler(other, scaler_state(scaler))
    assert other.state_dict() == scaler.state_dict()
    nothing = torch.amp.GradScaler("cpu", enabled=False)
    assert scaler_state(nothing) is None
    restore_scaler(nothing, scaler_state(scaler))


def test_compilation_is_for_cuda_unless_asked_for() -> None:
    assert wants_compilation(None, torch.device("cuda", 0), Processes())
    assert not wants_compilation(None, CPU, Processes())
    assert wants_compilation(True, CPU, Processes())
    assert not wants_compilation(False, torch.device("cuda", 0), Processes())
    assert not wants_compilation(None, torch.device("cuda", 0), Processes(0, 2))
    with pytest.raises(KvaeError, match="several processes do not compile"):
        wants_compilation(True, CPU, Processes(0, 2))


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile to the same kernels, which takes no compiler and changes no bit."""

    def build(loss_of: Any, model: Any, tell: Any) -> CompiledLoss:
        return CompiledLoss(loss_of, model, tell, "aot_eager")

    monkeypatch.setattr(trainer, "CompiledLoss", build)


@pytest.mark.usefixtures("traced")
def test_a_compiled_run_is_the_same_run(
    store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A compiler has the loss operation by operation, and joins what belongs together.
    monkeypatch.setattr(vae, "has_one_pass", lambda model, loss: False)
    config = small_run(epochs=4)
    warm = config.loss.model_copy(update={"kl_warmup_epochs": 2})
    config = config.model_copy(update={"loss": warm})
    told = Record()
    run(store, tmp_path / "plain", config=config)
    run(store, tmp_path / "compiled", config=config, compile=True, progress=told)
    assert not [line for line in told.messages if "compiled" in line]
    assert_same_run(tmp_path / "plain", tmp_path / "compiled")
    assert not [name for name in checkpoint(tmp_path / "compiled")[0] if "_orig_mod" in name]


class _Loss(NamedTuple):
    loss: torch.Tensor


def test_a_trial_draws_nothing() -> None:
    """So that a run that is resumed, and tries again, draws what it would have drawn."""
    model = torch.nn.Linear(3, 3)
    told: list[str] = []

    def loss_of(x: torch.Tensor) -> _Loss:
        return _Loss(torch.nn.functional.dropout(model(x), 0.5).sum())

    compiled = CompiledLoss(loss_of, model, told.append, "aot_eager")  # type: ignore[arg-type]
    torch.manual_seed(5)
    before = torch.get_rng_state()
    compiled._try(torch.ones(4, 3))
    assert torch.equal(torch.get_rng_state(), before)
    assert not told
    assert compiled._active is compiled._compiled


def test_a_compiler_that_fails_costs_nothing_but_a_line(
    store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no C++ compiler here\nat all")

    def build(*arguments: Any) -> CompiledLoss:
        made = CompiledLoss(*arguments)
        made._compiled = torch.compile(arguments[0], fullgraph=True, backend=broken)
        return made

    told = Record()
    run(store, tmp_path / "plain", epochs=4)
    monkeypatch.setattr(trainer, "CompiledLoss", build)
    run(store, tmp_path / "failed", epochs=4, compile=True, progress=told)
    (line,) = [line for line in told.messages if line.startswith("not compiled")]
    assert "no C++ compiler here" in line
    assert "\n" not in line
    assert_same_run(tmp_path / "plain", tmp_path / "failed")


def test_a_failure_in_the_gradient_is_found_too(store: MemoryStore, tmp_path: Path) -> None:
    model = torch.nn.BatchNorm1d(3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    told: list[str] = []

    class Fails(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("not today")

    class Loss:
        def __init__(self, loss: torch.Tensor) -> None:
            self.loss = loss

    def loss_of(x: torch.Tensor, fails: bool) -> Any:
        out = model(x).square().sum()
        return Loss(Fails.apply(out) if fails else out)

    loss = compilation.CompiledLoss(loss_of, model, told.append)
    loss._compiled = lambda x, fails: loss_of(x, True)
    result = loss(torch.randn(4, 3), False)
    assert told == ["not compiled (RuntimeError: not today): slower, but the same"]
    torch.autograd.backward(result.loss)
    assert int(model.state_dict()["num_batches_tracked"]) == 1
    assert int(before["num_batches_tracked"]) == 0


def test_saved_weights_load_anywhere(store: MemoryStore, tmp_path: Path) -> None:
    run(store, tmp_path / "run", precision="bf16", epochs=1)
    model = KmerVAE.load(tmp_path / "run" / "model.safetensors", layout=store.layout)
    assert load_file(tmp_path / "run" / "model.safetensors").keys() == model.state_dict().keys()
