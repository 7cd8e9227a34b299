"""Inputs of the featurizer some of which are remote."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from kvae import _core
from kvae.errors import KvaeError
from kvae.remote import Progress, Request
from kvae.remote.feeding import Feeder, original, pipes, renamed
from kvae.remote.parts import Part, Share, share_of
from kvae.remote.places import RemoteFile, open_place
from kvae.remote.uris import Uri, as_path, as_uri, names_uris

__all__ = ["Found", "RemoteInputs", "find_inputs"]

Found = str | os.PathLike[str] | RemoteFile


class RemoteInputs:
    """Inputs, the remote ones found already.

    Parameters
    ----------
    paths
        Paths, URIs and lists of both.

    Raises
    ------
    KvaeError
        For what is not there, and folders without sequence files.
    """

    def __init__(self, paths: Sequence[str | os.PathLike[str]]) -> None:
        self._inputs = find_inputs(paths)

    @classmethod
    def of(cls, found: Sequence[Found]) -> RemoteInputs:
        """Take inputs that were found."""
        inputs = cls([])
        inputs._inputs = list(found)
        return inputs

    def files(self) -> list[tuple[Found, int]]:
        """Give all files, each once, and their bytes."""
        with self._piped() as (inputs, names), renamed(names):
            files = _core.shard_inputs(inputs, 1, 1, True)["files"]
            return [(names.get(os.fspath(path), path), size) for _, path, size, *_ in files]

    def share(self, index: int, count: int, whole: bool) -> dict[str, Any]:
        """Tell which inputs a share has, as `kvae._core.shard_inputs` does.

        ``modified`` has the times of the share's files.
        """
        with self._piped() as (inputs, names):
            with renamed(names):
                share = share_of(inputs, names, index, count, whole=whole).facts
            times = []
            for _, path, *_ in share["files"]:
                file = names.get(os.fspath(path))
                times.append(os.stat(path).st_mtime_ns if file is None else file.modified)
            return {**share, "modified": times}

    def featurize(
        self,
        out: str | os.PathLike[str],
        target: str | os.PathLike[str],
        request: Request,
    ) -> Mapping[str, Any]:
        """Write rows to a file, as `kvae._core.featurize` does."""
        shard, threads = request.shard, request.threads
        n_threads = threads or _core.available_threads()
        with self._piped() as (inputs, names), renamed(names):
            if shard is not None:
                share = share_of(inputs, names, *shard, whole=request.skip_bad)
                if share.parts:
                    return _featurize_parts(share, inputs, names, out, target, request, n_threads)
            ours = _ours(inputs, names, shard, whole=request.skip_bad)
            bad: list[str | None] | None = None
            if request.skip_bad:
                with Feeder(
                    {path: names[path] for path in ours if path in names}, n_threads
                ) as feeder:
                    watch = _watched(feeder, None)
                    bad = _core.find_bad(
                        inputs, request.window, request.min_length, shard, threads, watch
                    )
                    feeder.check()
                ours = [path for path, why in zip(ours, bad, strict=True) if why is None]
            files = {path: names[path] for path in ours if path in names}
            with Feeder(files, n_threads) as feeder:
                watched = request._replace(progress=_watched(feeder, request.progress))
                summary = _core.featurize(inputs, out, target, *watched, bad)
                feeder.check()
            said = {
                key: [original(text, names) for text in summary[key]] for key in ("warnings", "bad")
            }
        return {**summary, **said}

    @contextmanager
    def _piped(self) -> Iterator[tuple[list[Any], dict[str, RemoteFile]]]:
        """Give paths to all inputs, and what those of the remote ones stand for."""
        with pipes([item for item in self._inputs if isinstance(item, RemoteFile)]) as names:
            paths = iter(names)
            inputs: list[Any] = []
            for item in self._inputs:
                if isinstance(item, RemoteFile):
                    inputs.append((next(paths), str(item), item.size, item.found))
                else:
                    inputs.append(item)
            yield inputs, names


def _featurize_parts(
    share: Share,
    inputs: list[Any],
    names: Mapping[str, RemoteFile],
    out: str | os.PathLike[str],
    target: str | os.PathLike[str],
    request: Request,
    threads: int,
) -> Mapping[str, Any]:
    """Write the rows of a share some of which are parts of remote files.

    Parts are fed as if they were whole files, and all there is.
    """
    found = {os.fspath(path): is_found for path, _, _, is_found in inputs}
    files: dict[str, RemoteFile | Part] = {}
    ours: list[Any] = []
    for name, path, size, *_ in share.facts["files"]:
        pipe = os.fspath(path)
        part = share.parts.get(pipe)
        files[pipe] = part or names[pipe]
        # One that others have the records of is no empty file.
        ours.append((path, name, part.size if part else size, part is not None or found[pipe]))
    with Feeder(files, threads) as feeder, renamed(files):
        watched = request._replace(shard=(1, 1), progress=_watched(feeder, request.progress))
        summary = _core.featurize(ours, out, target, *watched)
        feeder.check()
    for part in share.parts.values():
        _check_names(out, part, summary["records"])
    all_names = [name for _, name, *_ in inputs]
    twice = [name for i, name in enumerate(all_names) if name in all_names[:i]]
    warnings = [f"{name}: named more than once, read once" for name in twice]
    warnings += [original(text, names) for text in summary["warnings"]]
    return {**summary, "warnings": warnings}


def _check_names(out: str | os.PathLike[str], part: Part, records: int) -> None:
    """Refuse records that are called by their number in a file whose beginning was not read."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not part.begin:
        return
    with pa.memory_map(os.fspath(out)) as source:
        rows = pa.ipc.open_file(source)
        for i in range(rows.num_record_batches):
            batch = rows.get_batch(i).select(["id", "source"])
            sources = batch.column("source").cast(pa.string())
            ids = batch.filter(pc.equal(sources, str(part.file))).column("id")
            numbers = pc.extract_regex(ids, r"^record_(?P<number>\d{1,18})$").drop_null()
            if any(int(one["number"]) <= records for one in numbers.to_pylist()):
                raise KvaeError(
                    f"{part.file}: has records without a name, which are numbered from its"
                    " beginning: name them, or give no --shard"
                )


def _ours(
    inputs: list[Any],
    names: Mapping[str, RemoteFile],
    shard: tuple[int, int] | None,
    *,
    whole: bool,
) -> list[str]:
    """Paths of what will be read, in order."""
    if shard is None and not whole:
        # One that is named twice is read once.
        seen: dict[str, str] = {}
        for path, file in names.items():
            seen.setdefault(str(file), path)
        return list(seen.values())
    index, count = shard or (1, 1)
    return [
        os.fspath(path) for _, path, *_ in _core.shard_inputs(inputs, index, count, whole)["files"]
    ]


def _watched(feeder: Feeder, progress: Progress | None) -> Progress:
    def watch(read: int, total: int | None, rows: int, letters: int) -> None:
        feeder.check()
        if progress is not None:
            progress(read, total, rows, letters)

    return watch


def find_inputs(paths: Sequence[str | os.PathLike[str]]) -> list[Found]:
    """Look remote inputs up, and leave the others.

    Raises
    ------
    KvaeError
        As for `RemoteInputs`.
    """
    found: list[Found] = []
    for path in paths:
        text = os.fspath(path)
        if not text.startswith("@"):
            found.extend(_found(path))
        elif not names_uris([text]):
            found.append(path)
        else:
            name = as_path(text[1:])
            for number, line in _entries(text[1:]):
                try:
                    # Lists do not nest: this is a file of that name.
                    found.extend(_found(f"./{line}" if line.startswith("@") else line))
                except KvaeError as error:
                    raise KvaeError(f"{name}, line {number}: {error}") from error
    return found


def _entries(path: str) -> list[tuple[int, str]]:
    """Return the entries of a list, and their lines."""
    uri = as_uri(path)
    if uri is None or uri.scheme == "file":
        content = as_path(path).read_bytes()
    else:
        content = open_place(uri).read_bytes()
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    entries = [(number, line.removesuffix(b"\r")) for number, line in enumerate(lines, 1)]
    named = [(number, os.fsdecode(line)) for number, line in entries if line.strip()]
    if not named:
        raise KvaeError(f"{as_path(path)}: the list names no file: write one path a line")
    return named


def _found(path: str | os.PathLike[str]) -> list[Found]:
    uri = as_uri(path)
    if uri is None:
        return [path]
    if uri.scheme == "file":
        return [uri.path]
    return list(_remote(uri))


def _remote(uri: Uri) -> list[RemoteFile]:
    """Find a file, or the sequence files of a folder."""
    from pyarrow.fs import FileType

    place = open_place(uri)
    info = place.info()
    if info.type == FileType.NotFound:
        raise place.missing()
    if info.is_file:
        return [RemoteFile.of(place, info)]
    prefix = len(place.path.rstrip("/")) + 1
    files = [
        file
        for file in place.listed(recursive=True)
        if not any(part.startswith(".") for part in file.place.path[prefix:].split("/"))
    ]
    chosen = _core.choose_named(str(uri), [file.place.path for file in files])
    return [file for file, is_chosen in zip(files, chosen, strict=True) if is_chosen]
