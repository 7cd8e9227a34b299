"""Records of sequence files as they are written, one after another.

For what copies sequences: letters keep their case and their ambiguity codes. Counting
and packing go through the Rust crate, which also finds mistakes; this reader trusts a
file that has passed it.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from kvae.errors import KvaeError

__all__ = ["Record", "read_records"]


@dataclass(frozen=True)
class Record:
    """A record.

    Attributes
    ----------
    id
        First word of its header, ``record_N`` for the Nth record where that is empty.
    header
        The whole header, without its first letter.
    sequence
        Its letters.
    """

    id: str
    header: str
    sequence: str


def read_records(path: Path) -> Iterator[Record]:
    """Read a FASTA or FASTQ file, plain or compressed; memory is that of one record.

    Raises
    ------
    KvaeError
        For a file that cannot be read, or is neither.
    """
    try:
        with path.open("rb") as file, io.TextIOWrapper(_inflated(file), "latin-1") as text:
            yield from _records(path, text)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "is damaged"
        raise KvaeError(f"{path}: {reason.lower()}: the sequences of bins are read from it") from (
            error
        )


def _inflated(file: IO[bytes]) -> Any:
    """Give the bytes of a file, which its first ones tell to be compressed or not."""
    start = file.read(6)
    file.seek(0)
    if start.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=file)
    if start.startswith(b"BZh"):
        return bz2.BZ2File(file)
    if start == b"\xfd7zXZ\x00":
        return lzma.LZMAFile(file)
    if start.startswith(b"\x28\xb5\x2f\xfd"):
        return io.BufferedReader(pa.CompressedInputStream(file, "zstd"))
    return file


def _records(path: Path, text: IO[str]) -> Iterator[Record]:
    # Latin-1 keeps every byte, so that headers can be decoded as what they are.
    lines = (line.rstrip("\n") for line in text)
    first = next((line for line in lines if line.strip()), "").removeprefix("\xef\xbb\xbf")
    if first.startswith(">"):
        yield from _fasta(first, lines)
    elif first.startswith("@"):
        yield from _fastq(first, lines)
    else:
        raise KvaeError(f"{path}: is neither FASTA nor FASTQ")


def _fasta(first: str, lines: Iterator[str]) -> Iterator[Record]:
    number, header, parts = 1, first[1:], list[str]()
    for line in lines:
        if line.startswith(">"):
            yield _record(number, header, "".join(parts))
            number, header, parts = number + 1, line[1:], []
        else:
            parts.append("".join(line.split()))
    yield _record(number, header, "".join(parts))


def _fastq(first: str, lines: Iterator[str]) -> Iterator[Record]:
    number, header = 1, first[1:]
    while True:
        sequence = next(lines, "")
        yield _record(number, header, "".join(sequence.split()))
        # The line of the plus sign, and the qualities.
        next(lines, "")
        next(lines, "")
        following = next((line for line in lines if line.strip()), None)
        if following is None:
            return
        number, header = number + 1, following[1:]


def _record(number: int, header: str, sequence: str) -> Record:
    text = header.encode("latin-1").decode("utf-8", errors="replace")
    word = text.replace("\t", " ").split(" ", 1)[0]
    return Record(word or f"record_{number}", text, sequence)
