"""The encoder of the preset kvae against linear algebra in double precision."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

import reference
from kvae.errors import KvaeError
from kvae.model import KmerVAE
from kvae.model.profile_encoder import ProfileEncoder
from kvae.presets import get_preset
from short_kmers import profile_layout, profile_rows, profile_run, short_sequences
from small import PSEUDOCOUNT, make_layout

Array = NDArray[np.float64]
N_CLASSES, N_EACH = 14, 40
RIDGE = 1e-4


def model(**changes: Any) -> KmerVAE:
    torch.manual_seed(3)
    return KmerVAE(profile_run(**changes).model, profile_layout()).eval()


def encoder_of(model: KmerVAE) -> ProfileEncoder:
    assert isinstance(model.encoder, ProfileEncoder)
    return model.encoder


def class_rows(n_each: int = N_EACH, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Rows of random counts, the profiles of whose classes differ; sizes differ as well."""
    layout = profile_layout()
    rng = np.random.default_rng(seed)
    sizes = [n_each + 3 * i for i in range(N_CLASSES)]
    rows = np.zeros((sum(sizes), layout.n_fields))
    rows[:, 0] = math.log(800)
    for block in layout.blocks:
        if block.k is None:
            continue
        first = 0
        for size in sizes:
            profile = rng.dirichlet(np.full(block.size, 3.0))
            found = rng.multinomial(1200, profile, size=size) / 1200
            rows[first : first + size, block.slice] = np.log(found + PSEUDOCOUNT)
            first += size
    order = rng.permutation(len(rows))
    classes = np.repeat(np.arange(N_CLASSES) * 2, sizes)
    return torch.from_numpy(rows[order]).float(), torch.from_numpy(classes[order])


def inputs(x_NF: Tensor, encoder: ProfileEncoder) -> Array:
    """What is whitened, by the encoder's own axes and centre."""
    layout = profile_layout()
    x = x_NF.double().numpy()
    roots = {
        name: np.sqrt((np.exp(x[:, layout.block(name).slice]) - PSEUDOCOUNT).clip(0.0))
        for name in ("4-mers", "5-mers")
    }
    centre, axes = encoder.centre.double().numpy(), encoder.axes.double().numpy()
    return np.concatenate([roots["4-mers"], (roots["5-mers"] - centre) @ axes], axis=1)


def within(x_NI: Array, classes_N: Array) -> Array:
    """Mean of the covariance matrices of the classes."""
    each = [np.cov(x_NI[classes_N == code].T) for code in np.unique(classes_N)]
    return np.asarray(np.mean(each, axis=0))


@cache
def learned_model() -> KmerVAE:
    """A model that has learned. Not to be changed."""
    trained = model()
    encoder_of(trained).learn(*class_rows())
    return trained


@pytest.fixture(scope="module")
def learned() -> tuple[ProfileEncoder, Array, Array]:
    """An encoder that has learned, its inputs of the rows, and their classes."""
    encoder = encoder_of(model())
    x_NF, classes_N = class_rows()
    encoder.learn(x_NF, classes_N)
    return encoder, inputs(x_NF, encoder), classes_N.numpy()


Learned = tuple[ProfileEncoder, Array, Array]


def test_components_are_those_of_the_largest_variance(learned: Learned) -> None:
    encoder, x_NI, _ = learned
    axes = encoder.axes.double().numpy()
    np.testing.assert_allclose(axes.T @ axes, np.eye(8), atol=1e-4)
    rows = class_rows()[0].double().numpy()[:, profile_layout().block("5-mers").slice]
    root = np.sqrt((np.exp(rows) - PSEUDOCOUNT).clip(0.0))
    np.testing.assert_allclose(encoder.centre.numpy(), root.mean(axis=0), atol=1e-5)
    largest = np.linalg.eigvalsh(np.cov(root.T))[::-1][:8]
    np.testing.assert_allclose(np.cov(x_NI[:, -8:].T).diagonal(), largest, rtol=0.02)


def test_whitened_inputs_vary_alike_within_classes(learned: Learned) -> None:
    encoder, x_NI, classes_N = learned
    covariance = within(x_NI, classes_N)
    whitening = encoder.whitening.double().numpy()
    white = within((x_NI - encoder.mean_input.double().numpy()) @ whitening, classes_N)
    # All that is missing to the identity is the ridge's.
    ridge = RIDGE * covariance.diagonal().mean()
    identity = white + ridge * whitening @ whitening.T
    np.testing.assert_allclose(identity, np.eye(len(white)), atol=2e-3)
    assert np.median(white.diagonal()) > 0.99
    np.testing.assert_allclose(whitening, whitening.T, atol=1e-3 * whitening.max())
    # Every class counts alike for the mean, whatever its size.
    means = [x_NI[classes_N == code].mean(axis=0) for code in np.unique(classes_N)]
    np.testing.assert_allclose(encoder.mean_input.numpy(), np.mean(means, axis=0), atol=1e-5)


def test_the_map_is_that_of_linear_discriminant_analysis(learned: Learned) -> None:
    encoder, x_NI, classes_N = learned
    covariance = within(x_NI, classes_N)
    covariance += RIDGE * covariance.diagonal().mean() * np.eye(len(covariance))
    means = np.array([x_NI[classes_N == code].mean(axis=0) for code in np.unique(classes_N)])
    values, vectors = scipy.linalg.eigh(np.cov(means.T, bias=True), covariance)
    best, between = vectors[:, ::-1][:, :5], values[::-1][:5]
    weight = encoder.discriminant.weight.detach().double().numpy()
    found = encoder.whitening.double().numpy() @ weight.T
    angles = scipy.linalg.subspace_angles(found, best)
    assert angles.max() < 0.01, angles
    # One by one, the most separating first, and scaled down by how much it separates.
    scale = np.sqrt(np.diag(found.T @ covariance @ found))
    shown = found / scale
    np.testing.assert_allclose(shown.T @ covariance @ shown, np.eye(5), atol=5e-3)
    aligned = np.abs(np.diag(shown.T @ covariance @ best))
    np.testing.assert_allclose(aligned, 1.0, atol=0.01)
    wanted = (np.maximum(between, 1.0) / between[0]) ** -0.25
    np.testing.assert_allclose(scale / scale[0], wanted, rtol=5e-3)
    # All in all rows vary as much as they would without it.
    assert np.sum(scale**2 * (between + 1)) == pytest.approx(np.sum(between + 1), rel=5e-3)


def test_classes_that_the_map_has_learned_are_apart(learned: Learned) -> None:
    trained = model()
    x_NF, classes_N = class_rows()
    before = trained.inference(x_NF).mean.detach()
    torch.manual_seed(0)
    encoder_of(trained).learn(x_NF, classes_N)
    after = trained.inference(x_NF).mean.detach()
    codes = classes_N.numpy()

    def spread(mean_BL: Tensor) -> float:
        inside = np.trace(within(mean_BL.double().numpy(), codes))
        return float(mean_BL.var(dim=0).sum().item() / inside)

    assert spread(after) > 2.0 * spread(before)


def test_means_lie_on_a_sphere() -> None:
    for trained in (model(), model(latent=17)):
        encoder_of(trained).learn(*class_rows())
        latent = trained.inference(profile_rows(short_sequences()))
        n = trained.config.n_latent
        torch.testing.assert_close(latent.mean.norm(dim=1), torch.full((24,), math.sqrt(n)))
        assert latent.mean.shape == latent.log_var.shape == (24, n)


DNA = st.text(alphabet="ACGT", min_size=5, max_size=300) | st.text(
    alphabet="ACGTN", min_size=40, max_size=300
)


@given(DNA)
def test_both_strands_have_the_same_latent(sequence: str) -> None:
    strands = [sequence, reference.reverse_complement(sequence)]
    one, other = (learned_model().inference(profile_rows([strand])) for strand in strands)
    assert torch.equal(one.mean, other.mean)
    assert torch.equal(one.log_var, other.log_var)
    assert torch.isfinite(one.mean).all()


# --- odd rows to learn from ----------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 6])
def test_fewer_rows_than_components(n: int) -> None:
    trained = model()
    encoder = encoder_of(trained)
    x_NF, _ = class_rows()
    encoder.learn(x_NF[:n], torch.arange(n) // 2)
    # Rows about their mean span a dimension less; what is not found is nothing.
    assert (encoder.axes[:, n:] == 0.0).all()
    latent = trained.inference(x_NF)
    assert torch.isfinite(latent.mean).all()
    torch.testing.assert_close(latent.mean.norm(dim=1), torch.full((len(x_NF),), math.sqrt(5)))


def test_columns_that_never_vary_are_no_matter() -> None:
    x_NF, classes_N = class_rows()
    four = profile_layout().block("4-mers").start
    five = profile_layout().block("5-mers").start
    x_NF[:, four : four + 10] = math.log(0.01 + PSEUDOCOUNT)
    x_NF[:, five : five + 10] = math.log(PSEUDOCOUNT)
    trained = model()
    encoder_of(trained).learn(x_NF, classes_N)
    for tensor in (encoder_of(trained).whitening, trained.inference(x_NF).mean):
        assert torch.isfinite(tensor).all()


def test_more_units_than_inputs_leave_some_to_the_correction() -> None:
    trained = model(**{"latent": 160})
    encoder = encoder_of(trained)
    encoder.learn(*class_rows())
    n_inputs = 136 + 8
    assert (encoder.discriminant.weight[n_inputs:] == 0.0).all()
    assert (encoder.discriminant.weight[:n_inputs].norm(dim=1) > 0.2).all()


def test_learning_leaves_no_gradients_and_changes_no_hidden_layer() -> None:
    trained = model()
    before = {name: t.clone() for name, t in trained.state_dict().items()}
    encoder_of(trained).learn(*class_rows())
    changed = {name for name, t in trained.state_dict().items() if not t.equal(before[name])}
    names = ("centre", "axes", "mean_input", "whitening", "discriminant.weight")
    assert changed == {f"encoder.{name}" for name in names}
    assert all(parameter.requires_grad for parameter in trained.parameters())


# --- noise ---------------------------------------------------------------------------


def test_noise_and_dropout_are_those_of_training() -> None:
    quiet = {"encoder.noise": 0.0, "encoder.dropout": 0.0}
    x_BF = profile_rows(short_sequences())
    trained = model(**{"encoder.noise": 0.5, "encoder.dropout": 0.0})
    assert torch.equal(trained.inference(x_BF).mean, model(**quiet).inference(x_BF).mean)
    seen: list[Tensor] = []
    encoder = encoder_of(trained)
    encoder.noise.register_forward_hook(lambda _, args, out: seen.append(out - args[0]))
    trained.train().inference(x_BF.repeat(40, 1))
    assert seen[0].std().item() == pytest.approx(0.5, rel=0.02)
    dropped = model(**quiet | {"encoder.dropout": 0.5})
    assert not torch.equal(
        dropped.train().inference(x_BF).mean, trained.eval().inference(x_BF).mean
    )


def test_a_share_of_the_correction_counts_in_use_and_all_of_it_in_training() -> None:
    quiet = {"encoder.noise": 0.0, "encoder.dropout": 0.0, "encoder.share": 0.25}
    trained = model(**quiet)
    encoder = encoder_of(trained)
    encoder.learn(*class_rows())
    x_BF = profile_rows(short_sequences())
    seen: list[Tensor] = []
    encoder.correction.register_forward_hook(lambda *args: seen.append(args[2].detach()))
    fields = inputs(x_BF, encoder) - encoder.mean_input.double().numpy()
    white = fields @ encoder.whitening.double().numpy()
    mapped = white @ encoder.discriminant.weight.detach().double().numpy().T
    for share, in_training in ((0.25, False), (1.0, True)):
        found = trained.train(in_training).inference(x_BF).mean.detach().numpy()
        total = mapped + share * seen[-1].double().numpy()
        expected = total / np.linalg.norm(total, axis=1, keepdims=True) * math.sqrt(5)
        np.testing.assert_allclose(found, expected, atol=1e-3)


# --- files ---------------------------------------------------------------------------


def test_what_was_learned_is_in_the_file(tmp_path: Path) -> None:
    trained = learned_model()
    path = tmp_path / "model.safetensors"
    trained.save(path)
    loaded = KmerVAE.load(path, layout=profile_layout())
    assert loaded.config == trained.config
    x_BF = profile_rows(short_sequences())
    assert torch.equal(loaded.inference(x_BF).mean, trained.inference(x_BF).mean)
    for name, tensor in trained.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


def test_a_file_of_half_the_size_is_computed_with_in_single_precision(tmp_path: Path) -> None:
    trained = learned_model()
    path, half = tmp_path / "model.safetensors", tmp_path / "half.safetensors"
    trained.save(path)
    with safe_open(path, framework="pt") as file:
        header = {key: text for key, text in file.metadata().items() if key != "crc32"}
    tensors = {
        name: t.half() if t.is_floating_point() else t for name, t in load_file(path).items()
    }
    save_file(tensors, half, metadata=header)
    loaded = KmerVAE.load(half, layout=profile_layout())
    for name, tensor in loaded.state_dict().items():
        if tensor.is_floating_point():
            assert tensor.dtype == torch.float32
        assert torch.equal(tensor, tensors[name].to(tensor.dtype)), name
    x_BF = profile_rows(short_sequences())
    near = torch.nn.functional.cosine_similarity(
        loaded.inference(x_BF).mean, trained.inference(x_BF).mean
    )
    assert near.min() > 0.99
    name = "encoder.whitening"
    tensors[name] = torch.full_like(tensors[name], math.inf)
    save_file(tensors, half, metadata=header)
    with pytest.raises(KvaeError, match=r"encoder\.whitening has values that are not finite"):
        KmerVAE.load(half, layout=profile_layout())


# --- its size ------------------------------------------------------------------------


def test_the_preset_has_the_parameters_of_its_parts() -> None:
    layout = make_layout(8192, 136, 32)
    config = get_preset("kvae").model
    with torch.device("meta"):
        encoder = encoder_of(KmerVAE(config, layout))
    settings = config.encoder.model_dump()
    n_components, hidden = settings["components"], settings["hidden"]
    n_in = 136 + n_components
    expected = 8192 + 8192 * n_components + n_in + n_in * n_in
    expected += n_in * config.n_latent
    for a, b in zip((n_in, *hidden), hidden, strict=False):
        expected += a * b + b + 2 * b
    expected += 2 * (hidden[-1] + 1) * config.n_latent
    assert sum(t.numel() for t in encoder.state_dict().values()) == expected
