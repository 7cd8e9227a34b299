"""Reading records as they are written."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from kvae.errors import KvaeError
from kvae.records import read_records
from sequences import bgzf, fasta, fastq, random_sequence, write

RECORDS = [
    ("a first", "ACGTNacgtRYK-*"),
    ("b", random_sequence(500)),
    ("", "ACGT"),
    ("empty", ""),
    ("ü tab\there", "G" * 81),
]
IDS = ["a", "b", "record_3", "empty", "ü"]

FORMS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda text: text,
    "gzip": gzip.compress,
    "two members": lambda text: gzip.compress(text[:100]) + gzip.compress(text[100:]),
    "bgzf": bgzf,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda text: pa.compress(text, codec="zstd", asbytes=True),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_records_keep_their_letters(tmp_path: Path, form: str, newline: str) -> None:
    text = fasta(RECORDS, newline=newline)
    path = write(tmp_path / "records", FORMS[form](text))
    records = list(read_records(path))
    assert [(record.header, record.sequence) for record in records] == RECORDS
    assert [record.id for record in records] == IDS


@pytest.mark.parametrize("form", FORMS)
def test_fastq_is_read(tmp_path: Path, form: str) -> None:
    kept = [record for record in RECORDS if record[1]]
    path = write(tmp_path / "records", FORMS[form](fastq(kept)))
    assert [(record.header, record.sequence) for record in read_records(path)] == kept


def test_text_around_records_is_read_as_meant(tmp_path: Path) -> None:
    text = b"\xef\xbb\xbf\n\n>a\nAC GT\n\nAC\tGT\n>b\xff c\nTT"
    path = write(tmp_path / "records.fa", text.replace(b"\xef\xbb\xbf\n\n", b"\xef\xbb\xbf"))
    records = list(read_records(path))
    assert [record.sequence for record in records] == ["ACGTACGT", "TT"]
    assert records[1].id == "b�"


@pytest.mark.parametrize("form", ["gzip", "bzip2", "xz", "zstd"])
def test_damage_is_one_line(tmp_path: Path, form: str) -> None:
    whole = FORMS[form](fasta([("a", random_sequence(50_000))]))
    path = write(tmp_path / "records.fa", whole[: len(whole) // 2])
    with pytest.raises(KvaeError, match=r"records\.fa: ") as caught:
        list(read_records(path))
    assert "\n" not in str(caught.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(KvaeError, match=r"missing\.fa: no such file"):
        list(read_records(tmp_path / "missing.fa"))
    with pytest.raises(KvaeError, match="neither FASTA nor FASTQ"):
        list(read_records(write(tmp_path / "text.fa", b"hello")))
