"""Files of object stores and remote file systems, named by URIs.

Arrow's file systems are not imported before a URI of one is given. Whatever reads sequences
goes through `featurize_files`, and whatever maps feature files through `local_files`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kvae import _core
from kvae.errors import KvaeError
from kvae.remote.uris import RemotePath, has_uris, local_path, names_uris

if TYPE_CHECKING:
    from kvae.progress import Progress as PassProgress

__all__ = ["Chooser", "Request", "featurize_files", "local_files", "share_of_inputs", "told_of"]

Progress = Callable[[int, int | None, int, int], object]
# Tells by the manifests of all shards, or their folders, which files of rows are wanted.
Chooser = Callable[[Sequence[Path]], Iterable[Path]]


class Request(NamedTuple):
    """What `kvae._core.featurize` is told besides the files, in its order."""

    ks: Sequence[int]
    window: int
    min_length: int
    store: str
    sequence: bool = True
    skip_bad: bool = False
    shard: tuple[int, int] | None = None
    threads: int | None = None
    progress: Progress | None = None


def featurize_files(
    paths: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    target: str | os.PathLike[str],
    request: Request,
) -> Mapping[str, Any]:
    """Write rows to a file, as `kvae._core.featurize` does, of inputs that may be remote."""
    if not names_uris(paths):
        return _core.featurize(paths, out, target, *request)
    from kvae.remote.inputs import RemoteInputs

    return RemoteInputs(paths).featurize(out, target, request)


def share_of_inputs(
    paths: Sequence[str | os.PathLike[str]], index: int, count: int, whole: bool
) -> Mapping[str, Any]:
    """Tell which inputs a share has, as `kvae._core.shard_inputs` does.

    ``modified`` has the times of change of its files besides, in nanoseconds.
    """
    if names_uris(paths):
        from kvae.remote.inputs import RemoteInputs

        return RemoteInputs(paths).share(index, count, whole)
    share = _core.shard_inputs(paths, index, count, whole)
    return {**share, "modified": [os.stat(path).st_mtime_ns for _, path, *_ in share["files"]]}


def local_files(
    paths: Sequence[str | os.PathLike[str]],
    *,
    cache: str | os.PathLike[str] | None = None,
    progress: PassProgress | None = None,
    choose: Chooser | None = None,
) -> tuple[list[Path], dict[str, Path]]:
    """Give paths of this machine for feature files and folders of shards.

    Remote ones are fetched, unless their copies are there; of shards those that ``choose``
    names, see `kvae.remote.caching.copies`.

    Returns
    -------
    list of Path
        The files and folders; of a remote folder of shards their manifests.
    dict of str to Path
        Folders of copies, and what they hold copies of.

    Raises
    ------
    KvaeError
        If something is missing or cannot be fetched.
    """
    if not has_uris(paths):
        return [Path(local_path(path)) for path in paths], {}
    from kvae.remote.caching import copies

    found = copies(paths, cache=cache, progress=progress, choose=choose)
    origins: dict[str, Path] = {}
    for copy in found:
        if isinstance(copy.name, RemotePath):
            folder = copy.name.uri.with_path(copy.name.uri.path.rpartition("/")[0])
            origins[str(copy.path.parent)] = RemotePath.of(folder)
    return [copy.path for copy in found], origins


@contextmanager
def told_of(origins: Mapping[str, Path]) -> Iterator[None]:
    """Name remote files in messages about their copies.

    Raises
    ------
    KvaeError
        That of the block, with other paths in it.
    """
    try:
        yield
    except KvaeError as error:
        text = str(error)
        for folder, origin in origins.items():
            if folder in text:
                text = text.replace(folder, str(origin))
                if "is damaged" in text:
                    text += f"; what is read is a copy in {folder}, remove that to fetch it again"
        if text == str(error):
            raise
        raise KvaeError(text) from error
