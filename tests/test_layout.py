"""The layout of a row and the k-mers of its blocks."""

from __future__ import annotations

from itertools import permutations

import pytest

import kvae
from kvae import Layout
from kvae.layout import default_layout
from reference import columns, order_ks, reverse_complement


def places(layout: Layout) -> list[tuple[str, int | None, int, int]]:
    return [(block.name, block.k, block.start, block.stop) for block in layout.blocks]


DEFAULT = [
    ("length", None, 0, 1),
    ("7-mers", 7, 1, 8193),
    ("4-mers", 4, 8193, 8329),
    ("3-mers", 3, 8329, 8361),
    ("gc", None, 8361, 8362),
]


@pytest.mark.parametrize("k", range(1, 9))
def test_columns_are_the_canonical_kmers_in_order(k: int) -> None:
    names = kvae.kmers(k)
    assert names == list(columns(k))
    assert names == sorted(set(names))
    # Every k-mer and its other strand have one column between them.
    palindromes = sum(name == reverse_complement(name) for name in names)
    assert 2 * len(names) - palindromes == 4**k


@pytest.mark.parametrize(("k", "size"), [(7, 8192), (4, 136), (3, 32), (6, 2080), (5, 512)])
def test_blocks_have_the_sizes_of_the_contract(k: int, size: int) -> None:
    block = Layout.from_ks([k]).block(f"{k}-mers")
    assert (block.k, block.size, len(kvae.kmers(k))) == (k, size, size)


def test_default_row() -> None:
    layout = default_layout()
    assert places(layout) == DEFAULT
    assert layout.n_fields == 8362
    assert layout.ks == (7, 4, 3)
    assert layout.pseudocount == 1e-6
    assert all(block.slice == slice(block.start, block.stop) for block in layout.blocks)


def test_target_is_the_row_without_length() -> None:
    layout = default_layout()
    assert layout.target == slice(1, 8362)
    offset = layout.target.start
    inside = {block.name: (block.start - offset, block.stop - offset) for block in layout.blocks}
    assert inside["7-mers"] == (0, 8192)
    assert inside["4-mers"] == (8192, 8328)
    assert inside["3-mers"] == (8328, 8360)
    assert inside["gc"] == (8360, 8361)


def test_other_blocks_follow_gc_and_move_nothing() -> None:
    layout = Layout.from_ks([7, 6, 5, 4, 3])
    assert layout.n_fields == 10954
    assert places(layout) == [*DEFAULT, ("5-mers", 5, 8362, 8874), ("6-mers", 6, 8874, 10954)]
    assert layout.target == slice(1, 8362)


def test_one_block_alone() -> None:
    layout = Layout.from_ks([4])
    assert places(layout) == [("length", None, 0, 1), ("4-mers", 4, 1, 137), ("gc", None, 137, 138)]


@pytest.mark.parametrize("ks", [[1], [8], [8, 1], [1, 2, 3, 4, 5, 6, 7, 8], [5, 7]])
def test_blocks_stand_in_the_order_of_the_contract(ks: list[int]) -> None:
    before, after = order_ks(ks)
    names = ["length", *(f"{k}-mers" for k in before), "gc", *(f"{k}-mers" for k in after)]
    layout = Layout.from_ks(ks)
    assert [block.name for block in layout.blocks] == names
    stops = [0, *(block.stop for block in layout.blocks)]
    assert [block.start for block in layout.blocks] == stops[:-1]


def test_order_of_the_request_does_not_matter() -> None:
    layouts = {Layout.from_ks(ks) for ks in permutations([7, 6, 4, 3])}
    assert len(layouts) == 1


def test_fingerprints_tell_layouts_apart_and_never_change() -> None:
    requests = [(7, 4, 3), (7, 4), (7, 3), (4,), (7, 6, 5, 4, 3), (7, 5, 4, 3)]
    prints = [Layout.from_ks(ks).fingerprint for ks in requests]
    assert len(set(prints)) == len(prints)
    # Feature files and models everywhere name it.
    assert prints[0] == "25cda67b2336e497"


def test_a_layout_survives_its_description() -> None:
    layout = Layout.from_ks([7, 5, 3])
    blocks = [
        {"name": block.name, "k": block.k, "start": block.start, "stop": block.stop}
        for block in layout.blocks
    ]
    described = {
        "blocks": blocks,
        "fingerprint": layout.fingerprint,
        "pseudocount": layout.pseudocount,
    }
    assert Layout.from_dict(described) == layout


def test_a_block_that_is_not_there() -> None:
    with pytest.raises(KeyError, match="9-mers"):
        default_layout().block("9-mers")


@pytest.mark.parametrize("ks", [[], [0], [9], [-1], [7, 7], [7, 4, 3, 100]])
def test_impossible_ks_are_refused(ks: list[int]) -> None:
    with pytest.raises(kvae.KvaeError) as error:
        Layout.from_ks(ks)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("k", [-1, 0, 9])
def test_kmers_of_an_impossible_k_are_refused(k: int) -> None:
    with pytest.raises(kvae.KvaeError):
        kvae.kmers(k)
