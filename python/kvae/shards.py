"""Shards of a feature file: their names, their manifests, and sets of them.

A shard is a feature file with some of the rows, and beside it a manifest: JSON that
says what the rows were made of, by which options, and which part of how many they are.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvae import _core
from kvae.atomic import atomic_output
from kvae.dividing import divide
from kvae.errors import KvaeError

__all__ = [
    "Shard",
    "ShardName",
    "ShardPart",
    "ShardSet",
    "check_files",
    "find_manifests",
    "find_shards",
    "has_shards",
    "read_manifest",
    "write_manifest",
]

MANIFEST_FORMAT = 1

_NAME = re.compile(r"feats-(\d{4,})-of-(\d{4,})\.(?:arrow|json)")
# What all shards of a set have in common.
_COMMON = (
    "kvae",
    "shards",
    "layout",
    "k",
    "window",
    "min_length",
    "store",
    "sequence",
    "skip_bad",
    "inputs",
)
# What is read of a manifest, and the types that it must have.
_TYPES: dict[str, type] = {
    "shard": int,
    "first_input": int,
    "files": list,
    "rows": int,
    "bytes": int,
    "checksum": str,
    "warnings": list,
    "bad": list,
    "skipped": list,
    **{name: int for name in ("records", "bases", "too_short", "without_kmer")},
    **{name: object for name in _COMMON},
    "inputs": dict,
}
_SHOWN = 3


@dataclass(frozen=True)
class ShardName:
    """Which shard of how many, counted from 1."""

    index: int
    count: int

    @classmethod
    def of(cls, shard: str | tuple[int, int]) -> ShardName:
        """Read ``"3/32"``, or a pair of numbers.

        Raises
        ------
        KvaeError
            If it is neither, or there is no such shard.
        """
        if isinstance(shard, str):
            match = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", shard)
            if match is None:
                raise KvaeError(f"shard '{shard}': write which of how many, like 3/32")
            shard = int(match[1]), int(match[2])
        index, count = shard
        if not 1 <= index <= count:
            raise KvaeError(f"shard {index}/{count}: shards of {count} are 1 to {count}")
        return cls(index, count)

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def stem(self) -> str:
        """Name of its files, without a suffix."""
        return f"feats-{self.index:04}-of-{self.count:04}"


@dataclass(frozen=True)
class Shard:
    """A shard that is there.

    Attributes
    ----------
    path
        Its rows.
    manifest
        What stands beside them.
    """

    path: Path
    manifest: dict[str, Any]

    @property
    def first_input(self) -> int:
        """Position of the first of its files among all inputs."""
        return int(self.manifest["first_input"])

    @property
    def rows(self) -> int:
        """Number of its rows."""
        return int(self.manifest["rows"])


@dataclass(frozen=True)
class ShardPart:
    """Some shards of a set that follow each other.

    Attributes
    ----------
    shards
        They, in order.
    starts
        Of every part of the set the first row among the rows of all, and their number.
    """

    shards: tuple[Shard, ...]
    starts: tuple[int, ...]


@dataclass(frozen=True)
class ShardSet:
    """All shards of one set, in order.

    Attributes
    ----------
    shards
        Those with rows, and those without.
    source_names
        All inputs, by their positions.
    """

    shards: tuple[Shard, ...]
    source_names: list[str]

    @property
    def rows(self) -> int:
        """Number of all rows."""
        return sum(shard.rows for shard in self.shards)

    def part(self, index: int, count: int) -> ShardPart:
        """Get one of several parts, counted from 1, of about as many rows each.

        Raises
        ------
        FewShardsError
            If there are fewer shards with rows than parts.
        """
        rows = [shard.rows for shard in self.shards]
        parts = divide(rows, count)
        firsts = [sum(rows[: part.start]) for part in parts]
        own = parts[index - 1]
        return ShardPart(self.shards[own.start : own.stop], (*firsts, self.rows))

    @property
    def filled(self) -> list[Shard]:
        """Those with rows."""
        return [shard for shard in self.shards if shard.rows]


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a manifest.

    Raises
    ------
    KvaeError
        If it cannot be read, or is none.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise KvaeError(f"{path}: {(error.strerror or 'cannot be read').lower()}") from error
    except ValueError as error:
        raise KvaeError(f"{path}: is no manifest of a shard: featurize it again") from error
    return parse_manifest(text, path)


def parse_manifest(text: str, path: Path) -> dict[str, Any]:
    """Read the text of a manifest.

    Raises
    ------
    KvaeError
        If it is none; ``path`` is what it calls it.
    """
    try:
        found = json.loads(text)
    except ValueError as error:
        raise KvaeError(f"{path}: is no manifest of a shard: featurize it again") from error
    if not isinstance(found, dict) or "shard" not in found:
        raise KvaeError(f"{path}: is no manifest of a shard: featurize it again")
    if found.get("format") != MANIFEST_FORMAT:
        raise KvaeError(
            f"{path}: has format {found.get('format')!r}, {MANIFEST_FORMAT} expected:"
            " featurize it again, or use the kvae that wrote it"
        )
    if wrong := _unreadable(found):
        raise KvaeError(f"{path}: has no readable '{wrong}': featurize the shard again")
    return found


def _unreadable(manifest: dict[str, Any]) -> str | None:
    """Name an entry that is missing or of another type."""
    for key, type_ in _TYPES.items():
        if key not in manifest or not isinstance(manifest[key], type_):
            return key
    if not isinstance(manifest["inputs"].get("count"), int):
        return "inputs"
    files = manifest["files"]
    if not all(isinstance(file, dict) and isinstance(file.get("name"), str) for file in files):
        return "files"
    return None


def write_manifest(path: Path, manifest: dict[str, Any]) -> None:
    """Write a manifest, whole or not at all."""
    text = json.dumps(manifest, indent=1, ensure_ascii=False)
    with atomic_output(path, force=True) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8", newline="\n")


def is_shard_file(name: str) -> bool:
    """Whether a file is named as a shard, or the manifest of one."""
    return _NAME.fullmatch(name) is not None


def has_shards(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder holds a shard, or what is left of one."""
    try:
        return any(_NAME.fullmatch(name) for name in os.listdir(folder))
    except OSError:
        return False


def file_checksum(path: Path) -> str | None:
    """Return the sum of a whole feature file, as its checksums give it."""
    return _core.RowFile([path]).digests[0]


def find_shards(paths: Iterable[str | os.PathLike[str]], *, verify: bool = True) -> ShardSet:
    """Find the shards of one set, and make sure that all are there.

    Parameters
    ----------
    paths
        Folders of shards, or their files.
    verify
        Also compare each file with its manifest, by the checksums at its end.

    Raises
    ------
    KvaeError
        For shards that are missing, there twice, of other inputs or options, not
        those that their manifests describe, or no shards.
    """
    found = find_manifests(paths)
    check_files(found.shards, verify=verify)
    return found


def find_manifests(paths: Iterable[str | os.PathLike[str]]) -> ShardSet:
    """Find the manifests of one set, as `find_shards` does, and look at no other file."""
    manifests = [manifest for path in paths for manifest in _manifests(Path(path))]
    if not manifests:
        raise KvaeError("no shards: name the folder of kvae featurize --shard, or its files")
    found = {path: read_manifest(path) for path in manifests}
    first = manifests[0]
    by_index: dict[int, Path] = {}
    for path in manifests:
        for key in _COMMON:
            if found[path][key] != found[first][key]:
                raise KvaeError(_foreign(path, found[path], first, found[first], key))
        index = found[path]["shard"]
        if index in by_index:
            raise KvaeError(f"{by_index[index]} and {path} are the same shard: give one of them")
        by_index[index] = path
    count = int(found[first]["shards"])
    missing = [i for i in range(1, count + 1) if i not in by_index]
    if missing:
        raise KvaeError(_missing(first.parent, missing, count))
    shards = [
        Shard(by_index[i].with_suffix(".arrow"), found[by_index[i]]) for i in range(1, count + 1)
    ]
    return ShardSet(tuple(shards), _source_names(shards))


def check_files(shards: Iterable[Shard], *, verify: bool) -> None:
    """Refuse files that are not those that their manifests describe."""
    for shard in shards:
        _check_file(shard, verify=verify)


def _manifests(path: Path) -> list[Path]:
    if path.is_dir():
        names = sorted(name for name in os.listdir(path) if _NAME.fullmatch(name))
        if not names:
            raise KvaeError(f"{path}: holds no shards: make them with kvae featurize --shard")
        # A file without a manifest is one that was not finished, or is to be missed.
        return [path / name for name in names if name.endswith(".json")] or [
            (path / names[0]).with_suffix(".json")
        ]
    if path.suffix not in (".arrow", ".json"):
        raise KvaeError(f"{path}: is no shard: name the files of kvae featurize --shard")
    manifest = path.with_suffix(".json")
    if not path.exists():
        raise KvaeError(f"{path}: no such file: make it with kvae featurize --shard")
    if not manifest.exists():
        raise KvaeError(f"{path}: has no manifest beside it ({manifest.name}): featurize it again")
    return [manifest]


def _foreign(
    path: Path, manifest: dict[str, Any], first: Path, other: dict[str, Any], key: str
) -> str:
    if key == "inputs":
        return f"{path}: is a shard of other inputs than {first}: leave one of them out"
    name = {"kvae": "version of kvae", "shards": "number of shards"}.get(key, key)
    return (
        f"{path}: is of another set than {first}: {name} is {manifest[key]}, not {other[key]}:"
        " leave one of them out"
    )


def _missing(folder: Path, missing: Sequence[int], count: int) -> str:
    shown = ", ".join(map(str, missing[:_SHOWN]))
    more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    which = "shard" if len(missing) == 1 else "shards"
    are = "is" if len(missing) == 1 else "are"
    return (
        f"{folder}: {which} {shown}{more} of {count} {are} missing:"
        f" run kvae featurize --shard {missing[0]}/{count} and so on"
    )


def _check_file(shard: Shard, *, verify: bool) -> None:
    """Refuse a file that is not the one that its manifest describes."""
    stem, count = shard.path.stem, shard.manifest["shards"]
    if stem != ShardName(shard.manifest["shard"], count).stem:
        raise KvaeError(f"{shard.path}: was renamed: its manifest is that of another shard")
    again = f"run kvae featurize --shard {shard.manifest['shard']}/{count} --force again"
    try:
        size = shard.path.stat().st_size
    except OSError as error:
        raise KvaeError(f"{shard.path}: is missing: {again}") from error
    if size != shard.manifest["bytes"]:
        raise KvaeError(
            f"{shard.path}: has {size:,} bytes, and its manifest says"
            f" {shard.manifest['bytes']:,}: {again}"
        )
    if verify and file_checksum(shard.path) != shard.manifest["checksum"]:
        raise KvaeError(f"{shard.path}: is not the file that its manifest describes: {again}")


def _source_names(shards: Sequence[Shard]) -> list[str]:
    """All inputs: a file that was divided is one of several shards."""
    count = int(shards[0].manifest["inputs"]["count"])
    names: list[str | None] = [None] * count
    for shard in shards:
        for i, file in enumerate(shard.manifest["files"], start=shard.first_input):
            if not i < count or names[i] not in (None, file["name"]):
                raise KvaeError(f"{shard.path}: has files that do not fit the other shards'")
            names[i] = str(file["name"])
    if None in names:
        raise KvaeError(
            f"{shards[0].path}: no shard has input {names.index(None) + 1} of {count}:"
            " featurize all again"
        )
    return [name for name in names if name is not None]
