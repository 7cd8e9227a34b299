"""Architecture: parameter counts, formulas of every part, configuration."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from kvae import defaults
from kvae.config import DotReadout, ModelConfig, RunConfig, override, parse_config
from kvae.errors import KvaeError
from kvae.layout import Block, Layout
from kvae.model import KmerVAE
from kvae.model.decoder import DenseBranch
from kvae.model.layers import random_row
from kvae.model.readout import DotProduct
from kvae.presets import PRESETS, get_preset
from small import branch_encoder, model_rows, small_model


def branches(*hidden: list[int]) -> list[dict[str, Any]]:
    names = ("7-mers", "4-mers", "3-mers")
    return [{"block": b, "hidden": h} for b, h in zip(names, hidden, strict=True)]


@pytest.fixture
def model(layout: Layout) -> KmerVAE:
    torch.manual_seed(1)
    return KmerVAE(small_model(), layout).eval()


@pytest.mark.parametrize(
    ("preset", "count"),
    [
        ("outline", 94_490_195),
        ("deep", 19_065_099),
        ("slim", 18_725_643),
        ("lowrank", 8_830_475),
        ("dot", 6_954_379),
    ],
)
def test_presets_have_the_parameters_of_the_design(
    full_layout: Layout, preset: str, count: int
) -> None:
    with torch.device("meta"):
        model = KmerVAE.from_preset(preset, layout=full_layout)
    assert model.n_parameters == count
    config = model.config
    assert parse_config(ModelConfig, config.model_dump_json(), "copy") == config


def test_presets_in_the_order_of_the_log() -> None:
    assert list(PRESETS) == ["outline", "deep", "slim", "lowrank", "dot", "kvae"]
    assert defaults.PRESET == "kvae"
    spaces = [preset.model.output_space for preset in PRESETS.values()]
    assert spaces == ["log", "log", "log", "log", "linear", "profile"]
    weights = [preset.loss.bce_weight for preset in PRESETS.values()]
    assert weights == [1.0, 1.0, 1.0, 1.0, 2.0, 0.0]


@pytest.mark.parametrize("preset", ["kvae", "dot", "slim", "lowrank", "deep"])
def test_untrained_decoder_predicts_the_uniform_profile(full_layout: Layout, preset: str) -> None:
    torch.manual_seed(0)
    model = KmerVAE.from_preset(preset, layout=full_layout)
    decoded = model.generative(torch.randn(32, get_preset(preset).model.n_latent))
    log_value = decoded.value if decoded.space == "log" else decoded.value.log()
    assert log_value.mean().item() == pytest.approx(-math.log(8192), abs=0.3)
    assert log_value.std().item() < 1.0
    assert decoded.dense["3-mers"].mean().item() == pytest.approx(-math.log(32), abs=0.3)
    assert decoded.gc.mean().item() == pytest.approx(math.log(0.5), abs=0.3)
    if decoded.gate_logit is not None:
        assert torch.sigmoid(decoded.gate_logit).mean().item() == pytest.approx(0.5, abs=0.1)


def test_dot_product_is_the_sum_over_embedding_dimensions() -> None:
    torch.manual_seed(0)
    block = Block("7-mers", 7, 1, 8)
    module = DotProduct(DotReadout(embedding=64), 5, block, -2.0).double()
    h_BH = torch.randn(3, 5, dtype=torch.float64)
    h, embedding = h_BH.tolist(), module.embedding.tolist()
    weight, bias = module.query.weight.tolist(), module.query.bias.tolist()
    query = [
        [bias[e] + sum(h[b][i] * weight[e][i] for i in range(5)) for e in range(64)]
        for b in range(3)
    ]
    expected = [
        [sum(query[b][e] * embedding[k][e] for e in range(64)) for k in range(7)] for b in range(3)
    ]
    torch.testing.assert_close(
        module(h_BH), torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12
    )
    assert {name for name, _ in module.named_parameters()} == {
        "query.weight",
        "query.bias",
        "embedding",
    }


def test_encoder_branches_see_their_block_gc_and_length(model: KmerVAE, layout: Layout) -> None:
    x_BF = model_rows(layout)
    centred = x_BF - random_row(layout, math.log(1e-6))
    encoder = branch_encoder(model)
    hidden = []
    for name, (start, stop) in {
        "7-mers": (1, 97),
        "4-mers": (97, 117),
        "3-mers": (117, 125),
    }.items():
        own = torch.cat([centred[:, start:stop], centred[:, 125:126], centred[:, :1]], dim=1)
        hidden.append(encoder.branches[name](own))
    h_BH = encoder.shared(torch.cat(hidden, dim=1))
    latent = model.inference(x_BF)
    torch.testing.assert_close(latent.mean, encoder.mean(h_BH))
    torch.testing.assert_close(latent.log_var, encoder.log_var(h_BH))


def test_random_row_is_close_to_a_random_sequence(full_layout: Layout) -> None:
    generator = torch.Generator().manual_seed(0)
    row = random_row(full_layout, math.log(1e-6))
    for block in full_layout.blocks[1:4]:
        draws = torch.randint(block.size, (5000,), generator=generator)
        frequency = draws.bincount(minlength=block.size) / 5000
        features = (frequency + 1e-6).log()
        assert row[block.slice].mean().item() == pytest.approx(features.mean().item(), abs=0.2)
    assert row[0].item() == pytest.approx(math.log(5000))
    assert row[-1].item() == pytest.approx(math.log(0.5))


def test_decoder_output_against_its_formulas(layout: Layout) -> None:
    for space in ("linear", "log"):
        torch.manual_seed(2)
        model = KmerVAE(small_model(output_space=space), layout).eval()
        z_BL = torch.randn(4, 12)
        h_BH = model.decoder.shared(z_BL)
        sparse = model.decoder.sparse
        value_BH = sparse.value(h_BH)
        logit = sparse.value_readout(value_BH)
        assert sparse.gc is not None
        assert sparse.gate is not None
        assert sparse.gate_readout is not None
        gate = torch.sigmoid(sparse.gate_readout(sparse.gate(h_BH)))
        if space == "linear":
            kmers = gate * torch.log1p(torch.exp(logit))
        else:
            kmers = gate * logit + (1.0 - gate) * math.log(1e-6)
        gcs, dense = [sparse.gc(value_BH)], []
        for branch in model.decoder.dense.values():
            assert isinstance(branch, DenseBranch)
            out = branch.output(branch.hidden(h_BH))
            dense.append(out[:, :-1])
            gcs.append(out[:, -1:])
        expected = torch.cat([kmers, *dense, (gcs[0] + gcs[1] + gcs[2]) / 3], dim=1)
        decoded = model.generative(z_BL)
        torch.testing.assert_close(decoded.row(), expected)
        assert decoded.row().shape == (4, layout.n_fields - 1)


def test_sample_has_the_posterior_moments(model: KmerVAE, layout: Layout) -> None:
    latent = model.inference(model_rows(layout, n=1))
    draws = torch.stack([latent.sample() for _ in range(4000)])[:, 0]
    std = (0.5 * latent.log_var[0]).exp()
    assert torch.all((draws.mean(0) - latent.mean[0]).abs() < 5 * std / math.sqrt(4000))
    torch.testing.assert_close(draws.std(0), std, rtol=0.1, atol=0.0)


def test_absurd_rows_keep_the_loss_finite(model: KmerVAE, layout: Layout) -> None:
    elbo = model.elbo(model_rows(layout) * 1e4)
    assert torch.isfinite(elbo.kl)


@pytest.mark.parametrize("shape", [(3, 5), (126,), (2, 3, 126)])
def test_rows_of_another_width_are_refused(model: KmerVAE, shape: tuple[int, ...]) -> None:
    with pytest.raises(KvaeError, match="rows of 126 fields expected"):
        model.inference(torch.zeros(shape))


def test_missing_block_is_named(layout: Layout) -> None:
    config = small_model(**{"encoder.branches": [{"block": "6-mers", "hidden": [4]}]})
    with pytest.raises(KvaeError, match=r"needs the block 6-mers.*7-mers, 4-mers, 3-mers"):
        KmerVAE(config, layout)


def test_blocks_without_a_branch_are_left_out_of_the_output(layout: Layout) -> None:
    config = small_model(**{"decoder.dense": [{"block": "3-mers", "hidden": [4]}]})
    model = KmerVAE(config, layout).eval()
    elbo = model.elbo(model_rows(layout))
    assert elbo.decoded is not None
    assert elbo.decoded.row().shape == (6, 96 + 8 + 1)
    assert model.read_target.n_target == 105
    assert "mse4" not in elbo.terms


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latnet": 3}, "no key 'latnet'; close: latent"),
        ({"latent": 0}, "latent: Input should be greater"),
        ({"latent": 10**12}, "latent: Input should be less"),
        ({"decoder.sparse.readout.kind": "dots"}, "unknown readout kind 'dots'"),
        ({"decoder.nothing.here": 1}, "no key 'decoder.nothing.here'"),
        ({"presence_threshold": float("nan")}, "presence_threshold"),
        ({"encoder.branches": branches([4], [4], [4]) * 2}, "two branches for"),
    ],
)
def test_bad_configuration_is_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(KvaeError, match=message) as caught:
        override(get_preset("dot").model, changes)
    assert "\n" not in str(caught.value)


def test_unknown_preset_lists_the_known_ones(layout: Layout) -> None:
    with pytest.raises(
        KvaeError, match="unknown preset 'dott', known: outline, deep, slim, lowrank, dot"
    ):
        KmerVAE.from_preset("dott", layout=layout)


def test_run_configuration_round_trip() -> None:
    preset = get_preset("dot")
    config = RunConfig(preset="dot", model=preset.model, loss=preset.loss)
    assert parse_config(RunConfig, config.model_dump_json(), "copy") == config
    assert preset.loss.bce_weight == 2.0
    assert preset.model.presence_threshold == 1e-5
