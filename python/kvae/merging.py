"""``kvae.merge``: the shards of a set as one feature file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kvae import _core
from kvae.atomic import atomic_output, check_output
from kvae.errors import KvaeError
from kvae.progress import Progress
from kvae.remote import local_files, told_of
from kvae.remote.uris import RemotePath, as_path
from kvae.shards import ShardSet, find_shards

__all__ = ["MergeResult", "merge"]


@dataclass(frozen=True)
class MergeResult:
    """What `merge` wrote.

    Attributes
    ----------
    output
        The file.
    shards, rows, bases
        That are in it.
    """

    output: Path
    shards: int
    rows: int
    bases: int


def merge(
    shards: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    output: str | os.PathLike[str] = "feats.arrow",
    *,
    cache: str | os.PathLike[str] | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> MergeResult:
    """Join the shards of `kvae.featurize` to the file that it would have written at once.

    The bytes are those of ``kvae featurize`` of the same inputs without ``--shard``.
    Memory stays bounded, whatever the shards hold.

    Parameters
    ----------
    shards
        Folders of shards, or their files, in any order. Each may be a URI.
    output
        The file to write, or its URI. It appears when all rows are in it, or not at all.
    cache
        Folder for copies of remote shards; see `kvae.FeatureStore`.
    force
        Replace ``output`` if it exists.
    progress
        Told about every batch.

    Raises
    ------
    KvaeError
        For shards that are missing, there twice, damaged, or of other inputs or
        options, and if ``output`` cannot be written.
    """
    progress = progress or Progress()
    check_output(output, force=force)
    given = [shards] if isinstance(shards, str | os.PathLike) else list(shards)
    paths, origins = local_files(given, cache=cache, progress=progress)
    with told_of(origins):
        found = find_shards(paths)
    target = as_path(output)
    if isinstance(target, RemotePath):
        _check_shards_kept(target, found, origins)
    if target.exists() and any(target.samefile(shard.path) for shard in found.shards):
        raise KvaeError(f"{output}: the output is one of the shards: choose another -o")
    progress.begin("merging", found.rows)
    done = 0

    def advance(rows: int) -> None:
        nonlocal done
        progress.advance(rows - done)
        done = rows

    parts = [(shard.path, shard.first_input) for shard in found.filled]
    if not parts:
        raise KvaeError(f"{found.shards[0].path}: no row is left in this shard and the others")
    with told_of(origins), atomic_output(output, force=force) as temporary:
        rows, bases = _core.merge(parts, found.source_names, temporary, target, advance)
    return MergeResult(target, len(found.shards), rows, bases)


def _check_shards_kept(output: RemotePath, found: ShardSet, origins: Mapping[str, Path]) -> None:
    """Refuse to replace a remote shard by all of them."""
    remote = [
        str(origins[str(shard.path.parent)] / shard.path.name)
        for shard in found.shards
        if str(shard.path.parent) in origins
    ]
    if str(output) in remote:
        raise KvaeError(f"{output}: the output is one of the shards: choose another -o")
