"""Models as graphs: what is in them, how they are laid out, how they are written."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
from torch import Tensor, nn

import kvae
from kvae import ModelGraph
from kvae.config import ReadoutConfig, override
from kvae.drawing.layered import Place, arrange, crossings
from kvae.drawing.nodes import Node
from kvae.drawing.trace import trace
from kvae.errors import KvaeError
from kvae.model import KmerVAE
from kvae.model.readout import readout
from kvae.presets import PRESETS
from sequences import fails, listing, run_kvae
from small import make_layout, small_model
from training_runs import Finished

OPTIONS: list[dict[str, Any]] = [
    {"latent": "hierarchical"},
    {"encoder.branches.7-mers.skip": True},
    {"encoder.input_dropout": 0.2},
    {"encoder.branches.5-mers.hidden": [64, 32], "encoder.branches.6-mers.hidden": [64]},
    {"decoder.derived": ["4-mers", "3-mers"], "decoder.dense": []},
    {"decoder.sparse.gate_hidden": None},
    {"decoder.kind": "conv"},
    {"decoder.kind": "grouped"},
    {"output_space": "log"},
    {"decoder.value_hidden": [512, 1024, 2048]},
]


def edges(graph: ModelGraph) -> Counter[tuple[str, str]]:
    return Counter((source.name, node.name) for node in graph.nodes for source in node.inputs)


def graph_of(**changes: Any) -> ModelGraph:
    return trace(KmerVAE(small_model(**changes), make_layout(96, 20, 8)).to("meta"), "small")


# --- what is in it -------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
def test_every_parameter_of_a_preset_is_in_one_block(preset: str) -> None:
    drawn = kvae.graph(preset=preset)
    model = KmerVAE.from_preset(preset)
    assert drawn.n_parameters == model.n_parameters
    assert sum(count for *_, count in drawn.table()) == model.n_parameters
    assert "other" not in {node.name for node in drawn.nodes}
    tensors = dict(model.counted_tensors())
    for node in drawn.nodes:
        if node.path and not node.what.startswith("Linear"):
            own = [t.numel() for name, t in tensors.items() if name.startswith(f"{node.path}.")]
            assert node.n_parameters == sum(own), node.path


@pytest.mark.parametrize("settings", OPTIONS, ids=lambda settings: " ".join(settings))
def test_options_are_in_the_graph(settings: Mapping[str, Any]) -> None:
    drawn = kvae.graph(preset="dot", settings=settings)
    assert drawn.n_parameters == sum(count for *_, count in drawn.table())
    assert "other" not in {node.name for node in drawn.nodes}
    assert drawn.nodes[-1].name == "output"
    assert drawn.nodes[-1].width == 8361


def test_edges_are_those_of_the_computation() -> None:
    drawn = graph_of()
    wanted = Counter(
        {
            ("7-mers + GC + length", "7-mers"): 1,
            ("4-mers + GC + length", "4-mers"): 1,
            ("3-mers + GC + length", "3-mers"): 1,
            ("7-mers", "7-mers"): 1,
            # In the encoder and in the decoder.
            ("4-mers", "4-mers"): 2,
            ("7-mers", ""): 1,
            ("4-mers", ""): 1,
            ("3-mers", ""): 1,
            ("", "shared"): 1,
            ("shared", "mean"): 1,
            ("shared", "log variance"): 1,
            ("mean", "z"): 1,
            ("log variance", "z"): 1,
            ("z", "shared"): 1,
            ("shared", "shared"): 1,
            ("shared", "7-mers value"): 1,
            ("shared", "7-mers gate"): 1,
            ("shared", "4-mers"): 1,
            ("shared", "3-mers"): 1,
            ("7-mers value", "7-mers value readout"): 1,
            ("7-mers gate", "7-mers gate readout"): 1,
            ("7-mers value", "7-mers GC"): 1,
            ("4-mers", "4-mers output"): 1,
            ("3-mers", "3-mers output"): 1,
            ("7-mers value readout", ""): 1,
            ("7-mers gate readout", ""): 1,
            ("7-mers GC", "GC"): 1,
            ("4-mers output", "GC"): 1,
            ("3-mers output", "GC"): 1,
            ("", "output"): 1,
            ("4-mers output", "output"): 1,
            ("3-mers output", "output"): 1,
            ("GC", "output"): 1,
        }
    )
    assert edges(drawn) == wanted


def test_widths_are_those_of_the_tensors() -> None:
    by_what = {(node.name, node.what): node for node in graph_of().nodes}
    concatenation = by_what["", "concatenation"]
    assert concatenation.width == 16 + 8 + 8
    assert by_what["7-mers + GC + length", "input"].width == 96 + 2
    gate = by_what["7-mers gate readout", "DotProduct"]
    assert (gate.n_in, gate.width) == (16, 96)
    assert by_what["4-mers output", "Linear"].width == 20 + 1
    assert by_what["GC", "average of the branches"].width == 1


def test_both_output_spaces_have_one_product() -> None:
    for space in ("linear", "log"):
        found = [n for n in graph_of(output_space=space).nodes if n.what == "gate times value"]
        assert len(found) == 1
        names = [source.name for source in found[0].inputs]
        assert names == ["7-mers gate readout", "7-mers value readout"]


def test_parts_of_a_latent_meet_their_own_branches() -> None:
    drawn = kvae.graph(preset="dot", settings={"latent": "hierarchical"})
    joined = [node for node in drawn.nodes if node.what == "concatenation"]
    decoded = [node for node in joined if any(source.name == "z" for source in node.inputs)]
    assert sorted(node.width - 352 for node in decoded) == [32, 64, 128]


def test_a_readout_of_ones_own_is_one_block() -> None:
    class ScaledReadout(ReadoutConfig):
        kind: Literal["scaled"] = "scaled"

    @readout(ScaledReadout)
    class Scaled(nn.Module):
        def __init__(self, config: ScaledReadout, n_in: int, block: Any, start: float) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(n_in, 3), nn.ReLU(), nn.Linear(3, block.size))

        def forward(self, h_BH: Tensor) -> Tensor:
            return 2.0 * self.inner(h_BH)  # type: ignore[no-any-return]

    try:
        config = override(small_model(), {"decoder.sparse.readout": {"kind": "scaled"}})
        model = KmerVAE(config, make_layout(96, 20, 8)).to("meta")
    finally:
        del ReadoutConfig.kinds["scaled"]
    found = [node for node in trace(model, "own").nodes if node.what == "Scaled"]
    assert [node.n_parameters for node in found] == [
        16 * 3 + 3 + 3 * 96 + 96,
        32 * 3 + 3 + 3 * 96 + 96,
    ]


def test_a_run_is_drawn_from_its_configuration(finished: Finished) -> None:
    drawn = kvae.graph(finished.folder)
    model = KmerVAE(small_model(), kvae.Layout.from_ks((7, 4, 3)))
    assert drawn.n_parameters == model.n_parameters
    with pytest.raises(KvaeError, match="either a run or a design"):
        kvae.graph(finished.folder, preset="dot")


# --- where it is ---------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
def test_nothing_overlaps(preset: str) -> None:
    nodes = kvae.graph(preset=preset).nodes
    arranged = arrange(nodes, [180.0] * len(nodes), 20.0)
    places = {p.node: p for layer in arranged.layers for p in layer if p.node}
    assert set(places) == set(nodes)
    for layer in arranged.layers:
        for left, right in itertools.pairwise(layer):
            assert right.x - left.x >= (left.width + right.width) / 2 + 20.0 - 1e-6
    for node in nodes:
        for source in node.inputs:
            assert places[source].layer < places[node].layer
    for chain in arranged.edges:
        steps = [b.layer - a.layer for a, b in itertools.pairwise(chain)]
        assert steps == [1] * len(steps)


@pytest.mark.parametrize("preset", PRESETS)
def test_edges_cross_once_where_they_must(preset: str) -> None:
    nodes = kvae.graph(preset=preset).nodes
    arranged = arrange(nodes, [180.0] * len(nodes), 20.0)
    # Two of the branches reach both the average and the output.
    assert crossings(arranged.layers) <= 1


def test_a_straight_line_stays_straight() -> None:
    nodes = [Node(str(i), "", width=1) for i in range(6)]
    for source, node in itertools.pairwise(nodes):
        node.inputs.append(source)
    nodes[3].inputs.append(nodes[0])
    arranged = arrange(nodes, [100.0] * 6, 10.0)
    xs = {place.x for layer in arranged.layers for place in layer if place.node}
    assert len(xs) <= 2


def test_crossings_are_counted() -> None:
    a, b, c, d = (Place(layer, 1.0) for layer in (0, 0, 1, 1))
    a.below, b.below = [d], [c]
    assert crossings([[a, b], [c, d]]) == 1
    assert crossings([[b, a], [c, d]]) == 0


# --- how it is written ---------------------------------------------------------------


def test_an_svg_holds_every_word_within_its_bounds(tmp_path: Path) -> None:
    drawn = kvae.graph(None, tmp_path / "model.svg", preset="slim", settings={"latent": 64})
    root = ElementTree.parse(tmp_path / "model.svg").getroot()
    width, height = (float(x) for x in root.attrib["viewBox"].split()[2:])
    said = [element for element in root.iter() if element.tag.endswith("}text")]
    texts = [element.text for element in said]
    for text in ("slim", "latent=64", f"{drawn.n_parameters:,} parameters", "encoder", "decoder"):
        assert text in texts
    for node in drawn.nodes:
        assert f"{node.width:,}" in texts or f"{node.n_in:,} → {node.width:,}" in texts
    for element in said:
        if "x" in element.attrib:
            assert 0 < float(element.attrib["x"]) < width
            assert 0 < float(element.attrib["y"]) < height


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg", "a.png", "b.png"):
        kvae.graph(None, tmp_path / name, preset="dot")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_the_program(tmp_path: Path) -> None:
    result = run_kvae("graph", "--preset", "lowrank", "--table", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []
    lines = [line.split() for line in result.stdout.splitlines()]
    counts = [int(line[-1].replace(",", "")) for line in lines if line and line[-1][-1].isdigit()]
    assert counts[-1] == sum(counts[:-1]) == 8_830_475
    result = run_kvae("graph", "--set", "latent=32", cwd=tmp_path)
    assert result.returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.svg"]
    before = listing(tmp_path)
    assert "--force" in fails(run_kvae("graph", cwd=tmp_path))
    assert ".svg or .png" in fails(run_kvae("graph", "-o", "model.pdf", cwd=tmp_path))
    assert "unknown preset" in fails(run_kvae("graph", "--preset", "dott", "--force", cwd=tmp_path))
    assert listing(tmp_path) == before
