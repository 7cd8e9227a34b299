"""Which files are read, what is odd about them, and what is wrong."""

from __future__ import annotations

import gzip
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import kvae
import reference
from feature_tables import (
    GOOD,
    RECORDS,
    TRUNCATED,
    featurized,
    table,
)
from sequences import (
    COMPRESSED,
    bgzf,
    fasta,
    fastq,
    listing,
    random_sequence,
    write,
)

# --- names of the sources ----------------------------------------------------------


def test_sources_are_named_as_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("b.fna", "a.txt", "d/z.fa", "d/deep/er.fasta", "d/A.FA", "e/x.fa", "e/.h.fa"):
        write(tmp_path / name, fasta([(name, random_sequence(1_000))]))
    write(tmp_path / "list.txt", b"./e/../b.fna\r\n\ne\n")
    inputs = ["./a.txt", "d/", str(tmp_path / "d/z.fa"), "@list.txt"]
    result = kvae.featurize(inputs, "out.arrow", k=[7])
    names = [
        "./a.txt",
        "d/A.FA",
        "d/deep/er.fasta",
        "d/z.fa",
        "./e/../b.fna",
        "e/x.fa",
    ]
    rows = table(tmp_path / "out.arrow")
    assert rows["source"].to_pylist() == names
    assert result.files == len(names)
    assert len(result.warnings) == 1
    assert str(tmp_path / "d/z.fa") in result.warnings[0]
    dictionary = rows["source"].chunk(0).dictionary.to_pylist()
    assert dictionary == names


def test_a_directory_without_a_slash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "d/x/a.fq", fastq([("a", random_sequence(1_000))]))
    for given_as, name in [("d", "d/x/a.fq"), ("./d", "./d/x/a.fq"), (".", "./d/x/a.fq")]:
        kvae.featurize(given_as, "out.arrow", k=[7], force=True)
        assert table(tmp_path / "out.arrow")["source"].to_pylist() == [name]


def test_a_path_may_be_given_as_any_kind(tmp_path: Path) -> None:
    path = write(tmp_path / "a.fna", fasta(RECORDS))
    inputs: list[Any] = [path, str(path), [path], (str(path),), iter([path])]
    for i, given_as in enumerate(inputs):
        kvae.featurize(given_as, str(tmp_path / f"{i}.arrow"), k=[7])
    assert len({(tmp_path / f"{i}.arrow").read_bytes() for i in range(len(inputs))}) == 1


# --- names of the records ----------------------------------------------------------


def test_an_id_is_the_first_word(tmp_path: Path) -> None:
    sequence = random_sequence(1_000)
    headers = ["a b c", "b\tc", "NC_1.1|x;y=z", "é", "x" * 5_000, ">b", " lost"]
    rows = featurized(tmp_path, fasta([(header, sequence) for header in headers]), k=[7])
    ids = ["a", "b", "NC_1.1|x;y=z", "é", "x" * 5_000, ">b", "record_7"]
    assert rows["id"].to_pylist() == ids


def test_odd_names_are_warned_of(tmp_path: Path) -> None:
    sequence = random_sequence(1_000).encode()
    names = [b"a", b"", b"b", b"a", b"caf\xe9", b"  x"]
    text = b"".join(b">" + name + b"\n" + sequence + b"\n" for name in names)
    path = write(tmp_path / "odd.fna", text)
    result = kvae.featurize(path, tmp_path / "out.arrow", k=[7])
    ids = table(tmp_path / "out.arrow")["id"].to_pylist()
    assert ids == ["a", "record_2", "b", "a", "caf\ufffd", "record_6"]
    assert len(result.warnings) == 3
    assert all(str(path) in warning and "\n" not in warning for warning in result.warnings)
    told = " ".join(result.warnings)
    assert all(word in told for word in ("record_N", "UTF-8", "'a'"))


def test_the_same_name_in_two_files_is_normal(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"in/{name}.fa", fasta([("contig_1", random_sequence(1_000))]))
    result = kvae.featurize(tmp_path / "in", tmp_path / "out.arrow", k=[7])
    assert (result.rows, result.warnings) == (2, [])


# --- inputs that are odd or wrong --------------------------------------------------


def test_a_blocked_file_without_its_end_is_warned_of(tmp_path: Path) -> None:
    path = write(tmp_path / "a.fna.gz", bgzf(fasta(RECORDS), end=False))
    result = kvae.featurize(path, tmp_path / "out.arrow", k=[7])
    assert result.rows == len(reference.cut(RECORDS).rows)
    (warning,) = result.warnings
    assert str(path) in warning
    assert "BGZF" in warning


def test_an_empty_file_in_a_folder_is_warned_of(tmp_path: Path) -> None:
    write(tmp_path / "in/a.fa", fasta(RECORDS))
    for name, content in [("b.fa", b""), ("c.fa.gz", gzip.compress(b"")), ("d.fa", b"\n\n")]:
        write(tmp_path / "in" / name, content)
    result = kvae.featurize(tmp_path / "in", tmp_path / "out.arrow", k=[7])
    assert (result.rows, len(result.warnings)) == (len(reference.cut(RECORDS).rows), 3)
    told = Counter(Path(warning.split(":")[0]).name for warning in result.warnings)
    assert set(told) == {"b.fa", "c.fa.gz", "d.fa"}


FLIPPED = bytearray(gzip.compress(GOOD))
FLIPPED[len(FLIPPED) // 2] ^= 0x55

MISTAKES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty"),
    "blank": (b"\n \n", "empty"),
    "empty, compressed": (gzip.compress(b""), "empty"),
    "protein": (b">sp|P1\nMKVLATTEEQFL\n", "line 2.*'[EFLQ]'"),
    "protein, late": (GOOD + b">p\nMKV\nACE\n", r"line \d+.*'E'"),
    "digit": (b">a\nACGT\nAC1GT\n", "line 3.*'1'"),
    "comment": (b">a\nACGT\n;comment\n", "line 3.*';'"),
    "odd letter": (b">a\nACGTX\n", "line 2.*'X'"),
    "zero byte": (b">a\nAC\0GT\n", "line 2"),
    "table": (b"id,length\na,5\n", "FASTA"),
    "no header": (b"ACGTACGT\n", "FASTA"),
    "truncated gzip": (TRUNCATED, "truncated"),
    "truncated gzip, no trailer": (gzip.compress(GOOD)[:-4], "truncated"),
    "corrupt gzip": (bytes(FLIPPED), "corrupt"),
    "wrong CRC": (gzip.compress(GOOD)[:-8] + bytes(4) + gzip.compress(GOOD)[-4:], "corrupt"),
    "wrong size": (gzip.compress(GOOD)[:-4] + bytes(4), "corrupt"),
    "trailing garbage": (gzip.compress(GOOD) + b"garbage", "trailing"),
    "gzip in gzip": (gzip.compress(gzip.compress(GOOD)), "twice"),
    "truncated bgzf": (bgzf(GOOD)[:-40], "truncated"),
    "truncated bzip2": (COMPRESSED["bzip2"](GOOD)[:-20], "truncated"),
    "truncated xz": (COMPRESSED["xz"](GOOD)[:-20], "truncated"),
    "truncated zstd": (COMPRESSED["zstd"](GOOD)[:-20], "truncated"),
    "zip": (b"PK\x03\x04" + bytes(100), "zip"),
    "FASTQ over many lines": (b"@a\nACGT\nACGT\n+\n!!!!\n!!!!\n", "line 3.*four lines"),
    "FASTQ of unequal lengths": (b"@a\nACGT\n+\n!!!\n", "line 4.*quality"),
    "FASTQ that ends early": (fastq(RECORDS) + b"@z\nACGT\n", "truncated"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_bad_file_fails_the_run(tmp_path: Path, mistake: str) -> None:
    content, message = MISTAKES[mistake]
    good = write(tmp_path / "good.fna", GOOD)
    bad = write(tmp_path / "bad.fna", content)
    before = listing(tmp_path)
    with pytest.raises(kvae.KvaeError) as error:
        kvae.featurize([good, bad], tmp_path / "out.arrow", k=[7])
    told = str(error.value)
    assert told.startswith(str(bad))
    assert re.search(message, told), told
    assert "\n" not in told
    assert listing(tmp_path) == before


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_bad_file_can_be_left_out(tmp_path: Path, mistake: str) -> None:
    paths = [write(tmp_path / "1.fna", GOOD), tmp_path / "bad.fna", tmp_path / "2.fna"]
    write(paths[1], MISTAKES[mistake][0])
    write(paths[2], fasta(RECORDS[:1]))
    result = kvae.featurize(paths, tmp_path / "out.arrow", k=[7], skip_bad=True)
    (told,) = result.bad
    assert told.startswith(str(paths[1]))
    rows = table(tmp_path / "out.arrow")
    expected = [*reference.cut(RECORDS).rows, *reference.cut(RECORDS[:1]).rows]
    assert rows["id"].to_pylist() == [row.id for row in expected]
    assert set(rows["source"].to_pylist()) == {str(paths[0]), str(paths[2])}
    assert result.rows == len(expected)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("order", ["gb", "bg", "gbb", "bgb", "gbbbbbb"])
def test_bad_files_may_come_anywhere(tmp_path: Path, order: str, threads: int) -> None:
    paths = [
        write(tmp_path / f"{i}.{kind}", GOOD if kind == "g" else b">a\nMEQ\n")
        for i, kind in enumerate(order)
    ]
    result = kvae.featurize(paths, tmp_path / "out.arrow", k=[3], skip_bad=True, threads=threads)
    assert len(result.bad) == order.count("b")
    assert result.rows == len(reference.cut(RECORDS).rows)


def test_several_bad_files_are_all_named(tmp_path: Path) -> None:
    paths = []
    for i, (content, _) in enumerate(MISTAKES.values()):
        paths += [write(tmp_path / f"{i}.bad", content), write(tmp_path / f"{i}.good", GOOD)]
    result = kvae.featurize(paths, tmp_path / "out.arrow", k=[3], skip_bad=True)
    assert len(result.bad) == len(MISTAKES)
    assert all(told.startswith(str(tmp_path)) and ".bad" in told for told in result.bad)
    assert result.rows == len(MISTAKES) * len(reference.cut(RECORDS).rows)


def test_nothing_but_bad_files(tmp_path: Path) -> None:
    path = write(tmp_path / "bad.fna", TRUNCATED)
    with pytest.raises(kvae.KvaeError, match="no row is left"):
        kvae.featurize(path, tmp_path / "out.arrow", skip_bad=True)
    assert list(listing(tmp_path)) == ["bad.fna"]


def test_an_unreadable_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.fna", GOOD)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user can read everything")
    with pytest.raises(kvae.KvaeError, match=f"{path}: permission denied"):
        kvae.featurize(path, tmp_path / "out.arrow")


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        ([("a", random_sequence(999))], "shorter"),
        ([("a", "N" * 5_000)], "no run of 7"),
        ([("a", "ACGTACN" * 1_000)], "no run of 7"),
        ([("a", "")], "shorter"),
    ],
)
def test_a_run_without_rows_is_an_error(
    tmp_path: Path, records: list[tuple[str, str]], reason: str
) -> None:
    path = write(tmp_path / "a.fna", fasta(records))
    with pytest.raises(kvae.KvaeError) as error:
        kvae.featurize(path, tmp_path / "out.arrow")
    assert "no row is left" in str(error.value)
    assert reason in str(error.value)
    assert list(listing(tmp_path)) == ["a.fna"]


@pytest.mark.parametrize("inputs", [[], [""], ["missing.fna"], ["@missing.txt"]])
def test_inputs_that_are_not_there(tmp_path: Path, inputs: list[str]) -> None:
    with pytest.raises(kvae.KvaeError) as error:
        kvae.featurize(inputs, tmp_path / "out.arrow")
    assert "\n" not in str(error.value)
    assert all(name.strip("@") in str(error.value) for name in inputs)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_sequences(tmp_path: Path) -> None:
    write(tmp_path / "in/notes.txt", b"no sequence")
    with pytest.raises(kvae.KvaeError, match=r"in: no sequence file.*\.fna"):
        kvae.featurize(tmp_path / "in", tmp_path / "out.arrow")


@pytest.mark.parametrize(
    "option",
    [{"window": -1}, {"min_length": -1}, {"threads": 0}, {"threads": -1}, {"k": [-1]}],
    ids=str,
)
def test_numbers_that_make_no_sense(tmp_path: Path, option: dict[str, Any]) -> None:
    path = write(tmp_path / "a.fna", GOOD)
    with pytest.raises((kvae.KvaeError, ValueError)):
        kvae.featurize(path, tmp_path / "out.arrow", **option)
    assert list(listing(tmp_path)) == ["a.fna"]
