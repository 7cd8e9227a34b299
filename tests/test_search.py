"""Search: the nearest rows of a query in a file or an index."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvae
from in_process import kvae as command
from kvae.errors import KvaeError
from kvae.latents import read_latents
from kvae.nearest import GraphIndex, nearest_of_all, unit_rows
from latent_files import write_latents

N, WIDTH = 400, 8
RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(N, WIDTH)).astype(np.float32)
IDS = [f"c{i // 2}" for i in range(N)]
QUERIES = RNG.normal(size=(7, WIDTH)).astype(np.float32)


@pytest.fixture(scope="module")
def latent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_latents(tmp_path_factory.mktemp("latents") / "latent.arrow", VECTORS, ids=IDS)


@pytest.fixture(scope="module")
def indexed(latent: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("index") / "latent.index"
    kvae.index(latent, folder, threads=1)
    return folder


def by_definition(queries: np.ndarray, n: int) -> tuple[list[list[int]], np.ndarray]:
    """Rows by falling cosine, from float64."""
    unit, asked = (
        x / np.linalg.norm(x, axis=1, keepdims=True)
        for x in (VECTORS.astype(np.float64), queries.astype(np.float64))
    )
    cosines = asked @ unit.T
    order = np.argsort(-cosines, axis=1)[:, :n]
    return order.tolist(), np.take_along_axis(cosines, order, axis=1)


def test_a_file_is_searched_exactly(latent: Path) -> None:
    found = kvae.search(latent, QUERIES, hits=12)
    rows, cosines = by_definition(QUERIES, 12)
    assert found.rows.tolist() == rows
    assert np.allclose(found.cosines, cosines, atol=1e-6)


def test_an_index_finds_nearly_all(indexed: Path) -> None:
    found = kvae.search(indexed, QUERIES, hits=12)
    rows, cosines = by_definition(QUERIES, 12)
    shared = sum(len({*a} & {*b}) for a, b in zip(found.rows.tolist(), rows, strict=True))
    assert shared / (12 * len(QUERIES)) > 0.95
    assert np.allclose(found.cosines[:, 0], cosines[:, 0], atol=2e-3)


@given(st.integers(0, 2**32 - 1), st.integers(1, 50), st.integers(1, 60))
def test_blocks_do_not_matter(seed: int, n_rows: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    reference = unit_rows(rng.integers(-2, 3, size=(n_rows, 3)).astype(np.float32))
    queries = unit_rows(rng.normal(size=(5, 3)).astype(np.float32))
    rows, cosines = nearest_of_all(reference, queries, n)
    one = [nearest_of_all(reference, query[None], n) for query in queries]
    assert np.allclose(cosines, np.concatenate([found for _, found in one]), atol=1e-6)
    assert rows.shape == (5, min(n, n_rows))
    assert all(len(set(found)) == len(found) for found in rows.tolist())
    assert (np.diff(cosines, axis=1) <= 1e-6).all()


def test_equal_vectors_are_all_found() -> None:
    same = np.tile(unit_rows(np.ones((1, 4), np.float32)), (500, 1))
    rows, cosines = GraphIndex.build(same, threads=1).nearest(same[:3], 40)
    assert rows.shape == (3, 40)
    assert all(len(set(found)) == 40 for found in rows.tolist())
    assert np.allclose(cosines, 1.0, atol=1e-3)


@pytest.mark.parametrize("where", ["latent", "indexed"])
def test_rows_like_a_record_are_not_its_own(where: str, request: pytest.FixtureRequest) -> None:
    path: Path = request.getfixturevalue(where)
    found = kvae.search(path, record="c5", hits=3)
    assert found.queries is not None
    assert found.queries["id"].to_pylist() == ["c5", "c5"]
    assert 10 not in found.rows[0]
    assert 11 not in found.rows[1]
    rows, _ = by_definition(VECTORS[10:12], 4)
    assert found.rows.tolist() == [rows[0][1:], rows[1][1:]]


def test_hits_are_named(latent: Path, tmp_path: Path) -> None:
    query = write_latents(tmp_path / "query.npz", QUERIES, ids=[f"q{i}" for i in range(7)])
    for suffix in (".tsv", ".tsv.gz", ".parquet", ".arrow"):
        output = tmp_path / f"hits{suffix}"
        kvae.search(latent, query, output, hits=2)
        if ".tsv" in suffix:
            table = pl.read_csv(output, separator="\t")
        elif suffix == ".parquet":
            table = pl.read_parquet(output)
        else:
            table = pl.DataFrame(pa.ipc.open_file(str(output)).read_all())
        rows, cosines = by_definition(QUERIES, 2)
        assert table.columns[:5] == ["query", "query_start", "query_end", "rank", "cosine"]
        assert table["query"].to_list() == [f"q{i // 2}" for i in range(14)]
        assert table["rank"].to_list() == [1, 2] * 7
        assert table["id"].to_list() == [IDS[row] for found in rows for row in found]
        assert np.allclose(table["cosine"].to_numpy(), cosines.reshape(-1), atol=1e-5)


def test_sequences_find_themselves(data_files: list[Path], tmp_path: Path) -> None:
    kvae.encode("pretrained", data_files, tmp_path / "latent.arrow", threads=1)
    found = kvae.search(
        tmp_path / "latent.arrow", data_files[2], run="pretrained", hits=1, device="cpu", threads=1
    )
    table = found.table()
    assert table["query"].to_pylist() == table["id"].to_pylist()
    assert table["query_start"].to_pylist() == table["start"].to_pylist()
    assert np.allclose(found.cosines, 1.0, atol=1e-5)
    with pytest.raises(KvaeError, match=r"is no latent file: name the model.*--pretrained"):
        kvae.search(tmp_path / "latent.arrow", data_files[2])


def test_latents_of_two_models_are_refused(latent: Path, indexed: Path, tmp_path: Path) -> None:
    other = write_latents(tmp_path / "other.npz", QUERIES)
    with np.load(other) as archive:
        content = {name: archive[name] for name in archive.files}
    facts = json.loads(str(content["kvae"])) | {"model": "another"}
    np.savez(other, **content | {"kvae": np.array(json.dumps(facts))})
    for reference in (latent, indexed):
        with pytest.raises(KvaeError, match=r"other\.npz is of model another, and .*fingerprint"):
            kvae.search(reference, other)
    with pytest.raises(KvaeError, match=r"vectors of 3 numbers, and .* of 8"):
        kvae.search(latent, QUERIES[:, :3])
    with pytest.raises(KvaeError, match="finite"):
        kvae.search(latent, QUERIES * np.nan)


def test_one_thread_builds_the_same_index(latent: Path, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        kvae.index(latent, folder, threads=1)
    for name in ("vectors.usearch", "rows.arrow", "index.json"):
        first, second = (folder.joinpath(name).read_bytes() for folder in folders)
        assert first == second


def test_an_index_is_replaced_only_by_force(latent: Path, tmp_path: Path) -> None:
    folder = tmp_path / "latent.index"
    kvae.index(latent, folder)
    with pytest.raises(KvaeError, match="exists already"):
        kvae.index(latent, folder)
    kvae.index(latent, folder, force=True)
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(KvaeError, match="holds something else than an index"):
        kvae.index(latent, folder, force=True)
    assert sorted(child.name for child in tmp_path.iterdir()) == ["latent.index"]


def test_a_damaged_index_is_one_line(latent: Path, tmp_path: Path) -> None:
    folder = tmp_path / "latent.index"
    kvae.index(latent, folder)
    for name in ("vectors.usearch", "rows.arrow", "index.json"):
        path = folder / name
        whole = path.read_bytes()
        for damaged in (b"", whole[: len(whole) // 2], b"\x80\x04}" + whole[3 : len(whole) // 2]):
            path.write_bytes(damaged)
            with pytest.raises(KvaeError, match=r"latent\.index.*build the index again") as caught:
                kvae.search(folder, QUERIES)
            assert "\n" not in str(caught.value)
        path.unlink()
        with pytest.raises(KvaeError, match=r"kvae index|build the index again"):
            kvae.search(folder, QUERIES)
        path.write_bytes(whole)
    assert len(kvae.search(folder, QUERIES).rows) == 7


def test_any_damage_to_an_index_is_found(latent: Path, tmp_path: Path) -> None:
    folder = tmp_path / "latent.index"
    kvae.index(latent, folder, threads=1)
    rng = np.random.default_rng(1)
    for name in ("vectors.usearch", "rows.arrow"):
        path = folder / name
        whole = path.read_bytes()
        for at in rng.integers(len(whole), size=20):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :])
            with pytest.raises(KvaeError, match=f"{name}: is damaged: build the index again"):
                kvae.search(folder, QUERIES)
        path.write_bytes(whole)
    # Written before there were checksums.
    facts = json.loads((folder / "index.json").read_text())
    del facts["checksums"]
    (folder / "index.json").write_text(json.dumps(facts))
    assert len(kvae.search(folder, QUERIES).rows) == 7


def test_what_cannot_be_searched_is_refused(latent: Path, tmp_path: Path) -> None:
    with pytest.raises(KvaeError, match="has no record lost"):
        kvae.search(latent, record=["c1", "lost"])
    with pytest.raises(KvaeError, match="at least 1"):
        kvae.search(latent, QUERIES, hits=0)
    with pytest.raises(KvaeError, match="give a query, or"):
        kvae.search(latent)
    with pytest.raises(KvaeError, match=r"hits\.xlsx: unknown format"):
        kvae.search(latent, QUERIES, tmp_path / "hits.xlsx")
    with pytest.raises(KvaeError, match="neither a latent file nor an index"):
        kvae.search(tmp_path, QUERIES)
    assert kvae.search(latent, QUERIES, hits=10_000).rows.shape == (7, N)


def test_the_command_prints_or_writes(
    latent: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    folder = tmp_path / "latent.index"
    assert command(f"kvae index {latent} -o {folder} -q", monkeypatch) == 0
    assert command(f"kvae search {folder} --record c7 -n 2", monkeypatch) == 0
    said = capfdbinary.readouterr()
    lines = said.out.decode().splitlines()
    assert lines[0].startswith("query\tquery_start\tquery_end\trank\tcosine\tid\t")
    assert len(lines) == 5
    assert command(f"kvae search {folder} --record c7 -o {tmp_path}/h.tsv", monkeypatch) == 0
    assert (tmp_path / "h.tsv").read_text().splitlines()[1].startswith("c7\t")
    assert command(f"kvae search {folder}", monkeypatch) == 2
    assert command(f"kvae search {folder} --record c7 -o {tmp_path}/h.tsv", monkeypatch) == 1
    assert b"exists already" in capfdbinary.readouterr().err


def test_latents_in_memory_are_searched(latent: Path) -> None:
    latents = read_latents(latent)
    assert kvae.search(latents, latents, hits=1).rows[:, 0].tolist() == list(range(N))
