"""Every option of a model and its loss, alone and with every other."""

from __future__ import annotations

import math
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import reference
from kvae.config import AutoencoderConfig, ConvReadout, RunConfig
from kvae.errors import KvaeError
from kvae.layout import Layout
from kvae.model import KmerVAE
from kvae.model.autoencoder import KmerAutoencoder, save_autoencoder
from kvae.model.derive import shares
from kvae.model.layers import SkipStack
from kvae.model.readout import Grouped, Pretrained, Upsampling
from kvae.training.metrics import EpochSums
from kvae.training.options import configure
from kvae.training.trainer import parameter_groups
from short_kmers import short_layout, short_rows, short_run, short_sequences
from small import branch_encoder

PARTS = {
    "parts": [{"block": "5-mers", "units": 4}, {"block": "4-mers", "units": 3}],
    "shared": 2,
}
PRETRAINED = {"kind": "pretrained", "code": 6, "weights": "kmers.safetensors"}

OPTIONS: dict[str, dict[str, Any]] = {
    "dense": {"readout": "dense"},
    "lowrank": {"readout": {"kind": "lowrank", "rank": 3}},
    "grouped": {"readout": {"kind": "grouped", "groups": 8, "width": 3}},
    "conv": {"readout": {"kind": "conv", "channels": [3, 2]}},
    "pretrained": {"readout": PRETRAINED, "gate_readout": "dense"},
    "pretrained alone": {"readout": PRETRAINED, "gate_hidden": None},
    "no gate": {"gate_hidden": None},
    "gate readout": {"gate_readout": {"kind": "lowrank", "rank": 2}},
    "skip": {"encoder.branches.5-mers.skip": True},
    "input dropout": {"input_dropout": 0.2},
    "hierarchical": {"latent": PARTS},
    "latent": {"latent": 3},
    "derived": {"decoder.dense": [], "decoder.derived": ["4-mers", "3-mers"]},
    "deeper": {"value_hidden": [6, 8, 12]},
    "more blocks": {"encoder.branches.2-mers.hidden": [4]},
    "cosine": {"cosine_weight": 2.0},
    "cosine instead": {"cosine_weight": 2.0, "mse_weight": 0.0},
    "zero weight": {"gate_hidden": None, "zero_weight": 0.1},
    "zero penalty": {"zero_penalty": 3.0},
    "log floor": {"log_floor": -10.0, "presence_threshold": 1e-4},
    "BCE weight": {"bce_weight": 3.0},
    "threshold": {"presence_threshold": 3e-3},
    "w7": {"w7": 2.0},
    "beta": {"beta": 4.0, "kl_warmup_epochs": 3},
}
# What cannot be combined, and the sentence that says so.
REFUSED = {
    ("no gate", "gate readout"): "gate_readout is the last layer of a gate, but there is none",
    ("no gate", "pretrained"): "gate_readout is the last layer of a gate, but there is none",
    ("zero weight", "gate readout"): "gate_readout is the last layer of a gate",
    ("zero weight", "pretrained"): "gate_readout is the last layer of a gate",
    ("pretrained", "pretrained alone"): "gate_readout is the last layer of a gate",
    ("pretrained alone", "gate readout"): "gate_readout is the last layer of a gate",
    ("derived", "hierarchical"): "part for 4-mers, but the decoder has no branch to see it",
}


def refusal(a: str, b: str) -> str | None:
    return REFUSED.get((a, b)) or REFUSED.get((b, a))


def is_possible(a: str, b: str) -> bool:
    """Whether two options do not set the same key to different values."""
    first, second = OPTIONS[a], OPTIONS[b]
    return all(first[key] == second[key] for key in first.keys() & second.keys())


PAIRS = [pair for pair in combinations(OPTIONS, 2) if is_possible(*pair)]


@pytest.fixture(scope="module", autouse=True)
def _pretrained_file(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A file of an autoencoder in the working directory."""
    folder = tmp_path_factory.mktemp("pretrained")
    torch.manual_seed(3)
    model = KmerAutoencoder(AutoencoderConfig(block="5-mers", code=6), short_layout())
    save_autoencoder(model.state_dict(), model, folder / "kmers.safetensors", {})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


def build(config: RunConfig, seed: int = 0) -> KmerVAE:
    torch.manual_seed(seed)
    model = KmerVAE(config.model, short_layout())
    model.initialise()
    return model


def step(config: RunConfig) -> KmerVAE:
    """One optimizer step; everything finite, every parameter moved by the loss."""
    model = build(config)
    optimizer = torch.optim.AdamW(parameter_groups(model, config.training), lr=1e-3)
    elbo = model.elbo(short_rows(), config.loss, beta=config.loss.kl_weight(1))
    torch.autograd.backward(elbo.loss)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    optimizer.step()
    sums = EpochSums(
        config.loss, config.loss.beta, model.read_target.n_target, 1e-6, at_thresholds=True
    )
    after = model.elbo(short_rows(), config.loss)
    sums.update(after)
    assert all(math.isfinite(value) for value in sums.result().values())
    assert sums.result()["loss"] == pytest.approx(after.loss.item(), rel=1e-4)
    return model


def outcome(changes: dict[str, Any]) -> str | None:
    """Take a step; the sentence that refuses it, None where it is taken."""
    try:
        step(short_run(**changes))
    except KvaeError as error:
        return str(error)
    return None


@pytest.mark.parametrize("space", ["linear", "log"])
@pytest.mark.parametrize("option", list(OPTIONS))
def test_every_option_trains_and_is_stored(option: str, space: str, tmp_path: Path) -> None:
    changes = {"output_space": space} | OPTIONS[option]
    model = step(short_run(**changes))
    model.eval().save(tmp_path / "model.safetensors")
    loaded = KmerVAE.load(tmp_path / "model.safetensors", layout=short_layout())
    z_BL = torch.randn(4, model.config.n_latent)
    torch.testing.assert_close(loaded.generative(z_BL).row(), model.generative(z_BL).row())
    x_BF = short_rows()
    torch.testing.assert_close(loaded.inference(x_BF).mean, model.inference(x_BF).mean)


@pytest.mark.parametrize("space", ["linear", "log"])
def test_every_pair_of_options_takes_a_step_or_is_refused(space: str) -> None:
    for pair in PAIRS:
        changes: dict[str, Any] = {"output_space": space}
        for option in pair:
            changes |= OPTIONS[option]
        sentence = refusal(*pair)
        # A floor and what is frozen disagree in log space only, see below.
        if space == "log" and "log floor" in pair and any("pretrained" in name for name in pair):
            sentence = "is frozen: leave log_floor out"
        found = outcome(changes)
        assert (found is None) == (sentence is None), f"{pair}: {found}"
        assert sentence is None or sentence in str(found), pair


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"readout": "pretrained"}, "writes log frequencies, not the logits of a gate"),
        ({"gate_readout": "pretrained"}, "writes log frequencies, not the logits of a gate"),
        ({"zero_weight": 0.1}, "the values of absent 7-mers have no error"),
        ({"mse_weight": 0.0}, "nothing tells the k-mers what to be"),
        ({"encoder.branches.4-mers.skip": True}, "but there is only one"),
        ({"decoder.derived": ["4-mers"]}, "two branches for 4-mers, one of its own and a derived"),
        (
            {"output_space": "log", "gate_hidden": None, "log_floor": -10.0},
            "would count as present at a presence_threshold of 1e-05",
        ),
        ({"latent": {"parts": [{"block": "2-mers", "units": 3}]}}, "the encoder has no branch"),
        (
            {
                "encoder.branches.2-mers.hidden": [4],
                "latent": {"parts": [{"block": "2-mers", "units": 3}]},
            },
            "the decoder has no branch to see it",
        ),
        ({"latent": {"parts": PARTS["parts"] * 2}}, "the latent has two parts for 4-mers, 5-mers"),  # type: ignore[operator]
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(KvaeError) as caught:
        short_run(**changes)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"readout": {"kind": "grouped", "groups": 7}}, "cannot be divided into 7 equal groups"),
        ({"readout": {"kind": "conv", "channels": [2] * 6}}, "can double its image 5 times"),
        ({"decoder.derived": ["5-mers"], "decoder.sparse.block": "4-mers"}, "they are longer"),
        ({"encoder.branches.6-mers.hidden": [4]}, "needs the block 6-mers, the features have"),
    ],
)
def test_what_the_features_do_not_allow_is_refused(changes: dict[str, Any], sentence: str) -> None:
    config = short_run(**({"decoder.dense": []} | changes))
    with pytest.raises(KvaeError) as caught:
        KmerVAE(config.model, short_layout())
    assert sentence in str(caught.value)


def reach(output: Tensor, inputs: Tensor) -> Tensor:
    """Which inputs (columns) an output depends on."""
    (gradient,) = torch.autograd.grad(output.sum(), inputs, retain_graph=True)
    return gradient.abs().sum(dim=0) > 0.0


def test_skip_adds_the_first_hidden_layer_to_the_last() -> None:
    model = build(short_run(**OPTIONS["skip"])).eval()
    branch = branch_encoder(model).branches["5-mers"]
    assert isinstance(branch, SkipStack)
    x = torch.randn(3, 514)
    first = branch.first(x)
    out = branch(x)
    for b in range(3):
        for h in range(8):
            shortcut = branch.skip.bias[h] + sum(
                branch.skip.weight[h, i] * first[b, i] for i in range(12)
            )
            torch.testing.assert_close(out[b, h], branch.rest(first)[b, h] + shortcut)
    assert not isinstance(branch_encoder(build(short_run())).branches["5-mers"], SkipStack)


def test_input_dropout_hides_a_share_of_the_inputs_in_training_only() -> None:
    model = build(short_run(input_dropout=0.25))
    x_BF = short_rows()
    seen: dict[str, Tensor] = {}
    encoder = branch_encoder(model)
    for name, branch in encoder.branches.items():
        assert isinstance(branch, nn.Sequential)
        branch[0].register_forward_pre_hook(lambda _, args, name=name: seen.update({name: args[0]}))
    model.inference(x_BF)
    centred = x_BF - encoder.reference
    own = centred[:, short_layout().block("5-mers").slice]
    kept = seen["5-mers"][:, :512] != 0.0
    torch.testing.assert_close(seen["5-mers"][:, :512], torch.where(kept, own / 0.75, 0.0))
    assert kept.float().mean().item() == pytest.approx(0.75, abs=0.02)
    # GC and length are the same inputs in every branch, hidden in all or in none.
    assert torch.equal(seen["5-mers"][:, -2:], seen["3-mers"][:, -2:])
    mean_BL = build(short_run(input_dropout=0.25)).eval().inference(x_BF).mean
    assert torch.equal(mean_BL, build(short_run()).eval().inference(x_BF).mean)


def test_parts_of_the_latent_belong_to_their_blocks() -> None:
    config = short_run(latent=PARTS)
    assert config.model.n_latent == 9
    model = build(config).eval()
    x_BF = short_rows()[:5].clone().requires_grad_()
    latent = model.inference(x_BF)
    assert latent.mean.shape == latent.log_var.shape == (5, 9)
    fields = {block.name: block.slice for block in short_layout().blocks}
    for column, own in ((slice(0, 4), "5-mers"), (slice(4, 7), "4-mers")):
        for moments in (latent.mean, latent.log_var):
            seen = reach(moments[:, column], x_BF)
            for name in ("5-mers", "4-mers", "3-mers"):
                assert seen[fields[name]].any().item() == (name == own)
            assert seen[fields["gc"]].all()
    shared = reach(latent.mean[:, 7:], x_BF)
    assert all(shared[fields[name]].any() for name in ("5-mers", "4-mers", "3-mers"))

    z_BL = torch.randn(5, 9, requires_grad=True)
    decoded = model.generative(z_BL)
    assert reach(decoded.value, z_BL).tolist() == [True] * 4 + [False] * 3 + [True] * 2
    assert decoded.gate_logit is not None
    assert reach(decoded.gate_logit, z_BL).tolist() == [True] * 4 + [False] * 3 + [True] * 2
    assert reach(decoded.dense["4-mers"], z_BL).tolist() == [False] * 4 + [True] * 5
    assert reach(decoded.dense["3-mers"], z_BL).tolist() == [False] * 7 + [True] * 2


def test_the_logs_hierarchical_latent_by_its_name() -> None:
    model = configure("dot", changes={"latent": "hierarchical"}).model
    assert model.latent_parts == {"7-mers": 128, "4-mers": 64, "3-mers": 32}
    assert (model.shared_latent, model.n_latent) == (32, 256)
    assert KmerVAE.from_preset("dot", latent=64).config.n_latent == 64


@pytest.mark.parametrize("space", ["linear", "log"])
def test_derived_kmers_are_sums_of_the_decoded_ones(space: str) -> None:
    model = build(short_run(output_space=space, **OPTIONS["derived"])).eval()
    decoded = model.generative(torch.randn(2, 7))
    assert list(decoded.dense) == ["4-mers", "3-mers"]
    # The only prediction of GC left is the sparse branch's.
    trunk = model.decoder.shared(torch.zeros(2, 7))
    assert model.decoder.sparse.gc is not None
    assert model.generative(torch.zeros(2, 7)).gc.equal(
        model.decoder.sparse.gc(model.decoder.sparse.value(trunk))
    )
    out = decoded.kmers().tolist()
    for k in (4, 3):
        columns = {kmer: i for i, kmer in enumerate(reference.columns(k))}
        for b in range(2):
            sums = [0.0] * len(columns)
            for kmer, value in zip(reference.columns(5), out[b], strict=True):
                frequency = value if space == "linear" else max(math.exp(value) - 1e-6, 0.0)
                for start in range(6 - k):
                    part = reference.canonical(kmer[start : start + k])
                    sums[columns[part]] += frequency / (6 - k)
            expected = torch.tensor([math.log(total + 1e-6) for total in sums])
            torch.testing.assert_close(decoded.dense[f"{k}-mers"][b], expected)


def test_derived_counts_miss_what_the_ends_of_a_sequence_miss() -> None:
    for sequence in short_sequences(4):
        long = torch.tensor(reference.count_all(sequence, 5), dtype=torch.float64)
        for k in (4, 3):
            n = 6 - k
            derived = n * (long @ shares(5, k).double())
            expected = torch.tensor(reference.count_all(sequence, k), dtype=torch.float64) * n
            column = {kmer: i for i, kmer in enumerate(reference.columns(k))}
            for i in range(n - 1):
                # The ith k-mer from either end lies in i + 1 of the n windows.
                for start in (i, len(sequence) - k - i):
                    kmer = reference.canonical(sequence[start : start + k])
                    expected[column[kmer]] -= n - 1 - i
            torch.testing.assert_close(derived, expected)


def test_groups_see_their_own_numbers_only() -> None:
    model = build(short_run(**OPTIONS["grouped"])).eval()
    readout = model.decoder.sparse.value_readout
    assert isinstance(readout, Grouped)
    h_BH = torch.randn(3, 8)
    out = readout(h_BH)
    weight, bias = readout.groups.weight, readout.groups.bias
    for b, g, m in ((0, 0, 0), (1, 3, 5), (2, 7, 63)):
        code = [
            bias[3 * g + w] + sum(weight[3 * g + w, i] * h_BH[b, i] for i in range(8))
            for w in range(3)
        ]
        expected = readout.bias[64 * g + m] + sum(
            code[w] * readout.weight[g, w, m] for w in range(3)
        )
        torch.testing.assert_close(out[b, 64 * g + m], expected)


def test_convolutions_draw_kmers_by_their_bases() -> None:
    torch.manual_seed(0)
    block = Layout.from_ks((2,)).block("2-mers")
    readout = Upsampling(ConvReadout(channels=(2,), negative_slope=0.5), 3, block, -1.5)
    h_BH = torch.randn(2, 3)
    out = readout(h_BH)
    layer = readout.upsample[1]
    assert isinstance(layer, nn.ConvTranspose2d)
    assert layer.bias is not None
    for b in range(2):
        seed = readout.seed(h_BH)[b].view(2, 2, 2)
        image = torch.full((4, 4), layer.bias.item())
        for c in range(2):
            for row in range(2):
                for column in range(2):
                    value = seed[c, row, column].item()
                    value *= 1.0 if value > 0.0 else 0.5
                    for i in range(4):
                        for j in range(4):
                            y, x = 2 * row - 1 + i, 2 * column - 1 + j
                            if 0 <= y < 4 and 0 <= x < 4:
                                image[y, x] += value * layer.weight[c, 0, i, j].item()

        def pixel(kmer: str, image: Tensor = image) -> float:
            digits = [("AC", "GT"), ("AG", "CT")]
            row, column = (
                int("".join(str(int(base in ones)) for base in kmer), 2) for _, ones in digits
            )
            return float(image[row, column])

        for i, kmer in enumerate(reference.columns(2)):
            both = pixel(kmer) + pixel(reference.reverse_complement(kmer))
            assert out[b, i].item() == pytest.approx(both / 2 - 1.5, abs=1e-5)


def test_a_pretrained_readout_is_frozen_and_needs_its_file_once(tmp_path: Path) -> None:
    frozen = load_file("kmers.safetensors")
    model = step(short_run(**OPTIONS["pretrained"]))
    readout = model.decoder.sparse.value_readout
    assert isinstance(readout, Pretrained)
    assert torch.equal(readout.weight, frozen["expand.weight"])
    assert torch.equal(readout.bias, frozen["expand.bias"])
    assert {name for name, _ in readout.named_parameters()} == {"code.weight", "code.bias"}
    h_BH = torch.randn(2, 8)
    code = readout.code(h_BH)
    expected = frozen["expand.bias"] + code @ frozen["expand.weight"].T
    torch.testing.assert_close(readout(h_BH), expected)
    model.save(tmp_path / "model.safetensors")
    stored = load_file(tmp_path / "model.safetensors")
    name = "decoder.sparse.value_readout.weight"
    assert torch.equal(stored[name], frozen["expand.weight"])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"readout.weights": None}, "needs a file of kvae pretrain"),
        ({"readout.weights": "missing.safetensors"}, "missing.safetensors: no such file"),
        ({"readout.code": 5}, "codes of 6 numbers, but decoder.sparse.readout.code is 5"),
    ],
)
def test_a_pretrained_file_that_does_not_fit(changes: dict[str, Any], sentence: str) -> None:
    config = short_run(**OPTIONS["pretrained"], **changes)
    with pytest.raises(KvaeError, match=sentence):
        KmerVAE(config.model, short_layout()).initialise()


def test_more_blocks_are_seen_by_the_encoder_and_not_decoded() -> None:
    model = build(short_run(**OPTIONS["more blocks"])).eval()
    x_BF = short_rows()[:3].clone().requires_grad_()
    part = short_layout().block("2-mers").slice
    assert reach(model.inference(x_BF).mean, x_BF)[part].all()
    assert not reach(build(short_run()).eval().inference(x_BF).mean, x_BF)[part].any()
    decoded = model.generative(torch.randn(3, 7))
    assert decoded.row().shape[1] == 512 + 136 + 32 + 1
    assert model.read_target.n_target == 681


def test_five_and_six_mers_make_10954_inputs() -> None:
    layout = Layout.from_ks((7, 6, 5, 4, 3))
    assert layout.n_fields == 10_954
    config = configure(
        "dot",
        changes={
            "encoder.branches.6-mers.hidden": [256, 128],
            "encoder.branches.5-mers.hidden": [128, 64],
        },
    )
    with torch.device("meta"):
        model = KmerVAE(config.model, layout)
    six = branch_encoder(model).branches["6-mers"]
    assert isinstance(six, nn.Sequential)
    assert six[0].in_features == 2080 + 2
    assert model.read_target.n_target == 8361


def test_a_log_floor_holds_for_inputs_targets_and_absent_kmers() -> None:
    config = short_run(log_floor=-9.0, output_space="log")
    model = build(config).eval()
    x_BF = short_rows()
    clipped = x_BF.clamp(min=-9.0)
    assert not torch.equal(clipped, x_BF)
    torch.testing.assert_close(model.inference(x_BF).mean, model.inference(clipped).mean)
    target = model.read_target(x_BF)
    assert target.value.min().item() == -9.0
    plain = build(short_run(output_space="log")).read_target(x_BF)
    assert torch.equal(target.present, plain.present)
    decoded = model.generative(torch.randn(3, 7))
    assert decoded.gate_logit is not None
    gate = torch.sigmoid(decoded.gate_logit)
    torch.testing.assert_close(decoded.kmers(), gate * decoded.value - 9.0 * (1.0 - gate))


def test_a_deeper_decoder_is_a_list_of_widths() -> None:
    config = configure("slim", changes={"value_hidden": [256, 512, 1024, 2048]})
    with torch.device("meta"):
        model = KmerVAE.from_preset("slim", decoder=config.model.decoder.model_dump())
    widths = [m.out_features for m in model.decoder.sparse.value if isinstance(m, nn.Linear)]
    assert widths == [256, 512, 1024, 2048]
    readout = model.decoder.sparse.value_readout
    assert isinstance(readout, nn.Linear)
    assert (readout.in_features, readout.out_features) == (2048, 8192)
