"""Clusters of contigs: windows joined, communities found, tables and bins written."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

import kvae
from in_process import kvae as command
from kvae.clustering import contigs_of
from kvae.clustering.communities import communities, neighbour_rows, shared_neighbour_graph
from kvae.errors import KvaeError
from kvae.latents import read_latents
from kvae.progress import Progress
from kvae.records import read_records
from latent_files import write_latents
from sequences import fasta, random_sequence, write

N_GROUPS, PER_GROUP, WIDTH = 6, 40, 16


def grouped(seed: int = 0, spread: float = 0.5) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Vectors around well separated directions, and the direction of each."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(N_GROUPS, WIDTH)) * 2
    code = rng.permutation(np.repeat(np.arange(N_GROUPS), PER_GROUP))
    vectors = centres[code] + rng.normal(size=(len(code), WIDTH)) * spread
    return vectors.astype(np.float32), code


VECTORS, CODE = grouped()


@pytest.fixture(scope="module")
def latent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_latents(tmp_path_factory.mktemp("latents") / "latent.arrow", VECTORS)


def test_communities_are_the_groups(latent: Path) -> None:
    found = kvae.cluster(latent, threads=1)
    assert found.n_clusters == N_GROUPS
    assert adjusted_rand_score(CODE, found.codes) == 1.0
    assert np.array_equal(found.codes, found.of_rows)


def test_k_means_finds_as_many_as_asked_for(latent: Path) -> None:
    found = kvae.cluster(latent, k=N_GROUPS, threads=1)
    assert found.method == "k-means"
    assert adjusted_rand_score(CODE, found.codes) == 1.0
    assert kvae.cluster(latent, k=2, threads=1).n_clusters == 2


def test_resolution_decides_how_fine_clusters_are() -> None:
    vectors, _ = grouped(spread=1.5)
    coarse, fine = (
        len(np.unique(communities(vectors, resolution=resolution))) for resolution in (0.1, 20)
    )
    assert coarse < fine


def test_other_contigs_far_away_leave_clusters_as_they_are() -> None:
    """What is far away changes neither links nor the scale that they are compared with."""
    rng = np.random.default_rng(3)
    many = np.concatenate([grouped(seed=seed)[0] for seed in range(3)])
    codes = np.concatenate([grouped(seed=seed)[1] + N_GROUPS * seed for seed in range(3)])
    order = rng.permutation(len(many))
    found = communities(many[order])
    assert adjusted_rand_score(codes[order], found) == 1.0


def test_a_seed_decides_the_clusters(latent: Path) -> None:
    first = kvae.cluster(latent, seed=3, threads=1)
    second = kvae.cluster(latent, seed=3, threads=2)
    assert np.array_equal(first.codes, second.codes)


def test_clusters_are_numbered_by_their_bases(tmp_path: Path) -> None:
    lengths = [1000 + 500 * int(code) for code in CODE]
    path = write_latents(tmp_path / "latent.npz", VECTORS, lengths=lengths)
    found = kvae.cluster(path)
    bases = np.bincount(found.codes, weights=np.array(lengths))
    assert list(bases) == sorted(bases, reverse=True)


@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.integers(1, 8))
def test_the_graph_is_that_of_its_definition(seed: int, n_rows: int, n: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(n_rows, 4)).astype(np.float32)
    near = neighbour_rows(vectors, n, 1, Progress())
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit.astype(np.float64) @ unit.T.astype(np.float64)
    around: list[set[int]] = []
    for i in range(n_rows):
        others = sorted((j for j in range(n_rows) if j != i), key=lambda j: -cosines[i, j])
        assert set(near[i].tolist()) == set(others[:n])
        around.append({i, *others[:n]})
    expected = np.zeros((n_rows, n_rows))
    for i in range(n_rows):
        for j in range(n_rows):
            if i != j and (j in around[i] or i in around[j]):
                overlap = len(around[i] & around[j]) / len(around[i] | around[j])
                expected[i, j] = overlap if overlap > 1 / 15 else 0.0
    assert np.allclose(shared_neighbour_graph(near).toarray(), expected, atol=1e-6)


def test_many_rows_take_the_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvae.clustering.communities.ALL_PAIRS", 10)
    assert adjusted_rand_score(CODE, communities(VECTORS, threads=1)) == 1.0


def test_equal_vectors_are_one_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    same = np.ones((60, 4), np.float32)
    two = np.concatenate([same, -same])
    expected = np.repeat([0, 1], 60)
    found = communities(two)
    assert all(len(np.unique(expected[found == code])) == 1 for code in np.unique(found))
    monkeypatch.setattr("kvae.clustering.communities.ALL_PAIRS", 10)
    found = communities(two, threads=1)
    assert all(len(np.unique(expected[found == code])) == 1 for code in np.unique(found))


@pytest.mark.parametrize("n_rows", [1, 2, 3])
def test_few_rows_are_clustered_or_left(tmp_path: Path, n_rows: int) -> None:
    path = write_latents(tmp_path / "latent.arrow", VECTORS[:n_rows])
    found = kvae.cluster(path)
    assert len(found.codes) == n_rows
    if n_rows == 1:
        assert found.summary()["unclustered_share_of_contigs"] == 1.0
    assert kvae.cluster(path, k=1, min_contigs=1).codes.tolist() == [0] * n_rows


def test_few_contigs_are_told(tmp_path: Path) -> None:
    class Listener(Progress):
        told: str = ""

        def message(self, text: str) -> None:
            self.told += text

    for n_rows, is_few in ((21, True), (22, False)):
        path = write_latents(tmp_path / f"{n_rows}.arrow", VECTORS[:n_rows])
        listener = Listener()
        kvae.cluster(path, progress=listener)
        assert (f"{n_rows} contigs are few" in listener.told) is is_few


def test_windows_are_joined_by_length(tmp_path: Path) -> None:
    ids = ["a", "b", "a", "c", "b", "a"]
    sources = ["x.fna", "x.fna", "x.fna", "x.fna", "x.fna", "y.fna"]
    lengths = [100, 200, 300, 400, 600, 50]
    vectors = VECTORS[:6]
    path = write_latents(
        tmp_path / "latent.arrow", vectors, ids=ids, sources=sources, lengths=lengths
    )
    contigs = contigs_of(read_latents(path))
    assert contigs.ids == ["a", "b", "c", "a"]
    assert contigs.lengths.tolist() == [400, 800, 400, 50]
    assert contigs.of_rows.tolist() == [0, 1, 0, 2, 1, 3]
    assert contigs.names() == ["x.fna:a", "x.fna:b", "x.fna:c", "y.fna:a"]
    expected = [
        (vectors[0] * 100 + vectors[2] * 300) / 400,
        (vectors[1] * 200 + vectors[4] * 600) / 800,
        vectors[3],
        vectors[5],
    ]
    assert np.allclose(contigs.vectors, expected, atol=1e-6)


def lines_of(path: Path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text().splitlines()]


def test_the_table_is_vambs(latent: Path, tmp_path: Path) -> None:
    found = kvae.cluster(latent, tmp_path / "clusters.tsv")
    header, *lines = lines_of(tmp_path / "clusters.tsv")
    assert header == ["clustername", "contigname"]
    assert {contig: int(name) - 1 for name, contig in lines} == {
        f"contig_{i}": code for i, code in enumerate(found.codes.tolist())
    }
    assert [int(name) for name, _ in lines] == sorted(int(name) for name, _ in lines)


def test_the_table_is_cami_bioboxes(latent: Path, tmp_path: Path) -> None:
    kvae.cluster(latent, tmp_path / "binning.tsv", format="bioboxes", min_contigs=1)
    text = (tmp_path / "binning.tsv").read_text()
    head, body = text.split("@@", 1)
    assert head.splitlines() == ["@Version:0.9.0", "@SampleID:kvae"]
    header, *lines = [line.split("\t") for line in body.splitlines()]
    assert header == ["SEQUENCEID", "BINID"]
    assert sorted(contig for contig, _ in lines) == sorted(f"contig_{i}" for i in range(len(CODE)))


def test_small_clusters_are_none(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    vectors = np.concatenate([VECTORS, rng.normal(size=(1, WIDTH)).astype(np.float32) * -9])
    path = write_latents(tmp_path / "latent.arrow", vectors)
    found = kvae.cluster(path, tmp_path / "clusters.tsv", min_contigs=PER_GROUP + 2)
    assert found.n_clusters == 0
    assert found.summary()["unclustered_share_of_bases"] == 1.0
    assert lines_of(tmp_path / "clusters.tsv") == [["clustername", "contigname"]]


@pytest.fixture
def assembly(tmp_path: Path) -> tuple[Path, Sequence[tuple[str, str]]]:
    """Sequences of the contigs of `latent`, and a record that is no contig of it."""
    rng = np.random.default_rng(1)
    records = [
        (f"contig_{i}", random_sequence(int(rng.integers(1000, 1200)), i)) for i in range(len(CODE))
    ]
    records.append(("short", "acgtn"))
    text = fasta([(f"{name} of sample {i}", seq) for i, (name, seq) in enumerate(records)])
    (tmp_path / "in").mkdir()
    return write(tmp_path / "in" / "assembly.fna.gz", gzip.compress(text)), records


def bins_of(folder: Path) -> dict[str, dict[str, str]]:
    return {
        path.stem: {record.id: record.sequence for record in read_records(path)}
        for path in sorted(folder.iterdir())
    }


def test_bins_hold_the_sequences_of_their_cluster(
    assembly: tuple[Path, Sequence[tuple[str, str]]], tmp_path: Path
) -> None:
    path, records = assembly
    sources = [str(path)] * len(CODE)
    latent = write_latents(tmp_path / "latent.arrow", VECTORS, sources=sources)
    found = kvae.cluster(latent, bins=tmp_path / "bins", min_bin_bases=0)
    expected: dict[str, dict[str, str]] = {}
    for (name, sequence), code in zip(records, found.codes.tolist(), strict=False):
        expected.setdefault(str(code + 1), {})[name] = sequence
    assert bins_of(tmp_path / "bins") == expected
    assert found.n_bins == N_GROUPS
    header = (tmp_path / "bins" / "1.fna").read_text().splitlines()[0]
    assert " of sample " in header
    assert max(map(len, (tmp_path / "bins" / "1.fna").read_text().splitlines())) == 80


def test_small_bins_are_left_out(
    assembly: tuple[Path, Sequence[tuple[str, str]]], tmp_path: Path
) -> None:
    path, _ = assembly
    sources = [str(path)] * len(CODE)
    lengths = [1000 * (1 + int(code)) for code in CODE]
    latent = write_latents(tmp_path / "latent.arrow", VECTORS, sources=sources, lengths=lengths)
    found = kvae.cluster(latent, bins=tmp_path / "bins", min_bin_bases=PER_GROUP * 5000)
    assert found.n_clusters == N_GROUPS
    assert found.n_bins == 2
    assert sorted(path.name for path in (tmp_path / "bins").iterdir()) == ["1.fna", "2.fna"]


def test_sequences_may_have_moved(
    assembly: tuple[Path, Sequence[tuple[str, str]]], tmp_path: Path
) -> None:
    path, _ = assembly
    sources = [f"elsewhere/{path.name}"] * len(CODE)
    latent = write_latents(tmp_path / "latent.arrow", VECTORS, sources=sources)
    with pytest.raises(KvaeError, match=r"elsewhere/assembly\.fna\.gz: no such file.*--sequences"):
        kvae.cluster(latent, tmp_path / "c.tsv", bins=tmp_path / "bins", min_bin_bases=0)
    # So that the same command with --sequences works.
    assert not list(tmp_path.glob("c.tsv*"))
    for sequences in (path.parent, path):
        found = kvae.cluster(
            latent, bins=tmp_path / "bins", sequences=sequences, min_bin_bases=0, force=True
        )
        assert found.n_bins == N_GROUPS


def test_a_missing_record_leaves_no_bins(
    assembly: tuple[Path, Sequence[tuple[str, str]]], tmp_path: Path
) -> None:
    path, _ = assembly
    ids = [f"contig_{i}" for i in range(len(CODE) - 1)] + ["lost"]
    latent = write_latents(
        tmp_path / "latent.arrow", VECTORS, ids=ids, sources=[str(path)] * len(CODE)
    )
    with pytest.raises(KvaeError, match=r"assembly\.fna\.gz: has no record lost"):
        kvae.cluster(latent, bins=tmp_path / "bins", min_bin_bases=0)
    assert sorted(child.name for child in tmp_path.iterdir()) == ["in", "latent.arrow"]


def test_bins_replace_only_bins(latent: Path, tmp_path: Path) -> None:
    (tmp_path / "bins").mkdir()
    (tmp_path / "bins" / "1.fna").write_text(">a\nACGT\n")
    with pytest.raises(KvaeError, match="exists already"):
        kvae.cluster(latent, bins=tmp_path / "bins")
    (tmp_path / "bins" / "thesis.txt").write_text("mine")
    with pytest.raises(KvaeError, match="holds something else than bins"):
        kvae.cluster(latent, bins=tmp_path / "bins", force=True)
    assert (tmp_path / "bins" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "k must be at least 1"),
        ({"k": 1000}, r"has 240 contigs, and -k asks for 1000"),
        ({"resolution": 0.0}, "resolution must be"),
        ({"resolution": float("nan")}, "resolution must be"),
        ({"neighbours": 0}, "neighbours must be"),
        ({"min_contigs": 0}, "at least 1"),
        ({"format": "excel"}, "must be one of vamb, bioboxes"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(
    latent: Path, tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(KvaeError, match=message):
        kvae.cluster(latent, tmp_path / "clusters.tsv", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_the_command_reports_what_is_unclustered(
    latent: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "clusters.tsv"
    assert command(f"kvae cluster {latent} -o {output} --json", monkeypatch) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["clusters"] == N_GROUPS
    assert "0 of 240 contigs (0.0% of the bases) are in none" in said.err
    assert command(f"kvae cluster {latent} -o {output}", monkeypatch) == 1
    assert "exists already" in capsys.readouterr().err
    assert command(f"kvae cluster {latent} -o {output} --force -q -k 3", monkeypatch) == 0
    assert capsys.readouterr() == ("", "")
    assert command(f"kvae cluster {latent} -o {latent} --force", monkeypatch) == 1
    assert "is the input" in capsys.readouterr().err
