"""``kvae.featurize(shard=...)``: one of several shares of the inputs, as a file of its own."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from kvae import _core
from kvae.atomic import atomic_output
from kvae.errors import KvaeError
from kvae.featurizing import FeaturizeResult, Progress
from kvae.layout import Layout
from kvae.remote import Request, featurize_files, share_of_inputs
from kvae.remote.uris import RemotePath
from kvae.shards import (
    MANIFEST_FORMAT,
    ShardName,
    file_checksum,
    parse_manifest,
    read_manifest,
    write_manifest,
)

__all__ = ["featurize_shard", "find_manifest"]

# Unfinished files that were not written to for so long have no writer.
_LEFTOVER_SECONDS = 3600.0
_RESULTS = ("records", "rows", "bases", "too_short", "without_kmer", "skipped", "warnings", "bad")


def featurize_shard(
    paths: Sequence[str | os.PathLike[str]],
    folder: Path,
    shard: ShardName,
    *,
    k: Sequence[int],
    window: int,
    min_length: int,
    store: str,
    sequence: bool,
    skip_bad: bool,
    threads: int | None,
    force: bool,
    progress: Progress | None,
) -> FeaturizeResult:
    """Write one shard and its manifest to a folder, unless they are there already.

    The parameters are those of `kvae.featurize`.

    Raises
    ------
    KvaeError
        Those of `kvae.featurize`, and if the folder has a shard of this name that was
        made of other inputs or by other options, unless ``force`` is given.
    """
    start = time.perf_counter()
    if not isinstance(folder, RemotePath):
        _check_folder(folder)
    output, manifest_path = (folder / f"{shard.stem}{suffix}" for suffix in (".arrow", ".json"))
    share = share_of_inputs(paths, shard.index, shard.count, skip_bad)
    request = {
        "format": MANIFEST_FORMAT,
        "kvae": _core.__version__,
        "shard": shard.index,
        "shards": shard.count,
        "layout": Layout.from_ks(k).fingerprint,
        "k": list(Layout.from_ks(k).ks),
        "window": window,
        "min_length": min_length,
        "store": store,
        "sequence": sequence,
        "skip_bad": skip_bad,
        "inputs": {
            "count": share["inputs"],
            "bytes": share["bytes"],
            "digest": share["digest"],
        },
        "first_input": share["first"],
        "last_input": share["first"] + len(share["files"]) - 1,
        "files": [
            {
                "name": name,
                "bytes": size,
                "modified": modified,
                "from": begin,
                "to": end,
            }
            for (name, _, size, begin, end), modified in zip(
                share["files"], share["modified"], strict=True
            )
        ],
    }
    if not force and (found := find_manifest(manifest_path)) is not None:
        done = _done(output, manifest_path, found, request)
        if done is not None:
            return _result(done, time.perf_counter() - start, repeated=True)
    prefix = f".{shard.stem}."
    if not isinstance(folder, RemotePath):
        # Another shard may make it at the same moment.
        folder.mkdir(exist_ok=True)
        _remove_leftovers(folder, prefix)
    part = (shard.index, shard.count)
    rows = Request(k, window, min_length, store, sequence, skip_bad, part, threads, progress)
    with atomic_output(output, force=True, prefix=prefix) as temporary:
        summary = featurize_files(paths, temporary, output, rows)
        manifest = {
            **request,
            **{name: summary[name] for name in _RESULTS},
            "bytes": temporary.stat().st_size,
            "checksum": file_checksum(temporary),
        }
    write_manifest(manifest_path, manifest)
    return _result(manifest, time.perf_counter() - start)


def _check_folder(folder: Path) -> None:
    if folder.suffix == ".arrow":
        raise KvaeError(f"{folder}: shards go into a folder: name one with -o")
    if folder.exists() and not folder.is_dir():
        raise KvaeError(f"{folder}: is not a folder, as shards need: name another one with -o")
    if not folder.absolute().parent.is_dir():
        raise KvaeError(f"{folder}: the folder {folder.parent} does not exist: create it first")


def _remove_leftovers(folder: Path, prefix: str) -> None:
    """Remove what killed runs of a shard began: whoever is alive writes all the time."""
    for path in folder.glob(f"{prefix}*.tmp"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _LEFTOVER_SECONDS:
                path.unlink()


def find_manifest(path: Path) -> dict[str, Any] | None:
    """Read the manifest of a shard, None where there is none."""
    if isinstance(path, RemotePath):
        from kvae.remote.places import open_place

        file = open_place(path.uri).file()
        if file is None:
            return None
        return parse_manifest(file.place.read_bytes().decode("utf-8", "replace"), path)
    return read_manifest(path) if path.exists() else None


def _done(
    output: Path, path: Path, found: dict[str, Any], request: dict[str, Any]
) -> dict[str, Any] | None:
    """Return the manifest of a shard that is there; None if only its manifest is.

    Raises
    ------
    KvaeError
        If it is a shard of something else.
    """
    again = "give --force to make it again, or another -o"
    for key, wanted in request.items():
        if found.get(key) == wanted:
            continue
        if key == "files":
            changed = [new for new in wanted if new not in found[key]]
            name = changed[0]["name"] if changed else "an input"
            raise KvaeError(f"{path}: {name} has changed since: {again}")
        if key in ("inputs", "first_input", "last_input"):
            raise KvaeError(f"{path}: is of other inputs: {again}")
        raise KvaeError(f"{path}: was made with {key} {found[key]}, not {wanted}: {again}")
    if isinstance(output, RemotePath):
        from kvae.remote.places import open_place

        file = open_place(output.uri).file()
        if file is None:
            return None
        # Its checksums are verified by whoever fetches it.
        whole = file.size == found["bytes"]
    elif not output.exists():
        return None
    else:
        whole = _is_whole(output, found)
    if not whole:
        raise KvaeError(f"{output}: is not the file that its manifest describes: {again}")
    return found


def _is_whole(output: Path, found: Mapping[str, Any]) -> bool:
    return bool(
        output.stat().st_size == found["bytes"] and file_checksum(output) == found["checksum"]
    )


def _result(manifest: dict[str, Any], seconds: float, *, repeated: bool = False) -> FeaturizeResult:
    results = {name: manifest[name] for name in _RESULTS}
    results["skipped"] = [(name, short, none) for name, short, none in manifest["skipped"]]
    return FeaturizeResult(
        files=len(manifest["files"]), **results, seconds=seconds, repeated=repeated
    )
