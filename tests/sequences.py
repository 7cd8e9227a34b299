"""Sequences, the files that hold them, and the program that reads them."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import random
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

DATA = Path(__file__).parent / "data"
PROJECT = Path(__file__).parent.parent

Records = Iterable[tuple[str, str]]

BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


def random_sequence(length: int, seed: int = 0, letters: str = "ACGT") -> str:
    return "".join(random.Random(f"{seed} {length}").choices(letters, k=length))


def fasta(records: Records, *, width: int = 80, newline: str = "\n") -> bytes:
    lines = []
    for name, sequence in records:
        lines.append(f">{name}")
        lines += [sequence[i : i + width] for i in range(0, len(sequence), width)]
    return "".join(line + newline for line in lines).encode()


def fastq(records: Records, *, newline: str = "\n") -> bytes:
    quality = "@>+!IJ"
    lines = []
    for name, sequence in records:
        scores = (quality * (len(sequence) // len(quality) + 1))[: len(sequence)]
        lines += [f"@{name}", sequence, "+", scores]
    return "".join(line + newline for line in lines).encode()


def halves(text: bytes) -> tuple[bytes, bytes]:
    return text[: len(text) // 2], text[len(text) // 2 :]


def bgzf(text: bytes, *, end: bool = True, block: int = 60_000) -> bytes:
    """Compress in blocks that state their size, as bgzip does."""
    blocks = []
    for i in range(0, len(text), block):
        part = text[i : i + block]
        deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
        data = deflate.compress(part) + deflate.flush()
        size = struct.pack("<H", len(data) + 25)
        head = bytes.fromhex("1f8b08040000000000ff060042430200") + size
        blocks.append(head + data + struct.pack("<II", zlib.crc32(part), len(part)))
    return b"".join(blocks) + (BGZF_END if end else b"")


def zstd(text: bytes) -> bytes:
    compressed: bytes = pa.compress(text, codec="zstd", asbytes=True)
    return compressed


COMPRESSED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "gzip of two members": lambda text: b"".join(map(gzip.compress, halves(text))),
    "gzip with padding": lambda text: gzip.compress(text) + bytes(512),
    "bgzf": bgzf,
    "bzip2": bz2.compress,
    "bzip2 of two streams": lambda text: b"".join(map(bz2.compress, halves(text))),
    "xz": lzma.compress,
    "xz of two streams": lambda text: b"".join(map(lzma.compress, halves(text))),
    "zstd": zstd,
    "zstd of two frames": lambda text: b"".join(map(zstd, halves(text))),
}


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def listing(folder: Path) -> dict[str, bytes | None]:
    """All that is in a folder: names, and the content of files."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def run_kvae(
    *args: str | os.PathLike[str], timeout: float = 300, **kw: Any
) -> subprocess.CompletedProcess[str]:
    """Run the program and capture what it prints."""
    command = [sys.executable, "-m", "kvae", *(os.fspath(arg) for arg in args)]
    kw = {"stdin": subprocess.DEVNULL} | kw if "input" not in kw else kw
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, **kw)


def fails(result: subprocess.CompletedProcess[str]) -> str:
    """What a run that failed says: one line."""
    assert result.returncode == 1, result.stderr
    assert result.stdout == ""
    assert result.stderr.startswith("kvae: error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr
