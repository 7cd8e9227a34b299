"""Configurations from presets, files and single keys."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from kvae.config import (
    DenseReadout,
    DotReadout,
    EncoderConfig,
    LowRankReadout,
    ProfileEncoderConfig,
    ReadoutConfig,
    RunConfig,
    override,
    read_setting,
    resolve_key,
)
from kvae.errors import KvaeError
from kvae.presets import PRESETS, get_preset
from kvae.training import train
from kvae.training.options import configure
from sequences import PROJECT
from small import MemoryStore, encoder_branches, small_run
from training_runs import run


@pytest.mark.parametrize("preset", list(PRESETS))
def test_a_preset_is_its_model_with_its_loss(preset: str) -> None:
    config = configure(preset)
    assert config.preset == preset
    assert (config.model, config.loss) == (get_preset(preset).model, get_preset(preset).loss)
    assert configure() == configure("kvae")


@pytest.mark.parametrize(
    ("key", "value", "path"),
    [
        ("latent", 64, ("model", "latent")),
        ("model.latent", 64, ("model", "latent")),
        ("lr", 0.5, ("training", "lr")),
        ("beta", 4.0, ("loss", "beta")),
        ("presence_threshold", 2e-4, ("model", "presence_threshold")),
        ("encoder.shared", [8, 4], ("model", "encoder", "shared")),
        ("value_hidden", [8], ("model", "decoder", "sparse", "value_hidden")),
        ("gate_hidden", None, ("model", "decoder", "sparse", "gate_hidden")),
        ("decoder.embedding", 3, ("model", "decoder", "sparse", "readout", "embedding")),
        ("decoder.kind", "dense", ("model", "decoder", "sparse", "readout", "kind")),
        ("model.decoder.kind", "dense", ("model", "decoder", "sparse", "readout", "kind")),
    ],
)
def test_keys_may_leave_out_what_is_clear(key: str, value: Any, path: tuple[str, ...]) -> None:
    changed: Any = configure("dot", changes={key: value}).model_dump(mode="json")
    for name in path:
        changed = changed[name]
    assert changed == value


def test_branches_go_by_their_block() -> None:
    config = configure(
        "dot",
        changes={
            "encoder.branches.7-mers.hidden": [9, 8],
            "encoder.branches.6-mers.hidden": [7],
            "dense.4-mers.hidden": [6],
        },
    )
    branches = encoder_branches(config)
    assert branches == {"7-mers": (9, 8), "4-mers": (128, 64), "3-mers": (64, 32), "6-mers": (7,)}
    assert config.model.decoder.dense[0].hidden == (6,)


def test_another_kind_starts_from_its_own_defaults() -> None:
    def readout(changes: dict[str, Any]) -> object:
        return configure("dot", changes=changes).model.decoder.sparse.readout

    assert readout({"decoder.kind": "lowrank"}) == LowRankReadout()
    assert readout({"decoder.kind": "lowrank", "rank": 7}) == LowRankReadout(rank=7)
    assert readout({"decoder": {"kind": "lowrank", "rank": 7}}) == LowRankReadout(rank=7)
    assert readout({"readout": {"kind": "dense"}}) == DenseReadout()
    assert readout({"embedding": 5, "decoder.kind": "dot"}) == DotReadout(embedding=5)
    assert readout({"readout": {"kind": "dot", "embedding": 5}}) == DotReadout(embedding=5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latnet": 3}, "no key 'latnet'; close: model.latent"),
        ({"model.decoder.sprse.readout": 3}, "close: model.decoder.sparse.readout"),
        ({"hidden": [3]}, "'hidden' could be model.encoder.branches.7-mers.hidden or "),
        ({"shared": [3]}, "could be model.encoder.shared or model.decoder.shared"),
        ({"rank": 3}, "no key 'rank'"),
        ({"decoder.kind": "lowrnk"}, "unknown readout kind 'lowrnk', known: "),
        ({"encoder.branches.7-mers": 3}, "needs keys of its own"),
        ({"encoder.branches": {"6-mers": 3}}, "needs keys of its own"),
        ({"encoder.branches.6-mers.hiden": [3]}, "encoder: branches.3.hidden: Field required"),
        ({"loss": 3}, "loss: Input should be an object"),
        ({"": 3}, "no key ''"),
        ({"latent": "many"}, "model.latent: Input should be a valid integer"),
        ({"lr": float("inf")}, "training.lr: "),
        ({"preset": "deep"}, "preset cannot be set: choose a design with --preset"),
        ({"loss.mse_weight": 0}, "nothing tells the k-mers what to be"),
        ({"zero_weight": 0.1}, "with a gate the values of absent 7-mers have no error"),
    ],
)
def test_bad_changes_are_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(KvaeError) as caught:
        configure("dot", changes=changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_overriding_leaves_the_original_alone() -> None:
    original = configure("dot")
    before = original.model_dump_json()
    changed = override(original, {"decoder.kind": "lowrank", "encoder.branches.5-mers.hidden": [4]})
    assert original.model_dump_json() == before
    assert override(changed, {}) == changed


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("64", 64),
        ("1_000", 1000),
        ("1e-4", 1e-4),
        ("true", True),
        ("null", None),
        ("[512, 256]", [512, 256]),
        ('"64"', "64"),
        ('{"kind": "lowrank"}', {"kind": "lowrank"}),
        ("{kind = 'lowrank'}", {"kind": "lowrank"}),
        ("lowrank", "lowrank"),
        ("a=b", "a=b"),
        ("2026-11-24", "2026-11-24"),
        ("", ""),
    ],
)
def test_values_are_json_or_toml_or_text(text: str, value: Any) -> None:
    assert read_setting(f" key = {text}") == ("key", value)


@pytest.mark.parametrize("text", ["latent", "=3", ""])
def test_a_setting_without_key_or_value_is_refused(text: str) -> None:
    with pytest.raises(KvaeError, match="KEY=VALUE expected"):
        read_setting(text)


def test_a_file_says_what_differs_from_its_preset(tmp_path: Path) -> None:
    toml = tmp_path / "a.toml"
    toml.write_text(
        """
        preset = "slim"
        loss.beta = 2.0
        [model]
        latent = 96
        decoder.kind = "lowrank"
        [model.encoder.branches.6-mers]
        hidden = [256, 128]
        """
    )
    config = configure(config=toml)
    assert config.preset == "slim"
    assert (config.model.latent, config.loss.beta) == (96, 2.0)
    assert config.model.decoder.sparse.readout == LowRankReadout()
    assert encoder_branches(config)["6-mers"] == (256, 128)
    assert configure("slim", toml, {"latent": 8}).model.latent == 8
    with pytest.raises(KvaeError, match="starts from preset slim, not dot"):
        configure("dot", toml)


@pytest.mark.parametrize("preset", list(PRESETS))
def test_a_whole_configuration_is_a_file_of_changes(tmp_path: Path, preset: str) -> None:
    config = configure(preset, changes={"decoder.kind": "dense", "latent": 9, "epochs": 3})
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config.model_dump(mode="json")))
    assert configure(config=path) == config
    path.write_text(json.dumps(config.model_dump(mode="json") | {"preset": None}))
    assert configure(config=path).model == config.model


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.toml", "latent = ", "not valid TOML"),
        ("a.json", "{", "not valid JSON"),
        ("a.json", "[1]", "a JSON object expected"),
        ("a.json", '{"format": 2}', "format is 2, 1 expected"),
        ("a.json", '{"preset": 2}', "the name of a design expected"),
        ("a.toml", 'preset = "dott"', "unknown preset 'dott'"),
        ("a.toml", "latnet = 3", "a.toml: no key 'latnet'; close: model.latent"),
        ("a.toml", "latent = 0", "a.toml: model.latent: "),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, name: str, content: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(KvaeError) as caught:
        configure(config=path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(KvaeError, match="no such file"):
        configure(config=tmp_path / "missing.toml")


def test_settings_are_saved_and_kept_when_resuming(store: MemoryStore, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    settings = {"decoder.kind": "lowrank", "rank": 4}
    run(store, folder, settings=settings, epochs=1)
    saved = json.loads((folder / "config.json").read_text())
    assert saved["model"]["decoder"]["sparse"]["readout"] == {"kind": "lowrank", "rank": 4}
    again: dict[str, Any] = {"device": "cpu", "threads": 1, "resume": True, "epochs": 2}
    assert train(store, folder, **again).epochs == 2
    assert train(store, folder, settings=settings, **again).epochs == 2
    with pytest.raises(KvaeError, match=r"readout\.rank 4, not 5"):
        train(store, folder, settings={"rank": 5}, **again)
    partial = tmp_path / "partial.toml"
    partial.write_text("rank = 4")
    assert train(store, folder, config=partial, **again).epochs == 2
    partial.write_text("rank = 6")
    with pytest.raises(KvaeError, match=r"readout\.rank 4, not 6"):
        train(store, folder, config=partial, **again)


def test_a_configuration_without_the_newer_keys_still_loads() -> None:
    tree = small_run().model_dump(mode="json")
    for key in ("mse_weight", "cosine_weight", "zero_weight", "zero_penalty"):
        del tree["loss"][key]
    del tree["model"]["log_floor"]
    del tree["model"]["encoder"]["input_dropout"]
    del tree["model"]["decoder"]["derived"]
    del tree["model"]["decoder"]["sparse"]["gate_readout"]
    for branch in tree["model"]["encoder"]["branches"]:
        del branch["skip"]
    assert RunConfig.model_validate_json(json.dumps(tree)) == small_run()


PAGE = (PROJECT / "docs" / "model.md").read_text(encoding="utf-8")


def test_every_key_is_documented_and_every_documented_key_exists() -> None:
    sections = PAGE.partition("## Configuration")[2].partition("### What is refused")[0]
    told = set(re.findall(r"`([a-z_0-9.<>]+)`", sections + PAGE.partition("## Training")[2]))
    tree = configure("dot", changes={"latent": "hierarchical"}).model_dump(mode="json")
    encoder_keys = set(ProfileEncoderConfig.model_fields)
    fields = re.findall(r"^\| ((?:`[^`|]+`(?:, )?)+) \|", sections, re.MULTILINE)
    named = [key for cell in fields for key in re.findall("`([^`]+)`", cell)]
    assert {"latent", "decoder.kind", "w7", "zero_penalty", "presence_threshold"} <= set(named)
    profile = configure("kvae").model_dump(mode="json")
    kinds = set(ReadoutConfig.kinds)
    for key in set(named) - kinds:
        own = key.startswith("encoder.") and key.removeprefix("encoder.") in encoder_keys
        resolve_key(profile if own else tree, key.replace("<block>", "7-mers"))
    for section in ("loss", "training"):
        assert set(tree[section]) <= told, section
    leaves = set(tree["model"]) | set(tree["model"]["decoder"]) | set(tree["model"]["encoder"])
    leaves |= encoder_keys
    structure = {"kind", "encoder", "decoder", "branches", "sparse", "context", "shared"}
    documented = {key.rpartition(".")[2] for key in told}
    assert leaves - structure <= documented
    assert set(tree["model"]["decoder"]["sparse"]) - {"block", "readout"} <= documented
    known = {"dense", "lowrank", "dot", "grouped", "conv", "pretrained"}
    assert known <= told
    for kind in known:
        assert set(ReadoutConfig.kinds[kind].model_fields) - {"kind", "negative_slope"} <= told


def test_the_pages_examples_are_configurations(tmp_path: Path) -> None:
    (toml,) = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    path = tmp_path / "mine.toml"
    path.write_text(toml)
    config = configure(config=path)
    assert (config.preset, config.loss.zero_weight, config.model.latent) == ("deep", 0.1, 128)
    assert isinstance(config.model.encoder, EncoderConfig)
    assert config.model.encoder.branches[0].skip
    examples = re.findall(r"`((?:--preset \w+ )?--set [^`]+)`", PAGE)
    assert len(examples) >= 4
    for example in examples:
        words = shlex.split(example)
        if "KEY=VALUE" in words or len(words) == 1:
            continue
        preset = words[words.index("--preset") + 1] if "--preset" in words else None
        settings = [word for word in words if "=" in word]
        if settings == ["gate_readout=dot"]:
            settings.append("decoder.kind=pretrained")
        configure(preset, changes=dict(map(read_setting, settings)))
