"""A table of texts and compressed files: the rows they give, or the line that refuses them.

What is right comes from `reference`, which shares nothing with the package; what is wrong
must fail with exit code 1, one line that names the file and fits the pattern, and nothing
written.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import contract
import reference
from feature_tables import check_rows, table
from sequences import BGZF_END, bgzf, fasta, random_sequence, write, zstd

A = random_sequence(200, 1)
B = random_sequence(90, 2)
Records = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Case:
    """A file, and what is to come of it: records, or an error."""

    name: str
    content: bytes
    records: Records | None = None
    error: str | None = None
    warning: str | None = None
    file: str = "in.fa"


def reads(
    name: str, content: bytes, records: Records, warning: str | None = None, file: str = "in.fa"
) -> Case:
    return Case(name, content, records=records, warning=warning, file=file)


def refused(name: str, content: bytes, error: str, file: str = "in.fa") -> Case:
    return Case(name, content, error=error, file=file)


AB = [("a", A), ("b", B)]


def spelled(newline: str, end: str | None = None, width: int = 60) -> bytes:
    text = fasta(AB, width=width, newline=newline)
    return text if end is None else text.removesuffix(newline.encode()) + end.encode()


def quality(sequence: str) -> str:
    return ("@+>IJ" * len(sequence))[: len(sequence)]


def four(newline: str = "\n", last: str = "\n") -> bytes:
    lines = [line for name, s in AB for line in (f"@{name}", s, "+", quality(s))]
    return (newline.join(lines) + last).encode()


NEWLINES = {"LF": "\n", "CRLF": "\r\n", "CR": "\r"}

LETTERS = [
    *(
        reads(f"letter {letter}", f">a\n{A}{letter}{B}\n".encode(), [("a", f"{A}{letter}{B}")])
        for letter in "ACGTUacgtuRYSWKMBDHVNryswkmbdhvn-*"
    ),
    *(
        refused(
            f"letter {letter!r}",
            b">a\n" + A.encode() + b"\n" + letter + b"\n",
            rf"in\.fa, line 3: .*'{re.escape(shown)}'",
        )
        for letter, shown in [
            *(
                (bytes([byte]), chr(byte))
                for byte in b"EFIJLOPQXZefijlopqxz0123456789;.,:/?!#$%&()[]{}|~^_=+<@"
            ),
            (b"\0", r"\u{0}"),
            (b"\x0b", r"\u{b}"),
            (b"\x0c", r"\u{c}"),
            (b"\x7f", r"\u{7f}"),
            (b"\x80", r"\u{80}"),
            (b"\xff", r"\u{ff}"),
            (b"\xc3\xa9", r"\u{c3}"),
        ]
    ),
    refused("'>' within a line", f">a\n{A}\nACG>b\n".encode(), r"line 3: .*'>'"),
    refused("'>' after a space", f">a\n{A}\n >b\n{B}\n".encode(), r"line 3: .*'>'"),
    refused("wrong letter after a long line", f">a\n{A * 9_000}\nJ\n".encode(), "line 3: .*'J'"),
    refused("wrong letter in a long line", f">a\n{A * 9_000}J{A}\n".encode(), "line 2: .*'J'"),
    refused("wrong letter of a FASTQ", b"@a\nACGTJ\n+\nIIIII\n", "line 2: .*'J'"),
]

LINES = [
    *(
        reads(f"FASTA, {kind}, {how}", spelled(newline, end), AB)
        for kind, newline in NEWLINES.items()
        for how, end in [("ended", None), ("open", ""), ("ended twice", newline * 2)]
    ),
    *(
        reads(f"FASTQ, {kind}, {how}", four(newline, last), AB)
        for kind, newline in NEWLINES.items()
        for how, last in [("ended", newline), ("open", ""), ("ended twice", newline * 2)]
    ),
    reads("LF and CR", spelled("\n").replace(b"\n", b"\n\r"), AB),
    reads("a byte order mark", b"\xef\xbb\xbf" + spelled("\n"), AB),
    reads("a byte order mark of FASTQ", b"\xef\xbb\xbf" + four(), AB),
    reads("a mark and blank lines", b"\xef\xbb\xbf\r\n\r\n" + spelled("\r\n"), AB),
    reads("blank lines everywhere", spelled("\n").replace(b"\n", b"\n\n\n"), AB),
    reads("blank lines of spaces", spelled("\n").replace(b"\n", b"\n \t\n"), AB),
    reads("blank lines first", b"\n\n\n" + spelled("\n"), AB),
    reads("megabytes of blank lines first", b"\n \n" * 2_000_000 + spelled("\n"), AB),
    refused("a mistake after blank lines", b"\n" * 3_000_000 + b">a\nJ\n", "line 3000002: .*'J'"),
    reads("blank lines before FASTQ", b"\n\n" + four(), AB),
    reads("blank lines of spaces before FASTQ", b" \n\t\n" + four(), AB),
    reads("blank lines after FASTQ", four() + b"\n\n\n", AB),
    reads("blank lines of spaces after FASTQ", four() + b" \n\t \n", AB),
    reads("blank lines between FASTQ records", four().replace(b"@b\n", b"\n\n@b\n"), AB),
    reads("spaces at line ends", spelled("\n").replace(b"\n", b"  \n"), AB),
    reads("tabs at line ends", spelled("\n").replace(b"\n", b"\t\n"), AB),
    reads("spaces in lines", f">a\n{' '.join(A)}\n>b\n{B}\n".encode(), AB),
    reads("tabs in lines", f">a\n\t{A[:9]}\t\t{A[9:]}\n>b\n{B}\n".encode(), AB),
    reads("a letter a line", spelled("\n", width=1), AB),
    reads(
        "lines of all widths",
        "".join(
            f">{n}\n" + "".join(s[i * (i - 1) // 2 :][:i] + "\n" for i in range(1, 22))
            for n, s in AB
        ).encode(),
        AB,
    ),
    reads("a last '>'", spelled("\n") + b">", [*AB, ("record_3", "")], "record_N"),
    reads(
        "empty records",
        b">x\n>a\n" + A.encode() + b"\n>y\n\n>z",
        [("x", ""), ("a", A), ("y", ""), ("z", "")],
    ),
    reads("an empty FASTQ record", four() + b"@c\n\n+\n\n", [*AB, ("c", "")]),
    reads("a separator that repeats the name", four().replace(b"+\n", b"+a what\n", 1), AB),
    reads("a quality of '@'", f"@a\n{A}\n+\n{'@' * len(A)}\n".encode(), AB[:1]),
    reads("lower case", spelled("\n").lower(), [("a", A.lower()), ("b", B.lower())]),
    refused("a byte order mark of UTF-16", (">a\n" + A).encode("utf-16"), r"neither FASTA"),
    refused("two byte order marks", b"\xef\xbb\xbf" * 2 + spelled("\n"), r"neither FASTA"),
    refused("letters before the first record", A.encode() + b"\n" + spelled("\n"), "neither FASTA"),
    refused("FASTQ in FASTA", spelled("\n") + four(), r"line 9: .*'@'"),
    refused("FASTA in FASTQ", four() + spelled("\n"), r"line 9: .*begin with '@'"),
    refused(
        "a FASTQ record of five lines", b"@a\nACGT\nACGT\n+\nIIIIIIII\n", "line 3: .*four lines"
    ),
    refused("a FASTQ without quality", b"@a\nACGT\n+\n", "line 4: the quality has 0"),
    refused("a FASTQ of two lines", b"@a\nACGT\n", "line 1: .*truncated"),
    refused("a FASTQ of a line", b"@a", "line 1: .*truncated"),
    refused("a quality that is too long", b"@a\nACGT\n+\nIIIII\n", "line 4: the quality has 5"),
    reads("a quality with a space", f"@a\n{A}\n+\n{quality(A)} \n".encode(), AB[:1]),
    reads("letters with a space", f"@a\n{A[:9]} {A[9:]}\t\n+\n{quality(A)}\n".encode(), AB[:1]),
    refused("a quality for a space", b"@a\nACGT \n+\nIIIII\n", "line 4: the quality has 5"),
    refused("the second FASTQ record", four()[:-2], "line 8: the quality has 89"),
    refused("blanks", b" \n\t\r\n", "empty"),
    refused("nothing", b"", "empty"),
    refused("a byte order mark alone", b"\xef\xbb\xbf", "empty"),
    refused("a zero", b"\0", r"neither FASTA"),
    refused("zeros", bytes(10_000), r"neither FASTA"),
    refused("JSON", b'{"a": 1}', r"begins with '\{'"),
    refused("HTML of a failed download", b"<!DOCTYPE html><html>404</html>", "begins with '<'"),
    refused("GenBank", b"LOCUS       AB000100  3000 bp\n", "begins with 'L'"),
    refused("a tar archive", b"x.fa" + bytes(253) + b"ustar\x0000" + bytes(250), "tar archive"),
    refused("a zip archive", b"PK\x03\x04" + bytes(60), "zip archive"),
    refused("a BAM file", gzip.compress(b"BAM\x01" + bytes(60)), "samtools"),
    refused("a Parquet file", b"PAR1" + bytes(60), "Parquet"),
    refused("an lz4 file", b"\x04\x22\x4d\x18" + bytes(60), "lz4"),
    refused("a 7-Zip archive", b"7z\xbc\xaf\x27\x1c" + bytes(60), "7-Zip"),
]

NAMES = [
    reads("a description", f">a  what it is\n{A}\n>b\ttoo\n{B}\n".encode(), AB),
    reads("a name after a space", f"> a\n{A}\n".encode(), [("record_1", A)], "record_N"),
    reads("no name", f">\n{A}\n>b\n{B}\n".encode(), [("record_1", A), ("b", B)], "record_N"),
    reads("no name in FASTQ", f"@\n{A}\n+\n{quality(A)}\n".encode(), [("record_1", A)], "record_N"),
    reads(
        "bytes that are not UTF-8", b">a\xff\xfeb\n" + A.encode(), [("a\ufffd\ufffdb", A)], "UTF-8"
    ),
    reads("a name of UTF-8", f">ä→\U0001f9ec\n{A}\n".encode(), [("ä→\U0001f9ec", A)]),
    reads("a repeated name", f">a\n{A}\n>a\n{B}\n".encode(), [("a", A), ("a", B)], "'a'"),
    reads(
        "a name of a megabyte",
        b">" + b"n" * 1_000_000 + b" d\n" + A.encode(),
        [("n" * 1_000_000, A)],
    ),
    reads(
        "a description of a megabyte", b">a " + b"d" * 3_000_000 + b"\n" + A.encode(), [("a", A)]
    ),
    reads("punctuation", f">{string.punctuation}\n{A}\n".encode(), [(string.punctuation, A)]),
    reads(
        "control characters", f">a\x00\x1b[31m\x7fb\n{A}\n".encode(), [("a\x00\x1b[31m\x7fb", A)]
    ),
]

SIZES = [
    *(
        reads(
            f"{n} bases",
            f">a\n{A}\n>x\n{'ACGTACG'[:n]}\n".encode(),
            [("a", A), ("x", "ACGTACG"[:n])],
        )
        for n in range(8)
    ),
    *(
        refused(f"{n} bases alone", f">x\n{'ACGTACG'[:n]}\n".encode(), "no row is left")
        for n in range(7)
    ),
    reads("7 bases alone", b">x\nACGTACG\n", [("x", "ACGTACG")]),
    reads("one valid 7-mer", b">a\nNNNACGTACGNNN\n", [("a", "NNNACGTACGNNN")]),
    reads("N and then bases", f">a\n{'N' * 5_000}{A}\n".encode(), [("a", "N" * 5_000 + A)]),
    refused("N alone", b">a\n" + b"N" * 5_000, "no row is left: .* no run of"),
    refused(
        "windows broken everywhere", b">a\n" + b"ACGTACN" * 500, "no row is left: .* no run of"
    ),
    reads("just below two windows", f">a\n{(A * 2)[:119]}\n".encode(), [("a", (A * 2)[:119])]),
    reads("just two windows", f">a\n{(A * 2)[:120]}\n".encode(), [("a", (A * 2)[:120])]),
    reads(
        "20,000 records",
        b"".join(b">r%d\nACGTTTG\n" % i for i in range(20_000)),
        [(f"r{i}", "ACGTTTG") for i in range(20_000)],
    ),
]

TEXT = spelled("\n", width=61) * 40
READ = [(name, s) for _ in range(40) for name, s in AB]
SAME = "names occur more than once|more than one record"

Pack = Callable[[bytes], bytes]
PACKED: dict[str, tuple[str, Pack]] = {
    "gzip": ("gz", gzip.compress),
    "BGZF": ("gz", bgzf),
    "bzip2": ("bz2", bz2.compress),
    "xz": ("xz", lzma.compress),
    "zstd": ("zst", zstd),
}


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]


def of_packed(name: str, suffix: str, pack: Pack) -> list[Case]:
    """What may be odd or wrong with compressed data."""
    whole = pack(TEXT)
    other = next(key for key in PACKED if key != name and key != "BGZF")
    cases = [
        reads(f"{name}", whole, READ, "'a'", f"in.fa.{suffix}"),
        reads(f"{name} named .fa", whole, READ, "'a'"),
        reads(f"{name} named as {other}", whole, READ, "'a'", f"in.fa.{PACKED[other][0]}"),
        reads(f"{name}, two parts", pack(TEXT[:777]) + pack(TEXT[777:]), READ, "'a'"),
        reads(f"{name}, an empty part", pack(b"") + whole + pack(b""), READ, "'a'"),
        refused(f"{name} of nothing", pack(b""), "empty"),
        refused(f"{name} of other text", pack(b"hello\n"), "begins with 'h'"),
        refused(f"{name}, flipped", flipped(whole, len(whole) // 2), "corrupt|cannot be read|line"),
        refused(
            f"{name}, flipped near the end",
            flipped(whole, len(whole) - 3),
            "corrupt|truncated|trailing",
        ),
        refused(f"{name}, garbage behind", whole + b"garbage", "trailing"),
        refused(f"{name}, plain text behind", whole + b">c\nACGT\n", "trailing"),
        refused(f"{name} in itself", pack(whole), f"compressed twice .*inside {name}"),
        refused(f"{name} in {other}", PACKED[other][1](whole), "compressed twice"),
    ]
    for share in (len(whole) // 3, len(whole) - 40, len(whole) - 1):
        # A cut between two blocks of a BGZF file is a warning and no error.
        cases.append(refused(f"{name}, cut after {share}", whole[:share], "truncated|corrupt"))
    return cases


COMPRESSED = [
    case for name, (suffix, pack) in PACKED.items() for case in of_packed(name, suffix, pack)
]
COMPRESSED += [
    reads("plain text named .gz", TEXT, READ, "'a'", "in.fa.gz"),
    reads("zeros behind gzip", gzip.compress(TEXT) + bytes(2_000), READ, "'a'"),
    reads("BGZF without its last block", bgzf(TEXT, end=False), READ, "BGZF"),
    reads("BGZF and gzip", bgzf(TEXT[:777], end=False) + gzip.compress(TEXT[777:]), READ, "'a'"),
    reads("a last block in the middle", bgzf(TEXT[:777]) + bgzf(TEXT[777:]), READ, "'a'"),
    refused("the last block of BGZF alone", BGZF_END, "empty"),
    refused(
        "gzip with another checksum",
        gzip.compress(TEXT)[:-8] + bytes(4) + gzip.compress(TEXT)[-4:],
        "corrupt",
    ),
    refused("gzip with another size", gzip.compress(TEXT)[:-4] + bytes(4), "corrupt"),
    refused("two bytes of gzip", b"\x1f\x8b", "truncated"),
    refused(
        "a method of gzip that is unknown", b"\x1f\x8b\x09" + bytes(30), "corrupt|cannot be read"
    ),
    refused("one byte of gzip", b"\x1f", "neither FASTA"),
    refused("xz's magic alone", b"\xfd7zXZ\0", "truncated"),
    refused("zstd's magic alone", b"\x28\xb5\x2f\xfd", "truncated"),
    refused("bzip2's magic alone", b"BZh9", "truncated"),
]

CASES = [*LETTERS, *LINES, *NAMES, *SIZES, *COMPRESSED]
assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_text(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    case: Case,
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / case.file, case.content)
    options = ["--k", "3", "--window", "60", "--min-length", "0", "-t", "2", "-o", "out.arrow"]
    if case.error is not None:
        with contract.unchanged(tmp_path):
            told = contract.run(["featurize", case.file, *options], monkeypatch, capfd).error()
        assert case.file in told or "no row is left" in told
        assert re.search(case.error, told), told
        return
    assert case.records is not None
    ended = contract.run(["featurize", case.file, *options], monkeypatch, capfd)
    assert ended.code == 0, ended.stderr
    if case.warning is None:
        assert ended.warnings == []
    else:
        assert any(case.file in told and re.search(case.warning, told) for told in ended.warnings)
    expected = reference.cut(case.records, window=60, min_length=1)
    check_rows(table(tmp_path / "out.arrow"), expected.rows, (3,))
    assert sorted(path.name for path in tmp_path.iterdir()) == [case.file, "out.arrow"]
    left_out = expected.too_short + expected.without_kmer
    assert ("left out" in ended.stderr) == bool(left_out)
