"""However sequences are written and compressed, their feature file is the same."""

from __future__ import annotations

import gzip
import os
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvae
import reference
from feature_tables import (
    RECORDS,
    featurized,
)
from sequences import (
    COMPRESSED,
    bgzf,
    fasta,
    fastq,
    halves,
    random_sequence,
    write,
)


@pytest.fixture(scope="module")
def in_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bytes], bytes]:
    """The bytes of the feature file of an input that always has the same name."""
    folder = tmp_path_factory.mktemp("same")

    def run(content: bytes, **kw: Any) -> bytes:
        before = os.getcwd()
        os.chdir(folder)
        try:
            write(folder / "input", content)
            kvae.featurize("input", "out.arrow", force=True, **kw)
            return (folder / "out.arrow").read_bytes()
        finally:
            os.chdir(before)

    return run


@pytest.fixture(scope="module")
def plain(in_folder: Callable[[bytes], bytes]) -> bytes:
    return in_folder(fasta(RECORDS))


@pytest.mark.parametrize("compression", COMPRESSED)
def test_compression_does_not_matter(
    in_folder: Callable[[bytes], bytes], plain: bytes, compression: str
) -> None:
    assert in_folder(COMPRESSED[compression](fasta(RECORDS))) == plain


SPELLINGS: dict[str, bytes] = {
    "one line": fasta(RECORDS, width=10**9),
    "short lines": fasta(RECORDS, width=7),
    "CRLF": fasta(RECORDS, newline="\r\n"),
    "lone CR": fasta(RECORDS, newline="\r"),
    "byte order mark": b"\xef\xbb\xbf" + fasta(RECORDS),
    "blank lines": b"\n\n" + fasta(RECORDS).replace(b"\n", b"\n\n") + b"\n\n",
    "blank lines of spaces": b" \n\t\n" + fasta(RECORDS),
    "no last newline": fasta(RECORDS).rstrip(b"\n"),
    "lower case": fasta([(name, sequence.lower()) for name, sequence in RECORDS]),
    "RNA": fasta([(name, sequence.replace("T", "U")) for name, sequence in RECORDS]),
    "spaces": fasta(
        [(name, " ".join(sequence[:60]) + sequence[60:]) for name, sequence in RECORDS]
    ),
    "tabs": fasta([(name, sequence[:9] + "\t" + sequence[9:]) for name, sequence in RECORDS]),
    "descriptions": fasta([(f"{name} says > and @", sequence) for name, sequence in RECORDS]),
    "description after a tab": fasta([(f"{name}\tx", sequence) for name, sequence in RECORDS]),
    "FASTQ": fastq(RECORDS),
    "FASTQ with CRLF": fastq(RECORDS, newline="\r\n"),
    "FASTQ without a last newline": fastq(RECORDS)[:-1],
    "FASTQ, compressed": gzip.compress(fastq(RECORDS)),
    "CRLF and a mark, compressed": bgzf(b"\xef\xbb\xbf" + fasta(RECORDS, newline="\r\n")),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_spelling_does_not_matter(
    in_folder: Callable[[bytes], bytes], plain: bytes, spelling: str
) -> None:
    assert in_folder(SPELLINGS[spelling]) == plain


@pytest.mark.parametrize("seed", range(4))
def test_mixed_line_ends_and_widths(
    in_folder: Callable[[bytes], bytes], plain: bytes, seed: int
) -> None:
    rng = random.Random(seed)
    text = b""
    for name, sequence in RECORDS:
        text += f">{name}".encode() + rng.choice([b"\n", b"\r\n", b"\r"])
        at = 0
        while at < len(sequence):
            step = rng.choice([1, 13, 60, 61, 1000])
            text += sequence[at : at + step].encode()
            text += rng.choice([b"\n", b"\r\n", b"\r", b"\n\n", b" \n"])
            at += step
    assert in_folder(text) == plain


def test_threads_do_not_matter(tmp_path: Path, data_files: list[Path]) -> None:
    files = [tmp_path / f"{n}.arrow" for n in (1, 2, 4, 7)]
    for n, path in zip((1, 2, 4, 7), files, strict=True):
        kvae.featurize(data_files, path, threads=n)
    assert len({path.read_bytes() for path in files}) == 1
    default = tmp_path / "default.arrow"
    kvae.featurize(data_files, default)
    assert default.read_bytes() == files[0].read_bytes()


# More than the workers read ahead: runs of blocks meet runs that are being joined.
MANY_BLOCKS = fasta([(f"c{i}", random_sequence(7_000, seed=i)) for i in range(700)], width=70)


@pytest.fixture(scope="module")
def plain_blocks(in_folder: Callable[[bytes], bytes]) -> bytes:
    return in_folder(MANY_BLOCKS)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("kind", ["whole", "two files joined", "a plain member within", "no end"])
def test_blocks_are_inflated_by_several_threads(
    in_folder: Callable[..., bytes], plain_blocks: bytes, kind: str, threads: int
) -> None:
    first, second = halves(MANY_BLOCKS)
    content = {
        "whole": bgzf(MANY_BLOCKS),
        "two files joined": bgzf(first) + bgzf(second),
        "a plain member within": bgzf(first) + gzip.compress(second[:999]) + bgzf(second[999:]),
        "no end": bgzf(MANY_BLOCKS, end=False),
    }[kind]
    assert in_folder(content, threads=threads) == plain_blocks


@pytest.mark.parametrize("threads", [1, 3])
def test_a_corrupt_block_in_the_middle_is_an_error(tmp_path: Path, threads: int) -> None:
    content = bytearray(bgzf(MANY_BLOCKS))
    content[len(content) // 2] ^= 0x55
    path = write(tmp_path / "a.fa.gz", bytes(content))
    with pytest.raises(kvae.KvaeError, match=r"a\.fa\.gz: the BGZF data is corrupt"):
        kvae.featurize(path, tmp_path / "out.arrow", threads=threads)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.fa.gz"]


def test_threads_do_not_matter_to_batches(tmp_path: Path) -> None:
    """Files that are small, empty or long, several batches of rows in all."""
    rng = random.Random(5)
    for i in range(40):
        lengths = [rng.choice([0, 50, 300, 2_000]) for _ in range(rng.choice([0, 1, 9]))]
        records = [(f"{i}_{j}", random_sequence(n, j)) for j, n in enumerate(lengths)]
        write(tmp_path / f"in/{i}.fa", fasta(records))
    write(tmp_path / "in/long.fa", fasta([("long", random_sequence(60_000))]))
    contents, results = set(), []
    for n in (1, 2, 4):
        result = kvae.featurize(
            tmp_path / "in", tmp_path / f"{n}.arrow", window=60, min_length=100, k=[3], threads=n
        )
        contents.add((tmp_path / f"{n}.arrow").read_bytes())
        results.append((result.records, result.rows, result.too_short, tuple(result.warnings)))
    assert len(contents) == 1
    assert len(set(results)) == 1
    assert results[0][1] > 1024


@given(
    texts=st.lists(st.text("ACGTNacgt", max_size=300), min_size=1, max_size=12),
    seed=st.integers(0, 10**6),
    threads=st.integers(1, 4),
)
@settings(max_examples=40)
def test_any_text_of_the_same_records_gives_the_same_file(
    texts: list[str], seed: int, threads: int
) -> None:
    rng = random.Random(seed)
    records = [("first", "ACGTACGTACGT"), *((f"r{i}", text) for i, text in enumerate(texts))]
    newline = rng.choice(["\n", "\r\n", "\r"])
    spelled = fasta(
        [(f"{name} {rng.random()}", sequence.swapcase()) for name, sequence in records],
        width=rng.randint(1, 400),
        newline=newline,
    )
    compress = rng.choice(list(COMPRESSED.values()))
    options: dict[str, Any] = {"window": 50, "min_length": 0, "k": [3, 2]}
    with tempfile.TemporaryDirectory() as folder:
        path, output = Path(folder) / "a", Path(folder) / "out.arrow"
        kvae.featurize(write(path, fasta(records)), output, **options)
        expected = output.read_bytes()
        kvae.featurize(
            write(path, compress(spelled)), output, force=True, threads=threads, **options
        )
        assert output.read_bytes() == expected


def test_letters_that_are_no_bases_count_in_the_length(tmp_path: Path) -> None:
    code = "RYSWKMBDHVNryswkmbdhvn-*"
    sequence = code.join(random_sequence(50, i) for i in range(40))
    (row,) = featurized(tmp_path, fasta([("a", sequence)]), window=0).to_pylist()
    assert row["length"] == len(sequence)
    assert row["n7"] == 40 * 44
    assert len(row["invalid"]) == 39


def test_a_long_record_in_a_long_line(tmp_path: Path) -> None:
    """Longer than anything that is read at a time."""
    sequence = random_sequence(3_000_000, letters="ACGT" * 1000 + "N")
    for width in (10**9, 61):
        rows = featurized(tmp_path, fasta([("a", sequence)], width=width), k=[7], window=0)
        assert rows["length"].to_pylist() == [len(sequence)]
        assert rows["n7"].to_pylist() == [reference.valid_windows(sequence, 7)]
        assert rows["sequence"][0].as_py()[:1000] == reference.pack(sequence[:4000])
    rows = featurized(tmp_path, fasta([("a", sequence)]), k=[3], sequence=False)
    assert rows["end"].to_pylist() == [end for _, end in reference.windows(len(sequence))]
