"""Labels of rows: the table, and which row a line is about."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import kvae
from kvae.errors import KvaeError
from kvae.labels import SOURCE, label_rows, read_labels
from kvae.store import FeatureStore
from sequences import fasta, random_sequence, write


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """Five rows: two records of a.fna, the first in two rows, and two of b.fna."""
    folder = tmp_path_factory.mktemp("labels")
    records = {
        "a.fna": [("a1", random_sequence(10_000, 1)), ("a2", random_sequence(5000, 2))],
        "b.fna": [("b1", random_sequence(5000, 3)), ("b2", random_sequence(5000, 4))],
    }
    files = [write(folder / name, fasta(found)) for name, found in records.items()]
    kvae.featurize(files, folder / "feats.arrow", threads=1)
    return FeatureStore(folder / "feats.arrow", threads=1)


def table(folder: Path, text: str) -> Path:
    path = folder / "labels.tsv"
    path.write_text(text)
    return path


def test_rows_are_labelled_by_record(rows: FeatureStore, tmp_path: Path) -> None:
    path = table(tmp_path, "contig\tspecies\tnote\na1\tone\tx\nb2\ttwo\ty\nother\tthree\tz\n")
    found = label_rows(rows, read_labels(path))
    assert found.matched == 3
    assert list(found.columns) == ["species", SOURCE]
    assert found.columns["species"].tolist() == ["one", "one", "", "", "two"]
    assert [Path(name).name for name in found.columns[SOURCE]] == ["a.fna"] * 3 + ["b.fna"] * 2
    assert found.take(np.array([4, 0]))["species"].tolist() == ["two", "one"]


def test_rows_are_labelled_by_file_unless_by_record(rows: FeatureStore, tmp_path: Path) -> None:
    path = table(tmp_path, "key\tlabel\na.fna\tA\na2\tB\nb.fna\t?\n")
    found = label_rows(rows, read_labels(path))
    assert found.columns["label"].tolist() == ["A", "A", "B", "", ""]
    whole = table(tmp_path, f"key\tlabel\n{rows.source_names[1]}\tC\n")
    assert label_rows(rows, read_labels(whole)).columns["label"].tolist() == ["", "", "", "C", "C"]


def test_one_file_is_no_label(tmp_path: Path) -> None:
    path = write(tmp_path / "one.fna", fasta([("r", random_sequence(5000, 1))]))
    kvae.featurize(path, tmp_path / "one.arrow", threads=1)
    assert label_rows(FeatureStore(tmp_path / "one.arrow", threads=1)).columns == {}


@pytest.mark.parametrize(
    ("header", "by", "chosen"),
    [
        ("key\tgenus\tspecies\tother", [], ["species", "genus"]),
        ("key\tother\tmore\tlast", [], ["other"]),
        ("key\tgenus\tspecies\tother", ["other", "genus", "other"], ["other", "genus"]),
        ("key\tlabel\tspecies_cluster95\tgenome", [], ["genome", "species_cluster95", "label"]),
    ],
)
def test_columns_that_are_scored(
    tmp_path: Path, header: str, by: list[str], chosen: list[str]
) -> None:
    path = table(tmp_path, f"{header}\nx\t1\t2\t3\n")
    assert read_labels(path).choose(by) == chosen


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "needs a header of two or more columns"),
        ("key\nx\n", "needs a header of two or more columns"),
        ("key\tlabel\nx\n", "line 2 has 1 columns, and the header 2"),
        ("key\tlabel\tlabel\nx\t1\t2\n", "two columns of one name"),
        ("key\tlabel\nx\t1\ny\t2\nx\t3\n", "two lines about x"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    path = table(tmp_path, text)
    with pytest.raises(KvaeError, match=message) as caught:
        read_labels(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_files_that_are_no_table(tmp_path: Path) -> None:
    with pytest.raises(KvaeError, match=r"missing.tsv: no such file"):
        read_labels(tmp_path / "missing.tsv")
    (tmp_path / "binary.tsv").write_bytes(b"key\tlabel\n\xff\xfe\n")
    with pytest.raises(KvaeError, match="no table of text in UTF-8"):
        read_labels(tmp_path / "binary.tsv")
    with pytest.raises(KvaeError, match="is a directory"):
        read_labels(tmp_path)


def test_tables_of_something_else(rows: FeatureStore, tmp_path: Path) -> None:
    path = table(tmp_path, "contig\tspecies\nc1\tone\n")
    with pytest.raises(KvaeError, match=r"labels.tsv: names no record and no file of .*contig"):
        label_rows(rows, read_labels(path))
    with pytest.raises(KvaeError, match=r"has no column genus; its labels are species"):
        read_labels(path).choose(["genus"])


def test_names_of_records_in_several_files(tmp_path: Path) -> None:
    files = [
        write(tmp_path / name, fasta([("r1", random_sequence(5000, i)), (name, "ACGT" * 500)]))
        for i, name in enumerate(("a.fna", "b.fna"))
    ]
    kvae.featurize(files, tmp_path / "two.arrow", threads=1)
    store = FeatureStore(tmp_path / "two.arrow", threads=1)
    found = label_rows(store, read_labels(table(tmp_path, "id\tlabel\nr1\tx\na.fna\ty\n")))
    assert found.shared == 1
    assert found.columns["label"].tolist() == ["x", "y", "x", ""]
