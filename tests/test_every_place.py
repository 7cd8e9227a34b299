"""A table of the places that sequences are read from, and of those outputs go to."""

from __future__ import annotations

import gzip
import os
import re
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import contract
import reference
from feature_tables import table
from sequences import fasta, random_sequence, write

A = fasta([("a", random_sequence(300, 1))])
B = fasta([("b", random_sequence(300, 2))])
C = fasta([("c", random_sequence(300, 3))])
OPTIONS = ["--k", "3", "--window", "100", "--min-length", "0", "-t", "2"]


@dataclass(frozen=True)
class Case:
    """Files in a folder of their own, arguments there, and what is to come of them.

    `sources` are the files that rows come from, in order.
    """

    name: str
    make: Callable[[Path], object]
    inputs: Sequence[str]
    sources: Sequence[str] = ()
    warnings: Sequence[str] = ()
    error: str | None = None
    output: str = "out.arrow"
    options: Sequence[str] = field(default_factory=tuple)


def files(**contents: bytes) -> Callable[[Path], object]:
    """Files by name: ``__`` stands for a slash and ``_`` for a dot."""

    def make(folder: Path) -> None:
        for name, content in contents.items():
            write(folder / name.replace("__", "/").replace("_", "."), content)

    return make


def named(*contents: tuple[str, bytes]) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        for name, content in contents:
            write(folder / name, content)

    return make


def both(*steps: Callable[[Path], object]) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        for step in steps:
            step(folder)

    return make


def link(name: str, target: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).symlink_to(target)


def hard_link(name: str, target: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).hardlink_to(folder / target)


def folder_at(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).mkdir(parents=True)


def fifo(name: str) -> Callable[[Path], object]:
    return lambda folder: os.mkfifo(folder / name)


def fed_fifo(name: str, content: bytes) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        os.mkfifo(folder / name)
        threading.Thread(target=(folder / name).write_bytes, args=(content,), daemon=True).start()

    return make


def socket_at(name: str) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        # The address of a socket is short, so it is bound from within the folder.
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(name)

    return make


ODD_NAMES = [
    "a b.fa",
    " .fa",
    "a\nb.fa",
    "a\tb.fa",
    "'\"`$(x)`;&|.fa",
    "é→\U0001f9ec.fa",
    "*?[x].fa",
    "%s{}.fa",
    "x" * 252 + ".fa",
    "[red]x[/red].fa",
]

READ = [
    *(Case(f"the name {n[:30]!r}", named((n, A)), [n], [n]) for n in ODD_NAMES),
    *(
        Case(f"the name {n[:30]!r} in a folder", named((f"in/{n}", A)), ["in"], [f"in/{n}"])
        for n in ODD_NAMES
    ),
    *(
        Case(f"the name {n[:30]!r} in a list", named((n, A), ("l", n.encode())), ["@l"], [n])
        for n in ODD_NAMES
        if "\n" not in n and n.strip() == n
    ),
    Case(
        "a name that is not UTF-8",
        named((os.fsdecode(b"\xff\xfe.fa"), A)),
        [os.fsdecode(b"\xff\xfe.fa")],
        ["\ufffd\ufffd.fa"],
    ),
    Case(
        "such a name in a folder", named((os.fsdecode(b"in/\xff.fa"), A)), ["in"], ["in/\ufffd.fa"]
    ),
    Case("a name like an option", named(("--k", A)), ["--", "--k"], ["--k"]),
    Case("a name like an option, with a folder", named(("-q", A)), ["./-q"], ["./-q"]),
    Case("a name like a list", named(("@x.fa", A)), ["./@x.fa"], ["./@x.fa"]),
    Case("a name like standard input", named(("-", A)), ["./-"], ["./-"]),
    Case("a file twice", files(a_fa=A), ["a.fa", "a.fa"], ["a.fa"], ["a.fa"]),
    Case("a file by two paths", files(a_fa=A), ["a.fa", "./a.fa"], ["a.fa"], ["a.fa"]),
    Case(
        "a file and a link to it",
        both(files(a_fa=A), link("l.fa", "a.fa")),
        ["l.fa", "a.fa"],
        ["l.fa"],
        ["l.fa"],
    ),
    Case(
        "a file and a hard link",
        both(files(a_fa=A), hard_link("l.fa", "a.fa")),
        ["a.fa", "l.fa"],
        ["a.fa"],
        ["l.fa"],
    ),
    Case(
        "a file and its folder",
        files(in__a_fa=A, in__b_fa=B),
        ["in/b.fa", "in"],
        ["in/b.fa", "in/a.fa"],
        ["b.fa"],
    ),
    Case("a file of the same content", files(a_fa=A, b_fa=A), ["a.fa", "b.fa"], ["a.fa", "b.fa"]),
    Case("the order of arguments", files(a_fa=A, b_fa=B), ["b.fa", "a.fa"], ["b.fa", "a.fa"]),
    Case(
        "the order in a folder",
        files(**{f"in__{n}_fa": A for n in ("b", "B", "a", "a1", "a10", "a2")}),
        ["in"],
        [f"in/{n}.fa" for n in ("B", "a", "a1", "a10", "a2", "b")],
    ),
    Case(
        "the order below a folder",
        named(("in/b.fa", A), ("in/a/z.fa", B), ("in/a.fa", C)),
        ["in"],
        ["in/a.fa", "in/a/z.fa", "in/b.fa"],
    ),
    *(
        Case(
            f"the suffix {suffix}",
            named((f"in/x{suffix}", A), ("in/x.txt", B)),
            ["in"],
            [f"in/x{suffix}"],
        )
        for suffix in (
            ".fa",
            ".fasta",
            ".fna",
            ".ffn",
            ".fas",
            ".fq",
            ".fastq",
            ".FA",
            ".Fna",
            ".fa.gz",
            ".FASTA.GZ",
            ".fq.bz2",
            ".fa.xz",
            ".fna.zst",
            ".fa.bgz",
        )
    ),
    *(
        Case(
            f"the suffix {suffix!r} of no sequences",
            named((f"in/x{suffix}", A), ("in/y.fa", B)),
            ["in"],
            ["in/y.fa"],
        )
        for suffix in (
            "",
            ".txt",
            ".gz",
            ".fa.zip",
            ".fa.md5",
            ".fai",
            ".fa.fai",
            ".faa",
            ".fa~",
            ".fa.tar",
        )
    ),
    Case(
        "hidden files and folders",
        named(("in/.a.fa", A), ("in/.h/a.fa", A), ("in/b.fa", B)),
        ["in"],
        ["in/b.fa"],
    ),
    Case("a hidden file that is named", named((".a.fa", A)), [".a.fa"], [".a.fa"]),
    Case("any suffix that is named", named(("a.txt", A), ("b", B)), ["a.txt", "b"], ["a.txt", "b"]),
    Case(
        "folders in folders",
        named(("in/1/2/3/4/5/6/7/8/a.fa", A)),
        ["in"],
        ["in/1/2/3/4/5/6/7/8/a.fa"],
    ),
    Case(
        "an empty folder beside files",
        both(named(("in/a.fa", A)), folder_at("in/empty")),
        ["in"],
        ["in/a.fa"],
    ),
    Case("a folder named like a file", named(("in/x.fa/a.fa", A)), ["in"], ["in/x.fa/a.fa"]),
    Case("a link to a file", both(files(a_fa=A), link("l", "a.fa")), ["l"], ["l"]),
    Case("a link to a folder", both(named(("in/a.fa", A)), link("l", "in")), ["l"], ["l/a.fa"]),
    Case(
        "a link to the folder above",
        both(named(("in/a.fa", A)), link("in/up", "..")),
        ["in"],
        ["in/a.fa"],
        ["in/up/in: a link"],
    ),
    Case(
        "a folder that links to itself",
        both(named(("in/a.fa", A)), link("in/me", ".")),
        ["in"],
        ["in/a.fa"],
        ["in/me: a link"],
    ),
    Case(
        "a link to nothing in a folder",
        both(named(("in/a.fa", A)), link("in/b.fa", "nothing")),
        ["in"],
        ["in/a.fa"],
        ["b.fa"],
    ),
    Case("a FIFO in a folder", both(named(("in/a.fa", A)), fifo("in/b.fa")), ["in"], ["in/a.fa"]),
    Case("a socket in a folder", both(named(("a.fa", A)), socket_at("b.fa")), ["."], ["./a.fa"]),
    Case("a FIFO", fed_fifo("f", A), ["f"], ["f"]),
    Case("a FIFO of gzip", fed_fifo("f", gzip.compress(A)), ["f"], ["f"]),
    Case(
        "a list", named(("a.fa", A), ("b.fa", B), ("l", b"b.fa\na.fa\n")), ["@l"], ["b.fa", "a.fa"]
    ),
    Case(
        "a list of CRLF, blanks and no end",
        named(("a.fa", A), ("l", b"\r\n\na.fa\r\n\r\n./a.fa")),
        ["@l"],
        ["a.fa"],
        ["a.fa"],
    ),
    Case("a list of a folder", named(("in/a.fa", A), ("l", b"in\n")), ["@l"], ["in/a.fa"]),
    Case(
        "an empty file in a folder",
        named(("in/a.fa", A), ("in/b.fa", b"")),
        ["in"],
        ["in/a.fa"],
        ["b.fa: .*empty"],
    ),
    Case(
        "blanks in a folder",
        named(("in/a.fa", A), ("in/b.fa", b"\n \n")),
        ["in"],
        ["in/a.fa"],
        ["b.fa: .*empty"],
    ),
]

REFUSED = [
    Case("a missing file", files(), ["a.fa"], error="a.fa: no such file"),
    Case(
        "a missing file among others", files(a_fa=A), ["a.fa", "b.fa"], error="b.fa: no such file"
    ),
    Case("a missing file with a newline", files(), ["a\nb.fa"], error=r"a\\nb.fa: no such file"),
    Case("a missing list", files(), ["@l"], error="l: no such file"),
    Case("an empty list", named(("l", b"\n\n")), ["@l"], error="l: the list names no file"),
    Case(
        "a list of a missing file",
        named(("l", b"a.fa\nb.fa\n"), ("a.fa", A)),
        ["@l"],
        error="l, line 2: .*b.fa",
    ),
    Case("a list in a list", named(("l", b"@m\n"), ("m", b"a.fa\n")), ["@l"], error="l, line 1"),
    Case("an empty path", files(a_fa=A), ["a.fa", ""], error="empty path"),
    Case("an empty folder", folder_at("in"), ["in"], error="in: no sequence file"),
    Case(
        "a folder of other files",
        named(("in/a.txt", A)),
        ["in"],
        error=r"in: no sequence file.*\.fna",
    ),
    Case("a folder of empty files", named(("in/a.fa", b"")), ["in"], error="no row is left"),
    Case("an empty file that is named", files(a_fa=b""), ["a.fa"], error="a.fa: .*empty"),
    Case(
        "an empty file after a good one",
        files(a_fa=A, b_fa=b""),
        ["a.fa", "b.fa"],
        error="b.fa: .*empty",
    ),
    Case("a link to nothing", link("l", "nothing"), ["l"], error="l: no such file"),
    Case("a link to itself", link("l", "l"), ["l"], error="l: too many levels"),
    Case("a path below a file", files(a_fa=A), ["a.fa/b.fa"], error="b.fa: not a directory"),
    Case("a file with a slash", files(a_fa=A), ["a.fa/"], error="not a directory"),
    Case("a name that is too long", files(), ["x" * 300], error="file name too long"),
    Case("a socket", socket_at("s"), ["s"], error="s: no such device"),
    Case("the null device", files(), ["/dev/null"], error="/dev/null: .*empty"),
    Case("endless zeros", files(), ["/dev/zero"], error="/dev/zero: .*neither FASTA"),
    Case(
        "a file that fails when it is read",
        files(),
        ["/proc/self/mem"],
        error="/proc/self/mem: input/output error",
    ),
    Case(
        "a damaged file among good ones",
        files(a_fa=A, b_fa=b">b\nJ\n", c_fa=C),
        ["a.fa", "b.fa", "c.fa"],
        error="b.fa, line 2",
    ),
    Case(
        "the first of two damaged files",
        files(a_fa=b">a\n!\n", b_fa=b">b\n!\n"),
        ["a.fa", "b.fa"],
        error="a.fa, line 2",
    ),
    Case(
        "a feature file", files(a_fa=b"ARROW1" + bytes(100)), ["a.fa"], error="a.fa: .*Arrow file"
    ),
    # Outputs.
    Case(
        "an output that exists",
        files(a_fa=A, out_arrow=b"old"),
        ["a.fa"],
        error="out.arrow: exists already.*--force",
    ),
    Case(
        "an output in no folder",
        files(a_fa=A),
        ["a.fa"],
        output="no/out.arrow",
        error="no/out.arrow: the folder .* does not exist",
    ),
    Case(
        "an output below a file",
        files(a_fa=A),
        ["a.fa"],
        output="a.fa/out.arrow",
        error="a.fa/out.arrow: the folder",
    ),
    Case(
        "a folder as output",
        both(files(a_fa=A), folder_at("out")),
        ["a.fa"],
        output="out",
        options=["--force"],
        error="out: is a folder",
    ),
    Case(
        "a FIFO as output",
        both(files(a_fa=A), fifo("out")),
        ["a.fa"],
        output="out",
        options=["--force"],
        error="out: is not a regular file",
    ),
    Case(
        "the full device as output",
        files(a_fa=A),
        ["a.fa"],
        output="/dev/full",
        options=["--force"],
        error="/dev/full: is not a regular file",
    ),
    Case(
        "the null device as output",
        files(a_fa=A),
        ["a.fa"],
        output="/dev/null",
        options=["--force"],
        error="/dev/null: is not a regular file",
    ),
    Case(
        "the input as output",
        files(a_fa=A),
        ["a.fa"],
        output="a.fa",
        options=["--force"],
        error="a.fa: .*one of the inputs",
    ),
    Case(
        "the input by another path",
        files(a_fa=A),
        ["./a.fa"],
        output="a.fa",
        options=["--force"],
        error="one of the inputs",
    ),
    Case(
        "a link to the input",
        both(files(a_fa=A), link("l", "a.fa")),
        ["a.fa"],
        output="l",
        options=["--force"],
        error="one of the inputs",
    ),
    Case(
        "a file in an input folder",
        named(("in/a.fa", A)),
        ["in"],
        output="in/a.fa",
        options=["--force"],
        error="one of the inputs",
    ),
    Case(
        "the input through a list",
        named(("a.fa", A), ("l", b"a.fa")),
        ["@l"],
        output="a.fa",
        options=["--force"],
        error="one of the inputs",
    ),
    Case(
        "a link to nothing as output",
        both(files(a_fa=A), link("out", "no/where")),
        ["a.fa"],
        output="out",
        error="out: the folder",
    ),
    Case(
        "a loop as output",
        both(files(a_fa=A), link("out", "out")),
        ["a.fa"],
        output="out",
        options=["--force"],
        error="out: .*symbolic links",
    ),
    Case(
        "an output name that is too long",
        files(a_fa=A),
        ["a.fa"],
        output="x" * 300,
        error="x: .*too long",
    ),
    Case("an empty output", files(a_fa=A), ["a.fa"], output="", error="is a folder"),
]

CASES = [*READ, *REFUSED]
assert len({case.name for case in CASES}) == len(CASES)
ROWS = {
    name: reference.cut(reference.parse_fasta(text.decode()), 100, 0).rows
    for name, text in [("a", A), ("b", B), ("c", C)]
}


def content_of(folder: Path) -> dict[str, bytes | str | None]:
    """What is in a folder, without reading from what is no file."""
    return {
        os.fsdecode(path): os.readlink(path)
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_place(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    case: Case,
) -> None:
    monkeypatch.chdir(tmp_path)
    case.make(tmp_path)
    before = content_of(tmp_path)
    arguments = ["featurize", *OPTIONS, *case.options, "-o", case.output, *case.inputs]
    ended = contract.run(arguments, monkeypatch, capfd)
    if case.error is not None:
        told = ended.error()
        assert re.search(case.error, told), told
        assert content_of(tmp_path) == before
        return
    assert ended.code == 0, ended.stderr
    assert len(ended.warnings) == len(case.warnings), ended.stderr
    for told, pattern in zip(ended.warnings, case.warnings, strict=True):
        assert re.search(pattern, told), told
    rows = table(tmp_path / case.output)
    sources = rows["source"].to_pylist()
    assert list(dict.fromkeys(sources)) == list(case.sources)
    ids = rows["id"].to_pylist()
    # Every file has one record, so whole files follow each other.
    spans = [(row.start, row.end) for id_ in ids[::3] for row in ROWS[id_]]
    assert list(zip(rows["start"].to_pylist(), rows["end"].to_pylist(), strict=True)) == spans
    after = content_of(tmp_path)
    del after[str(tmp_path / case.output)]
    assert after == before
