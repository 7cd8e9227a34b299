"""Parts of remote files: what a shard has of a file, found without fetching all of it.

Where records begin is the crate's to know, which looks into files. So what is needed of a
remote file, some text at its beginning and from each cut on, is put at the same places of an
otherwise empty file of this machine, and more of it where that was not enough.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvae import _core
from kvae.errors import KvaeError
from kvae.remote.places import RemoteFile

__all__ = ["Part", "Share", "share_of"]

# Bytes at the beginning of a file that tell what it is, and that are fetched from a cut on at
# first: a record or two.
_HEAD = 1 << 18
_FIRST = 1 << 18
# What may belong to the last block of a BGZF file.
_BLOCK = 1 << 17

Place = tuple[int, int]


@dataclass(frozen=True)
class Part:
    """A part of a remote file as a file of its own.

    Attributes
    ----------
    file
        The file.
    begin, end
        Which of its bytes.
    before, after
        Bytes that are read before and after these: blocks of which others have a part.
    """

    file: RemoteFile
    begin: int
    end: int
    before: bytes = b""
    after: bytes = b""

    @property
    def size(self) -> int:
        """Number of bytes that are read."""
        return len(self.before) + self.end - self.begin + len(self.after)

    def __str__(self) -> str:
        if not self.begin:
            return str(self.file)
        return f"{self.file} (counted from byte {self.begin:,})"


@dataclass(frozen=True)
class Share:
    """Which inputs a shard has.

    Attributes
    ----------
    facts
        What `kvae._core.shard_inputs` tells of them.
    parts
        What of it is a part of a remote file, by the paths of their pipes.
    """

    facts: Mapping[str, Any]
    parts: Mapping[str, Part]


def share_of(
    inputs: Sequence[Any], names: Mapping[str, RemoteFile], index: int, count: int, *, whole: bool
) -> Share:
    """Find the share of a shard, and the bytes of the files that it has a part of.

    Parameters
    ----------
    inputs
        As for `kvae._core.shard_inputs`.
    names
        Remote files by the paths that they have among the inputs.
    index, count
        Which of how many shards, counted from 1.
    whole
        Whether no file is divided.

    Raises
    ------
    KvaeError
        If a file cannot be read, or changes.
    """
    cuts = {} if whole else _cuts(inputs, names, index, count)
    twins: dict[str, _Twin] = {}
    try:
        for path, within in cuts.items():
            twin = _Twin(path, names[path])
            if twin.is_divisible():
                twins[path] = twin
                for cut in within:
                    twin.find(cut)
            else:
                twin.remove()
        facts = _core.shard_inputs(inputs, index, count, whole)
        parts = {}
        for (_, path, _, begin, end), inside in zip(facts["files"], facts["within"], strict=True):
            name = os.fspath(path)
            if inside is not None and name in twins:
                parts[name] = twins[name].part((begin, inside[0]), (end, inside[1]))
        return Share(facts, parts)
    finally:
        for twin in twins.values():
            twin.remove()


def _cuts(
    inputs: Sequence[Any], names: Mapping[str, RemoteFile], index: int, count: int
) -> dict[str, list[int]]:
    """Find where remote files are cut that this shard has a part of, in their bytes.

    Beside files of this machine, which the crate divides itself, remote ones stay whole.
    """
    files = _core.shard_inputs(inputs, 1, 1, True)["files"]
    if any(os.fspath(path) not in names for _, path, *_ in files):
        return {}
    total = sum(size for _, _, size, _, _ in files)
    ours = [total * i // count for i in (index - 1, index)]
    cuts: dict[str, list[int]] = {}
    start = 0
    for _, path, size, _, _ in files:
        end, name = start + size, os.fspath(path)
        inside = [cut - start for cut in ours if start < cut < end]
        if name in names and inside and max(ours[0], start) < min(ours[1], end):
            cuts[name] = inside
        start = end
    return cuts


class _Twin:
    """A file of this machine that has some of a remote one's bytes, where that has them."""

    def __init__(self, path: str, file: RemoteFile) -> None:
        self._path = Path(path)
        self._file = file
        self._path.touch()
        with self._file.opened() as source:
            self._tag = file.tag(source)
            self._fetch(source, 0, _HEAD)

    def _fetch(self, source: Any, begin: int, end: int) -> None:
        end = min(end, self._file.size)
        if begin < end:
            block = self._file.read_at(source, begin, end - begin)
            with self._path.open("r+b") as sink:
                sink.seek(begin)
                sink.write(block)

    def is_divisible(self) -> bool:
        """Whether it is a file that is divided between records."""
        return _core.next_record(self._path, self._file.size)[0]

    def find(self, cut: int) -> None:
        """Have all that it takes to find the first record from a cut on."""
        size, width = self._file.size, _FIRST
        with self._file.opened() as source:
            begin, found = cut - 1, None
            while True:
                end = cut + width
                self._fetch(source, begin, end)
                os.truncate(self._path, min(end, size))
                # Text that breaks off may look like another record: two have to agree.
                again = self._first_record(cut, is_all=end >= size)
                if end >= size or (again is not None and again == found):
                    break
                begin, found, width = end, again, 2 * width

    def _first_record(self, cut: int, *, is_all: bool) -> Place | None:
        try:
            return _core.next_record(self._path, cut)[1]
        except KvaeError:
            if is_all:
                raise
            return None

    def part(self, start: Place, end: Place) -> Part:
        """Give the bytes between two places."""
        os.truncate(self._path, self._file.size)
        with self._file.opened() as source:
            for place in (start, end):
                self._fetch(source, place[0], place[0] + _BLOCK)
        before, first, last, after = _core.bytes_of_part(self._path, start, end)
        self._file.confirm(self._tag)
        return Part(self._file, first, last, before, after)

    def remove(self) -> None:
        """Leave nothing behind."""
        self._path.unlink(missing_ok=True)
