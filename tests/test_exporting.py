"""Tables of features in every format, opened by the programs that they are for."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest
from scipy import sparse

import kvae
from in_process import kvae as program
from kvae.errors import KvaeError
from kvae.exporting.vamb import projection
from kvae.latents import read_latents
from latent_files import write_latents
from sequences import fasta, random_sequence, write

SUFFIXES = [".parquet", ".arrow", ".tsv", ".tsv.gz", ".npz", ".h5ad"]
WHATS = ["log", "counts", "frequencies"]
PLACE = ["id", "source", "start", "end", "length", "gc"]


def read(path: Path, what: str) -> tuple[Any, list[str], dict[str, list[Any]]]:
    """Matrix, names of its columns, and the columns beside it, by the format's own reader."""
    if path.name.endswith(".npz"):
        with np.load(path) as archive:
            place = {name: archive[name].tolist() for name in PLACE}
            return archive[what], archive["kmers"].tolist(), place
    if path.suffix == ".h5ad":
        data = anndata.read_h5ad(path)
        matrix = data.X.toarray() if sparse.issparse(data.X) else data.X
        return matrix, data.var_names.tolist(), {name: data.obs[name].tolist() for name in PLACE}
    if path.suffix == ".parquet":
        table = pl.read_parquet(path)
    elif path.suffix == ".arrow":
        table = pl.read_ipc(path)
    else:
        table = pl.read_csv(path, separator="\t", quote_char=None)
    kmers = table.columns[len(PLACE) :]
    return (
        table.select(kmers).to_numpy(),
        kmers,
        {name: table[name].to_list() for name in PLACE},
    )


def expected(store: kvae.FeatureStore, what: str, ks: Sequence[int]) -> Any:
    """The numbers by their definitions."""
    rows = np.arange(len(store))
    if what == "log":
        whole = store.rows(rows)
        return np.hstack([whole[:, store.layout.block(f"{k}-mers").slice] for k in ks])
    counts = [store.counts(rows, k).astype(np.float64) for k in ks]
    if what == "counts":
        return np.hstack(counts)
    return np.hstack([each / each.sum(axis=1, keepdims=True) for each in counts])


@pytest.mark.parametrize("what", WHATS)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_holds_every_number(
    suffix: str,
    what: str,
    small_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Several parts and row groups, none of which ends with the rows.
    monkeypatch.setattr("kvae.exporting.features._NUMBERS", 32 * 300)
    monkeypatch.setattr("kvae.exporting.formats._GROUP", 32 * 500)
    output = tmp_path / f"out{suffix}"
    result = kvae.export(small_file, output, what=what, threads=1)
    assert (result.rows, result.columns, result.content) == (1100, 32, what)
    store = kvae.FeatureStore(small_file)
    matrix, kmers, place = read(output, what)
    assert kmers == kvae.kmers(3)
    exact = what == "counts" or ".tsv" not in suffix
    np.testing.assert_allclose(
        matrix, expected(store, what, [3]), rtol=0 if exact and what != "frequencies" else 1e-6
    )
    assert place["id"] == store.ids.to_pylist()
    assert place["source"] == [store.source_names[code] for code in store.source_codes]
    for name in ("start", "end", "length"):
        assert place[name] == store.column(name).to_pylist(), name
    np.testing.assert_allclose(place["gc"], store.column("gc").to_pylist(), rtol=1e-6)
    assert [path.name for path in tmp_path.iterdir()] == [output.name]


@pytest.mark.parametrize("suffix", [".tsv", ".tsv.gz", ".npz", ".h5ad", ".parquet", ".arrow"])
def test_the_same_rows_give_the_same_bytes(suffix: str, small_file: Path, tmp_path: Path) -> None:
    for name in ("one", "other"):
        kvae.export(small_file, tmp_path / f"{name}{suffix}", what="counts", threads=1)
    one, other = ((tmp_path / f"{name}{suffix}").read_bytes() for name in ("one", "other"))
    assert one == other


def test_chosen_kmers_stand_in_the_order_of_the_layout(feature_file: Path, tmp_path: Path) -> None:
    kvae.export(feature_file, tmp_path / "a.parquet", what="counts", k=[3, 4], threads=1)
    table = pyarrow.parquet.read_table(tmp_path / "a.parquet")
    assert table.column_names == [*PLACE, *kvae.kmers(4), *kvae.kmers(3)]
    assert table.schema.field("AAAA").type == pa.uint32()
    assert table.schema.field("source").type == pa.dictionary(pa.int32(), pa.string())
    facts = json.loads(table.schema.metadata[b"kvae"])
    assert facts["what"] == "counts"
    assert facts["k"] == [4, 3]
    store = kvae.FeatureStore(feature_file)
    assert facts["layout"] == store.layout.fingerprint
    numbers = np.column_stack([column.to_numpy() for column in table.columns[len(PLACE) :]])
    np.testing.assert_array_equal(numbers, expected(store, "counts", [4, 3]))


def test_counts_of_7_mers_are_sparse_for_anndata(feature_file: Path, tmp_path: Path) -> None:
    kvae.export(feature_file, tmp_path / "a.h5ad", what="counts", threads=1)
    data = anndata.read_h5ad(tmp_path / "a.h5ad")
    assert sparse.issparse(data.X)
    assert data.shape == (71, 8360)
    assert data.var["k"].value_counts().to_dict() == {7: 8192, 4: 136, 3: 32}
    assert data.uns["kvae"]["what"] == "counts"
    store = kvae.FeatureStore(feature_file)
    np.testing.assert_array_equal(data.X.toarray(), expected(store, "counts", [7, 4, 3]))
    assert data.obs_names.is_unique
    one = data[data.obs["source"] == store.source_names[2], "AAAAAAA"]
    assert one.shape == (int((store.source_codes == 2).sum()), 1)


def test_sequences_need_no_feature_file(tmp_path: Path, data_files: list[Path]) -> None:
    kvae.export(data_files[:2], tmp_path / "a.tsv", what="counts", k=[2], threads=1)
    table = pd.read_csv(tmp_path / "a.tsv", sep="\t")
    assert table.columns.tolist() == [*PLACE, *kvae.kmers(2)]
    store = kvae.open_sequences(data_files[:2], k=[2], threads=1)
    np.testing.assert_array_equal(table[kvae.kmers(2)], expected(store, "counts", [2]))


def test_names_cannot_break_a_table(tmp_path: Path) -> None:
    source = write(tmp_path / 'a\t"b.fna', fasta([('x"y', random_sequence(3000))]))
    kvae.export(source, tmp_path / "a.tsv", k=[1], threads=1)
    header, row, end = (tmp_path / "a.tsv").read_text().split("\n")
    assert end == ""
    assert len(header.split("\t")) == len(row.split("\t")) == len(PLACE) + 2
    assert row.split("\t")[:2] == ['x"y', f'{tmp_path}/a "b.fna']


# --- mistakes ------------------------------------------------------------------------


def test_what_is_not_exported(small_file: Path, tmp_path: Path) -> None:
    def fails(match: str, source: Any = small_file, name: str = "a.npz", **options: Any) -> None:
        before = sorted(tmp_path.iterdir())
        with pytest.raises(KvaeError, match=match):
            kvae.export(source, tmp_path / name, threads=1, **options)
        assert sorted(tmp_path.iterdir()) == before

    fails("unknown format, the name must end in .parquet", name="a.csv")
    fails("has no 7-mers: it has those of k = 3", k=[7])
    fails("none is asked for", k=[])
    fails("unknown content 'logs'", what="logs")
    fails("no such file", tmp_path / "missing.arrow")
    fails("has no 4-mers, of which VAMB", vamb=True)
    fails(r"VAMB reads \.npz files", vamb=True, name="a.parquet")
    fails("come from a feature file or sequences", np.zeros((2, 8362), np.float32))
    latents = write_latents(tmp_path / "latent.arrow", np.ones((4, 2), np.float32))
    fails("holds latents, which have no k-mers", latents, what="counts")
    fails("holds latents, which have no k-mers", latents, k=[4])
    fails("unknown format", latents, name="a.csv")
    fails("is the input", latents, name="latent.arrow", force=True)
    (tmp_path / "a.npz").write_bytes(b"mine")
    fails("exists already")


def test_an_input_is_not_overwritten(small_file: Path, tmp_path: Path) -> None:
    copy = write(tmp_path / "small.arrow", small_file.read_bytes())
    with pytest.raises(KvaeError, match="is the input"):
        kvae.export(copy, copy, force=True)
    assert copy.read_bytes() == small_file.read_bytes()


# --- latents -------------------------------------------------------------------------

VECTORS = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
IDS = [f"c{i // 4}" for i in range(40)]


@pytest.mark.parametrize("to", SUFFIXES)
@pytest.mark.parametrize("of", SUFFIXES)
def test_latents_from_any_format_to_any(
    of: str, to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvae.exporting.latents._ROWS", 7)
    logvar = -VECTORS if to != ".parquet" else None
    source = write_latents(tmp_path / f"in{of}", VECTORS, ids=IDS, logvar=logvar)
    result = kvae.export(source, tmp_path / f"out{to}")
    assert (result.content, result.rows, result.columns) == ("latents", 40, 3)
    one, other = read_latents(source), read_latents(result.output)
    np.testing.assert_array_equal(other.vectors, VECTORS)
    assert other.ids.to_pylist() == IDS
    assert list(other.source_names) == list(one.source_names)
    for name in ("source_codes", "start", "end", "length"):
        np.testing.assert_array_equal(getattr(other, name), getattr(one, name))
    assert (other.logvar is None) == (logvar is None)
    if ".tsv" not in to:
        assert {k: v for k, v in other.facts.items() if k != "latent"} == {
            k: v for k, v in one.facts.items() if k != "latent"
        }


def test_latents_for_vamb(tmp_path: Path) -> None:
    lengths = [5000, 5000, 5000, 9000] * 10
    source = write_latents(tmp_path / "latent.tsv", VECTORS, ids=IDS, lengths=lengths)
    result = kvae.export(source, tmp_path / "latent.npz", vamb=True)
    assert (result.rows, result.columns) == (10, 3)
    with np.load(tmp_path / "latent.npz") as archive:
        # The one array that vamb.vambtools.read_npz takes.
        matrix = archive["arr_0"]
        assert archive["identifiers"].tolist() == [f"c{i}" for i in range(10)]
    assert matrix.dtype == np.float32
    weights = np.array(lengths, float).reshape(10, 4, 1)
    means = (VECTORS.reshape(10, 4, 3) * weights).sum(axis=1) / weights.sum(axis=1)
    np.testing.assert_allclose(matrix, means, rtol=1e-5)


def test_vamb_cannot_tell_records_of_one_name(tmp_path: Path) -> None:
    sources = ["a.fna"] * 20 + ["b.fna"] * 20
    ids = ["x"] * 20 + ["x"] * 20
    source = write_latents(tmp_path / "latent.npz", VECTORS, ids=ids, sources=sources)
    with pytest.raises(KvaeError, match=r"latent\.npz: has several records named x"):
        kvae.export(source, tmp_path / "vamb.npz", vamb=True)
    assert not (tmp_path / "vamb.npz").exists()


# --- the composition of VAMB ---------------------------------------------------------


def four_mers(sequence: str) -> dict[str, int]:
    """Counts of 4-mers as VAMB makes them: one strand, every window of four bases."""
    counts: dict[str, int] = {}
    for i in range(len(sequence) - 3):
        word = sequence[i : i + 4]
        if set(word) <= set("ACGT"):
            counts[word] = counts.get(word, 0) + 1
    return counts


def free_coordinates(sequence: str) -> Any:
    """The part of the 256 frequencies that VAMB's constraints leave, as a vector of 256.

    It is the least-squares solution under the constraints, written down anew.
    """
    words = [a + b + c + d for a in "ACGT" for b in "ACGT" for c in "ACGT" for d in "ACGT"]
    counts = four_mers(sequence)
    share = np.array([counts.get(word, 0) for word in words], float)
    share = share / share.sum() - 1 / 256
    complement = str.maketrans("ACGT", "TGCA")
    lines = [np.ones(256)]
    for word in words:
        other = word.translate(complement)[::-1]
        lines.append(np.array([(w == word) - float(w == other) for w in words]))
    for three in {word[:3] for word in words}:
        lines.append(np.array([float(w[:3] == three) - float(w[1:] == three) for w in words]))
    constraints = np.array(lines)
    rest: Any = share - np.linalg.pinv(constraints) @ (constraints @ share)
    return rest


RECORDS = [
    ("one", random_sequence(23_000, 1)),
    ("two", random_sequence(7_000, 2, "AAACGT") + "N" * 12_000 + random_sequence(6_000, 3)),
    ("three", random_sequence(2_500, 4, "ACGGT")),
]


@pytest.mark.parametrize("store", ["log", "counts", "packed"])
def test_a_composition_is_that_of_whole_records(tmp_path: Path, store: Any) -> None:
    path = write(tmp_path / "a.fna", fasta(RECORDS))
    kvae.featurize(path, tmp_path / "f.arrow", store=store, k=[4, 7])
    sequences = store == "packed"
    if not sequences:
        kvae.featurize(path, tmp_path / "f.arrow", store=store, sequence=False, force=True)
    result = kvae.export(tmp_path / "f.arrow", tmp_path / "c.npz", vamb=True, threads=1)
    assert (result.content, result.rows, result.columns) == ("composition", 3, 103)
    # As vamb.parsecontigs.Composition.load opens it, and what its constructor asserts.
    with np.load(tmp_path / "c.npz", allow_pickle=True) as archive:
        identifiers, lengths = archive["identifiers"], archive["lengths"]
        mask, minlength = archive["mask"], archive["minlength"].item()
        matrix = archive["matrix"]
    assert identifiers.dtype == object
    assert identifiers.tolist() == ["one", "two", "three"]
    assert lengths.dtype == np.int32
    assert lengths.tolist() == [23_000, 25_000, 2_500]
    assert mask.dtype == bool
    assert mask.tolist() == [True] * 3
    assert isinstance(minlength, int)
    assert minlength == 1000 <= lengths.min()
    assert matrix.dtype == np.float32
    assert matrix.shape == (3, 103)
    free = np.array([free_coordinates(sequence) for _, sequence in RECORDS])
    # Bases are arbitrary: what stays is every length and every angle.
    tolerance = 1e-7 if sequences else 2e-5
    np.testing.assert_allclose(matrix @ matrix.T, free @ free.T, atol=tolerance)


def test_the_projection_is_orthonormal_in_the_space_of_all_4_mers() -> None:
    # A canonical 4-mer stands for two but where it is its own reverse complement.
    complement = str.maketrans("ACGT", "TGCA")
    own = np.array([word == word.translate(complement)[::-1] for word in kvae.kmers(4)])
    kernel = projection()
    assert kernel.shape == (136, 103)
    whole = kernel * np.where(own, 1.0, np.sqrt(2.0))[:, None]
    np.testing.assert_allclose(whole.T @ whole, np.eye(103), atol=1e-12)
    np.testing.assert_allclose(np.where(own, 1.0, 2.0) @ kernel, 0.0, atol=1e-12)


def test_one_name_in_two_files_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"{name}.fna", fasta([("x", random_sequence(2000))]))
    with pytest.raises(KvaeError, match="several records named x"):
        kvae.export(
            [tmp_path / "a.fna", tmp_path / "b.fna"], tmp_path / "c.npz", vamb=True, threads=1
        )


# --- the command ---------------------------------------------------------------------


def test_the_command(
    small_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    line = f"kvae export {small_file} -o a.tsv.gz --what counts --k 3"
    assert program(line, monkeypatch) == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == "a.tsv.gz: counts, 1,100 rows of 32 columns\n"
    kvae.export(small_file, tmp_path / "b.tsv.gz", what="counts")
    assert (tmp_path / "a.tsv.gz").read_bytes() == (tmp_path / "b.tsv.gz").read_bytes()
    assert gzip.decompress((tmp_path / "a.tsv.gz").read_bytes()).startswith(b"id\tsource\tstart")
    assert program(line, monkeypatch) == 1
    assert "exists already" in capsys.readouterr().err
    assert program(line + " --force -q", monkeypatch) == 0
    assert capsys.readouterr().err == ""
    assert program(f"kvae export {small_file} -o b.tsv --k 7,x", monkeypatch) == 2
    assert program(f"kvae export {small_file}", monkeypatch) == 2
