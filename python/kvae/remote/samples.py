"""Some rows or sequences of remote files, without fetching all of them."""

from __future__ import annotations

import bz2
import lzma
import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvae.dividing import FewShardsError
from kvae.errors import KvaeError
from kvae.remote.caching import copies
from kvae.remote.places import RemoteFile, open_place, told
from kvae.remote.uris import as_path, as_uri
from kvae.shards import find_manifests

__all__ = ["StoredSample", "beginning", "sample_of_store"]

# Bytes of a sequence file that a sample is made of.
_BYTES = 4_000_000


def beginning(file: RemoteFile, folder: Path) -> Path | None:
    """Fetch the first records of a sequence file; None where they cannot be told apart.

    Parameters
    ----------
    file
        FASTA or FASTQ, plain or compressed.
    folder
        Where to put them, as a file of its own.
    """
    size = min(file.size, _BYTES)
    with file.opened() as source:
        content = file.read_at(source, 0, size)
    if size < file.size:
        text = _text(content)
        if text is None:
            return None
        content = _whole_records(text)
    if not content:
        return None
    target = folder / f"{len(list(folder.iterdir()))}-{file.place.uri.name}"
    target.write_bytes(content)
    return target


def _text(content: bytes) -> bytes | None:
    """Decompress what there is of a file."""
    kinds: dict[bytes, tuple[Callable[[], Any], type[Exception]]] = {
        b"\x1f\x8b": (lambda: zlib.decompressobj(31), zlib.error),
        b"BZh": (bz2.BZ2Decompressor, OSError),
        b"\xfd7zXZ\0": (lzma.LZMADecompressor, lzma.LZMAError),
    }
    if content.startswith(b"\x28\xb5\x2f\xfd"):
        return None
    for magic, (new, error) in kinds.items():
        if content.startswith(magic):
            text = []
            # A file may have many members behind each other, as BGZF has.
            while content.startswith(magic):
                member = new()
                try:
                    text.append(member.decompress(content))
                except error:
                    break
                content = member.unused_data
            return b"".join(text)
    return content


def _whole_records(text: bytes) -> bytes:
    """Leave out what is cut off at the end: a record of FASTQ, a line of FASTA."""
    lines = text[: text.rfind(b"\n") + 1].splitlines(keepends=True)
    if text.lstrip().startswith(b"@"):
        lines = lines[: len(lines) // 4 * 4]
    return b"".join(lines)


@dataclass(frozen=True)
class StoredSample:
    """What a remote feature file, or all shards of one, say of themselves.

    Attributes
    ----------
    path
        A feature file of this machine with some of the rows.
    files, bytes, rows, bases
        Of all; bases are extrapolated from the sample where ``is_exact`` is false.
    is_exact
        Whether manifests tell them.
    """

    path: Path
    files: int
    bytes: int
    rows: int
    bases: int
    is_exact: bool


def sample_of_store(
    paths: Sequence[str | os.PathLike[str]],
    folder: Path,
    *,
    cache: str | os.PathLike[str] | None = None,
) -> StoredSample:
    """Read some rows of a remote feature file or of shards, and how many there are.

    Raises
    ------
    KvaeError
        If something is missing, damaged or no feature file.
    """
    target = folder / "rows.arrow"
    if len(paths) == 1 and str(as_path(paths[0])).endswith(".arrow"):
        return _of_file(paths[0], target)
    try:
        found = find_manifests(
            [copy.path for copy in copies(paths, cache=cache, choose=lambda _: [])]
        )
    except FewShardsError:
        return _of_file(paths[0], target)
    filled = [shard for shard in found.shards if shard.rows]
    if not filled:
        raise KvaeError(f"{as_path(paths[0])}: has no rows: featurize again")
    name = filled[0].path.name
    uris = [uri for path in paths if (uri := as_uri(path)) is not None]
    for uri in uris:
        place = open_place(uri)
        if place.uri.name != name:
            place = place.child(name)
        file = place.file()
        if file is not None:
            _write_rows(file, target)
            break
    else:
        raise KvaeError(f"{as_path(paths[0])}: {name} is missing: featurize it again")
    return StoredSample(
        target,
        len(found.shards),
        sum(int(shard.manifest["bytes"]) for shard in found.shards),
        found.rows,
        sum(int(shard.manifest["bases"]) for shard in found.shards),
        is_exact=True,
    )


def _of_file(path: str | os.PathLike[str], target: Path) -> StoredSample:
    uri = as_uri(path)
    assert uri is not None
    place = open_place(uri)
    file = place.file()
    if file is None:
        raise place.missing()
    rows, mean = _write_rows(file, target)
    return StoredSample(target, 1, file.size, rows, round(rows * mean), is_exact=False)


def _write_rows(file: RemoteFile, target: Path) -> tuple[int, float]:
    """Write the first batch of a feature file; rows of all, and bases of one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    with file.opened() as source, told(file.place.uri):
        reader = pa.ipc.open_file(source)
        count = reader.num_record_batches
        if not count:
            raise KvaeError(f"{file}: has no rows: featurize again")
        first = reader.get_batch(0)
        # All batches but the last have as many rows as the first.
        last = first if count == 1 else reader.get_batch(count - 1)
        with pa.ipc.new_file(target, reader.schema) as writer:
            writer.write_batch(first)
    rows = (count - 1) * first.num_rows + last.num_rows
    return rows, float(pc.mean(first.column("length")).as_py())
