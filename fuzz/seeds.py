"""Write the first inputs of the fuzz targets: small texts and what compresses them.

python fuzz/seeds.py FOLDER makes FOLDER/records, FOLDER/decompress, FOLDER/count and
FOLDER/row_file, one file per input.
"""

import bz2
import gzip
import lzma
import random
import struct
import sys
import zlib
from pathlib import Path

TEXTS = [
    b"",
    b">a\nACGTACGTNN\n>b desc\nacgu\n",
    b"\xef\xbb\xbf>a\r\nAC GT\r\n\r\nRY-*\r\n",
    b">a\rACGT\r>\rTTT",
    b">caf\xe9\nACGT\n>a\n>a\n",
    b"@a\nACGT\n+\nIIII\n@b x\nNN\n+b\n@+\n",
    b"@a\r\nACGT\r\n+\r\n!!!!",
    b" \n\t\n@a\n\n+\n\n \n",
    b">p\nMKVL\n",
    b">a\nAC;GT\n",
    b">a\n" + b"ACGTTGCA" * 60 + b"\n",
]


def bgzf(text: bytes, size: int = 40) -> bytes:
    """Compress in blocks that state their size."""
    blocks = b""
    for i in range(0, len(text), size):
        part = text[i : i + size]
        deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
        data = deflate.compress(part) + deflate.flush()
        head = bytes.fromhex("1f8b08040000000000ff060042430200") + struct.pack("<H", len(data) + 25)
        blocks += head + data + struct.pack("<II", zlib.crc32(part), len(part))
    return blocks + bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


def stored_zstd(text: bytes) -> bytes:
    """Make a frame of one raw block."""
    block = struct.pack("<I", len(text) << 3 | 1)[:3]
    return b"\x28\xb5\x2f\xfd\x20" + bytes([len(text)]) + block + text


def named_gzip(text: bytes) -> bytes:
    """Give all optional fields of the header."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = deflate.compress(text) + deflate.flush()
    head = b"\x1f\x8b\x08\x1c" + bytes(6) + b"\x03\x00abc" + b"name\0" + b"comment\0"
    return head + data + struct.pack("<II", zlib.crc32(text), len(text))


PACKED = [
    gzip.compress,
    named_gzip,
    bgzf,
    bz2.compress,
    lzma.compress,
    lambda text: lzma.compress(text, check=lzma.CHECK_CRC32),
    stored_zstd,
    lambda text: gzip.compress(text[:9]) + gzip.compress(text[9:]) + bytes(20),
    lambda text: bgzf(text) + gzip.compress(text) + bgzf(text),
    lambda text: b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc" + stored_zstd(text),
]


def main(folder: Path) -> None:
    """Write all inputs."""
    inputs = {
        "records": TEXTS,
        "decompress": [pack(text) for pack in PACKED for text in (TEXTS[1], TEXTS[5], b"")],
        "count": [bytes([k, 5]) + text for k in (2, 3, 6, 7) for text in TEXTS[1:4]],
        "row_file": [random.Random(i).randbytes(60 + 40 * i) for i in range(8)],
    }
    for target, contents in inputs.items():
        (folder / target).mkdir(parents=True, exist_ok=True)
        for i, content in enumerate(contents):
            (folder / target / f"{i:02}").write_bytes(content)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
