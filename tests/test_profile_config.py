"""Configurations of the preset kvae: keys, kinds, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kvae.config import EncoderConfig, ModelConfig, ProfileEncoderConfig, RunConfig, parse_config
from kvae.errors import KvaeError
from kvae.presets import get_preset
from kvae.training.options import configure

PARTS = {"parts": [{"block": "7-mers", "units": 4}], "shared": 2}


def encoder(preset: str = "kvae", **changes: Any) -> EncoderConfig | ProfileEncoderConfig:
    return configure(preset, changes=changes).model.encoder


@pytest.mark.parametrize(
    ("preset", "changes", "message"),
    [
        ("kvae", {"gate_hidden": None}, "the profile output space is gate times value"),
        ("dot", {"output_space": "profile"}, "name 4-mers in derived, not in dense"),
        ("kvae", {"log_floor": -10.0}, "a log_floor belongs to log frequencies"),
        (
            "kvae",
            {"presence_threshold": 2e-4},
            "present where it occurs: leave presence_threshold at",
        ),
        ("dot", {"nats_weight": 1.0}, "nats_weight weighs the likelihood of a profile"),
        ("kvae", {"output_space": "linear"}, "nats_weight weighs the likelihood of a profile"),
        ("kvae", {"loss.target": "row"}, "contrast needs two latents of everything"),
        ("dot", {"contrast_weight": 1.0}, "contrast needs two latents of everything"),
        (
            "kvae",
            {"contrast_weight": 0.0, "loss.target": "row"},
            "a profile encoder learns what varies within a contig from the halves of its rows",
        ),
        ("kvae", {"nats_weight": 0.0}, "nothing tells the k-mers what to be"),
        ("kvae", {"latent": PARTS}, "a profile encoder has no branches"),
        ("kvae", {"encoder.blocks": ["7-mers"]}, "7-mers are encoded twice"),
        ("kvae", {"encoder.blocks": ["4-mers", "4-mers"]}, "two branches for 4-mers"),
        ("kvae", {"encoder.blocks": []}, "model.encoder: blocks: "),
        ("kvae", {"encoder.kind": "branchs"}, "unknown encoder kind 'branchs', known: branches, "),
        ("kvae", {"encoder.noise": -1.0}, "noise: "),
        ("kvae", {"encoder.dropout": 1.0}, "dropout: "),
        ("kvae", {"encoder.branches": []}, "no key 'encoder.branches'"),
        ("kvae", {"temperature": 0.0}, "loss.temperature: "),
        ("kvae", {"positives": "species"}, "are those of a column of a table: give labels, or "),
        ("kvae", {"per_class": 0}, "training.per_class: "),
        ("kvae", {"schedule": "linear"}, "training.schedule: "),
        ("kvae", {"encoder.share": 0.0}, "share: "),
        ("kvae", {"freeze": ["encoder", "decoder"]}, "there is nothing to train"),
    ],
)
def test_what_cannot_go_together(preset: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(KvaeError) as caught:
        configure(preset, changes=changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_preset_is_what_its_parts_are() -> None:
    preset = get_preset("kvae")
    assert isinstance(preset.model.encoder, ProfileEncoderConfig)
    assert preset.model.encoder.encoded == ("4-mers", "7-mers")
    assert preset.model.ks == (7, 4, 3)
    assert preset.model.output_space == "profile"
    assert preset.model.decoder.dense_blocks == ("4-mers", "3-mers")
    assert preset.loss.target == "half"
    assert not preset.loss.counts_errors
    assert min(preset.loss.nats_weight, preset.loss.contrast_weight) > 0.0


@pytest.mark.parametrize(
    ("key", "value", "field"),
    [
        ("components", 12, "components"),
        ("encoder.components", 12, "components"),
        ("encoder.hidden", [9, 8], "hidden"),
        ("encoder.noise", 0, "noise"),
        ("encoder.dropout", 0.3, "dropout"),
        ("encoder.blocks", ["4-mers", "3-mers"], "blocks"),
        ("compressed", "5-mers", "compressed"),
    ],
)
def test_keys_of_the_encoder(key: str, value: Any, field: str) -> None:
    assert encoder(**{key: value}).model_dump(mode="json")[field] == value


def test_blocks_that_the_encoder_reads_are_those_of_the_rows() -> None:
    changes = {"encoder.blocks": ["4-mers", "6-mers"], "compressed": "5-mers"}
    assert configure("kvae", changes=changes).model.ks == (7, 6, 5, 4, 3)


def test_another_kind_of_encoder_starts_from_its_own_defaults() -> None:
    half = {"loss.target": "half", "latent": 16}
    changes = half | {"encoder.kind": "profile"}
    assert encoder("dot", **changes) == ProfileEncoderConfig()
    assert encoder("dot", **changes, components=7) == ProfileEncoderConfig(components=7)
    # In any order: what is invalid half-way may be valid in the end.
    early = {"encoder.kind": "profile", "components": 7} | half
    assert encoder("dot", **early) == ProfileEncoderConfig(components=7)
    branches = get_preset("dot").model.encoder.model_dump(mode="json")
    assert encoder(encoder=branches) == get_preset("dot").model.encoder
    by_key = {f"encoder.{key}": branches[key] for key in ("kind", "branches", "shared")}
    assert encoder(**by_key) == get_preset("dot").model.encoder


def test_a_configuration_from_before_there_were_kinds() -> None:
    config = configure("dot")
    tree: Any = json.loads(config.model_dump_json())
    del tree["model"]["encoder"]["kind"]
    for name in ("nats_weight", "target", "contrast_weight", "temperature"):
        del tree["loss"][name]
    for name in ("schedule", "positives", "labels", "per_class"):
        del tree["training"][name]
    assert parse_config(RunConfig, json.dumps(tree), "config.json") == config
    model = parse_config(ModelConfig, json.dumps(tree["model"]), "model.safetensors")
    assert isinstance(model.encoder, EncoderConfig)
    del tree["model"]["encoder"]["shared"]
    with pytest.raises(KvaeError, match=r"config\.json: model\.encoder: shared: Field required"):
        parse_config(RunConfig, json.dumps(tree), "config.json")


def test_a_stored_configuration_reads_back() -> None:
    config = configure("kvae", changes={"positives": "genus", "labels": "a.tsv"})
    assert parse_config(RunConfig, config.model_dump_json(), "config.json") == config
