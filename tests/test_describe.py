"""The k-mer space of a feature file, held against numpy from the definitions."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import kvae
from kvae.description.moments import Moments
from kvae.errors import KvaeError
from sequences import fails, fasta, listing, random_sequence, run_kvae, write

RECORDS = [
    ("even", random_sequence(7_000, 1)),
    ("odd", "N" * 40 + random_sequence(3_000, 2) + "NRY" + random_sequence(2_000, 3)),
    ("repeat", "ACGTTGCA" * 250),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same rows in each kind of store."""
    folder = tmp_path_factory.mktemp("stores")
    sequences = write(folder / "a.fna", fasta(RECORDS))
    more = write(folder / "b.fna", fasta([("b", random_sequence(2_500, 4))]))
    paths: dict[str, Path] = {}
    kinds: list[Literal["log", "counts", "packed"]] = ["log", "counts", "packed"]
    for kind in kinds:
        paths[kind] = folder / f"{kind}.arrow"
        kvae.featurize([sequences, more], paths[kind], window=1_000, store=kind)
    return paths


def expected(path: Path, k: int) -> dict[str, Any]:
    """All rows at once, from counts: nothing streamed, nothing merged."""
    store = kvae.FeatureStore(path)
    rows = np.arange(len(store))
    counts = store.counts(rows, k).astype(float)
    frequency = counts / counts.sum(axis=1, keepdims=True)
    logs = np.log(frequency + 1e-6)
    present = counts > 0
    when_present = [logs[present[:, j], j] for j in range(logs.shape[1])]
    return {
        "total_variance": logs.var(axis=0),
        "presence_rate": present.mean(axis=0),
        "variance_when_present": np.array([v.var() if len(v) else np.nan for v in when_present]),
        "mean_when_present": np.array([v.mean() if len(v) else np.nan for v in when_present]),
        "mean_frequency": frequency.mean(axis=0),
        "present_kmers": present.sum(axis=1),
    }


@pytest.mark.parametrize("kind", ["log", "counts", "packed"])
@pytest.mark.parametrize("k", [7, 4, 3])
def test_figures_are_those_of_the_definitions(files: dict[str, Path], kind: str, k: int) -> None:
    described = kvae.describe(files[kind], k=k)
    wanted = expected(files[kind], k)
    n_present = wanted.pop("present_kmers")
    assert described.rows["present_kmers"].tolist() == n_present.tolist()
    rate = described.kmers["presence_rate"]
    assert np.array_equal(rate, wanted.pop("presence_rate"))
    for name, values in wanted.items():
        # The rows are float32: seven digits of numbers near 10.
        np.testing.assert_allclose(
            described.kmers[name], values, rtol=2e-5, atol=2e-6, err_msg=name
        )


def test_variance_splits_into_presence_and_the_rest(files: dict[str, Path]) -> None:
    kmers = kvae.describe(files["log"]).kmers
    rate, mean = kmers["presence_rate"], np.nan_to_num(kmers["mean_when_present"])
    between = rate * (1 - rate) * (mean - np.log(1e-6)) ** 2
    within = rate * np.nan_to_num(kmers["variance_when_present"])
    np.testing.assert_allclose(between + within, kmers["total_variance"], rtol=1e-5, atol=1e-6)
    total = kmers["total_variance"]
    share = np.divide(between, total, out=np.zeros_like(total), where=total > 1e-9)
    np.testing.assert_allclose(
        kmers["presence_share"][total > 1e-9], share[total > 1e-9], rtol=1e-4
    )


def test_names_and_their_gc(files: dict[str, Path]) -> None:
    kmers = kvae.describe(files["packed"], k=3).kmers
    assert kmers["kmer"].tolist() == kvae.kmers(3)
    by_name = dict(zip(kmers["kmer"].tolist(), kmers["gc"].tolist(), strict=True))
    assert (by_name["AAA"], by_name["ACA"], by_name["CCC"]) == (0.0, 1 / 3, 1.0)


def test_rows_and_letters(files: dict[str, Path]) -> None:
    described = kvae.describe(files["log"])
    store = kvae.FeatureStore(files["log"])
    letters = b"".join(store.sequences(np.arange(len(store))))
    summary = described.summary()
    assert (summary["rows"], summary["sources"], summary["bases"]) == (len(store), 2, len(letters))
    assert described.other_letters == letters.count(b"N") / len(letters)
    lengths = store.column("length").to_numpy()
    assert summary["quantiles"]["row_length"]["median"] == np.median(lengths)
    assert described.rows["valid_windows"].max() == 1.0
    valid = store.column("n7").to_numpy() / (lengths - 6)
    assert np.array_equal(described.rows["valid_windows"], valid)
    rate = described.kmers["presence_rate"]
    assert summary["kmers_never_present"] == (rate == 0).sum() > 0


def test_without_sequences_the_share_of_other_letters_is_unknown(tmp_path: Path) -> None:
    path = write(tmp_path / "a.fna", fasta(RECORDS))
    kvae.featurize(path, tmp_path / "feats.arrow", sequence=False)
    assert kvae.describe(tmp_path / "feats.arrow").other_letters is None


# --- moments -------------------------------------------------------------------------


@given(
    values=hnp.arrays(np.float64, (23, 3), elements=st.floats(-1e3, 1e3)),
    mask=hnp.arrays(np.bool_, (23, 3)),
    cut=st.integers(0, 23),
)
def test_moments_of_batches_are_those_of_the_whole(values: Any, mask: Any, cut: int) -> None:
    moments = Moments(3)
    moments.add(values[:cut], mask[:cut])
    moments.add(values[cut:], mask[cut:])
    for column in range(3):
        marked = values[mask[:, column], column]
        assert moments.n[column] == len(marked)
        if len(marked):
            np.testing.assert_allclose(moments.mean[column], marked.mean(), atol=1e-9)
            np.testing.assert_allclose(moments.variance[column], marked.var(), rtol=1e-9, atol=1e-9)
        else:
            assert np.isnan(moments.variance[column])


def test_a_variance_far_below_the_mean_keeps_its_digits() -> None:
    rng = np.random.default_rng(0)
    values = 1e8 + rng.normal(size=(10_000, 1))
    moments = Moments(1)
    for part in np.array_split(values, 37):
        moments.add(part)
    np.testing.assert_allclose(moments.variance, values.var(axis=0), rtol=1e-7)


# --- files ---------------------------------------------------------------------------


def test_every_table_holds_the_same(files: dict[str, Path], tmp_path: Path) -> None:
    for name in ("kmers.tsv", "kmers.parquet", "kmers.arrow"):
        described = kvae.describe(files["counts"], tmp_path / "out", table=name, force=True)
    kmers = described.kmers
    parquet = pl.read_parquet(tmp_path / "out/kmers.parquet")
    with pa.memory_map(str(tmp_path / "out/kmers.arrow")) as source:
        arrow = pa.ipc.open_file(source).read_all()
    with (tmp_path / "out/kmers.tsv").open(newline="") as file:
        lines = list(csv.DictReader(file, delimiter="\t"))
    for name, values in kmers.items():
        wanted = [None if value != value else value for value in values.tolist()]
        assert parquet[name].to_list() == wanted
        assert arrow[name].to_pylist() == wanted
        convert = str if name == "kmer" else float
        assert [convert(line[name]) if line[name] else None for line in lines] == wanted
    assert json.loads((tmp_path / "out/summary.json").read_text()) == json.loads(
        described.as_json()
    )
    for name in ("kmers.png", "kmers.svg"):
        assert (tmp_path / "out" / name).stat().st_size > 10_000


def test_the_same_file_gives_the_same_bytes(files: dict[str, Path], tmp_path: Path) -> None:
    kvae.describe(files["log"], tmp_path / "a")
    kvae.describe(files["log"], tmp_path / "b")
    assert listing(tmp_path / "a") == listing(tmp_path / "b")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 5}, "has no 5-mers; its k are 7, 4, 3"),
        ({"table": "kmers.xlsx"}, r"unknown format.*\.tsv, \.parquet, \.arrow"),
        ({"table": "../kmers.tsv"}, "name the table alone"),
    ],
)
def test_mistakes(
    files: dict[str, Path], tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(KvaeError, match=message):
        kvae.describe(files["log"], tmp_path / "out", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_existing_files_are_kept_without_force(files: dict[str, Path], tmp_path: Path) -> None:
    write(tmp_path / "kmers.tsv", b"precious")
    before = listing(tmp_path)
    with pytest.raises(KvaeError, match=r"kmers.tsv: exists already"):
        kvae.describe(files["log"], tmp_path)
    assert listing(tmp_path) == before


# --- the program ---------------------------------------------------------------------


def test_the_program(files: dict[str, Path], tmp_path: Path) -> None:
    result = run_kvae("describe", files["log"], "--json", "-o", "out", "-q", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == (tmp_path / "out/summary.json").read_text()
    result = run_kvae("describe", files["log"], "--k", "3", cwd=tmp_path)
    assert result.returncode == 0
    assert "32 canonical 3-mers" in result.stdout
    assert "variance when present" in result.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert "missing.arrow: no such file" in fails(run_kvae("describe", "missing.arrow"))
