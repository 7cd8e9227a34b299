"""Copies of remote feature files, fetched once and kept: what is mapped has to be local."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvae.atomic import atomic_output
from kvae.dividing import FewShardsError
from kvae.errors import KvaeError
from kvae.progress import Progress
from kvae.remote import Chooser
from kvae.remote.places import Place, RemoteFile, endpoint_of, open_place
from kvae.remote.uris import RemotePath, Uri, as_uri
from kvae.shards import is_shard_file

__all__ = ["CACHE_VARIABLE", "Copy", "cache_folder", "copies", "holds_features", "run_copy"]

LOGGER = logging.getLogger(__name__)

CACHE_VARIABLE = "KVAE_CACHE"

_BLOCK = 1 << 23
_CONNECTIONS = 8
# What a run is read from by others than its training.
_RUN_FILES = (
    "config.json",
    "model.safetensors",
    "metrics.jsonl",
    "baselines.json",
    "data.json",
    "split.json",
    "environment.json",
)
_ARROW_MAGIC = b"ARROW1"


@dataclass(frozen=True)
class Copy:
    """A file of this machine, and what it is a copy of.

    Attributes
    ----------
    path
        The file.
    name
        What messages call it.
    """

    path: Path
    name: Path


def cache_folder(given: str | os.PathLike[str] | None = None) -> Path:
    """Choose where copies are kept, and make the folder.

    That is ``given``, the folder that ``KVAE_CACHE`` names, ``kvae`` in the user's folder for
    caches, or where nothing can be written there, one in the folder for temporary files.

    Raises
    ------
    KvaeError
        If the folder that was named cannot be written to.
    """
    named = given or os.environ.get(CACHE_VARIABLE)
    if named:
        folder = Path(named).expanduser()
        if (reason := _unusable(folder)) is not None:
            raise KvaeError(
                f"{folder}: cannot hold copies of remote files ({reason}): give another --cache"
            )
        return folder
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    own = Path(home, "kvae")
    if os.path.isabs(own) and _unusable(own) is None:
        return own
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir(), f"kvae-{user}")
    if (reason := _unusable(folder)) is not None or folder.stat().st_uid != user:
        raise KvaeError(
            f"{folder}: cannot hold copies of remote files ({reason or 'is not yours'}):"
            " give another --cache"
        )
    return folder


def _unusable(folder: Path) -> str | None:
    """Make a folder; why that does not work, if it does not."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        return (error.strerror or "cannot be made").lower()
    return None if os.access(folder, os.W_OK | os.X_OK) else "permission denied"


def holds_features(uri: Uri) -> bool:
    """Whether a URI is that of a feature file, or of a folder of shards.

    Raises
    ------
    KvaeError
        If there is nothing, or it cannot be read.
    """
    from pyarrow.fs import FileType

    place = open_place(uri)
    info = place.info()
    if info.type == FileType.NotFound:
        raise place.missing()
    if info.is_file:
        file = RemoteFile.of(place, info)
        if file.size < len(_ARROW_MAGIC):
            return False
        with file.opened() as source:
            return file.read_at(source, 0, len(_ARROW_MAGIC)) == _ARROW_MAGIC
    return any(is_shard_file(file.place.uri.name) for file in place.listed(recursive=False))


def copies(
    paths: Sequence[str | os.PathLike[str]],
    *,
    cache: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    choose: Chooser | None = None,
) -> list[Copy]:
    """Give local files for feature files and folders of shards, and fetch what is remote.

    Of a remote folder come the manifests of its shards, and beside them the shards. What was
    fetched before, and has not changed, is not fetched again. Processes of one machine
    fetch a file once: the others wait.

    Parameters
    ----------
    paths
        What to copy; files of this machine are given back as they are.
    cache
        Folder for copies, see `cache_folder`.
    progress
        Told what is fetched.
    choose
        Tells by the manifests, which are always fetched, which shards are fetched; all are
        where omitted.

    Raises
    ------
    KvaeError
        If something is missing, changes or breaks off while it is fetched, or does not fit
        on the disk.
    FewShardsError
        If shards are to be chosen, and something is none.
    """
    found: list[Copy] = []
    fetching = _Fetching(cache_folder(cache), progress or Progress(), is_choice=choose is not None)
    for path in paths:
        uri = as_uri(path)
        if uri is None or uri.scheme == "file":
            local = Path(path if uri is None else uri.path)
            found.append(Copy(local, local))
        else:
            found.extend(fetching.of(open_place(uri)))
    if choose is not None:
        fetching.fetch_chosen(choose([copy.path for copy in found]))
    return found


def run_copy(run: str | os.PathLike[str], *, cache: str | os.PathLike[str] | None = None) -> Path:
    """Fetch a remote run, without its checkpoints, or a model file; give the copy.

    Raises
    ------
    KvaeError
        If there is no run, or it cannot be fetched.
    """
    from pyarrow.fs import FileType

    uri = as_uri(run)
    assert uri is not None
    place = open_place(uri)
    fetching = _Fetching(cache_folder(cache), Progress(), is_choice=False)
    info = place.info()
    if info.type == FileType.NotFound:
        raise place.missing()
    if info.is_file:
        return fetching.of(place)[0].path
    files = {file.place.uri.name: file for file in place.listed(recursive=False)}
    if "config.json" not in files:
        raise KvaeError(f"{place}: is no run: it holds no config.json")
    folder = fetching.all_of([files[name] for name in _RUN_FILES if name in files])[0].path.parent
    for name in _RUN_FILES:
        if name not in files:
            (folder / name).unlink(missing_ok=True)
    return folder


class _Fetching:
    """Fetches files to one folder."""

    def __init__(self, folder: Path, progress: Progress, *, is_choice: bool) -> None:
        self._folder = folder
        self._progress = progress
        # Shards by their copies, where it is not known yet which of them are wanted.
        self._put_off: dict[Path, RemoteFile] | None = {} if is_choice else None

    def of(self, place: Place) -> list[Copy]:
        """Fetch a file, or the shards in a folder."""
        from pyarrow.fs import FileType

        info = place.info()
        if info.type == FileType.NotFound:
            raise place.missing()
        if not info.is_file:
            return self._shards(place)
        file = RemoteFile.of(place, info)
        beside = None
        if is_shard_file(place.uri.name):
            other = ".json" if place.uri.name.endswith(".arrow") else ".arrow"
            stem = place.path.rpartition(".")[0]
            beside = Place(_sibling(place.uri, other), place.system, stem + other).file()
        if self._put_off is not None:
            if beside is None:
                raise FewShardsError(f"{place}: is no set of shards")
            return self._manifests([file, beside])
        return self.all_of([file] if beside is None else [file, beside])[:1]

    def _shards(self, place: Place) -> list[Copy]:
        files = [
            file for file in place.listed(recursive=False) if is_shard_file(file.place.uri.name)
        ]
        if not files:
            raise KvaeError(f"{place}: holds no shards: make them with kvae featurize --shard")
        if self._put_off is not None:
            return self._manifests(files)
        fetched = self.all_of(files)
        manifests = [copy for copy in fetched if copy.path.suffix == ".json"]
        return manifests or fetched[:1]

    def _manifests(self, files: Sequence[RemoteFile]) -> list[Copy]:
        """Get the copies of manifests, and remember the shards."""
        assert self._put_off is not None
        manifests = [file for file in files if file.place.uri.name.endswith(".json")]
        shards = [file for file in files if file not in manifests]
        self._put_off |= {self._copy(file).path: file for file in shards}
        # A shard without a manifest is one too many, which whoever looks at both says.
        return self.all_of(manifests or shards[:1])

    def fetch_chosen(self, wanted: Iterable[Path]) -> None:
        """Fetch some of the shards that were remembered, by their copies."""
        assert self._put_off is not None
        self.all_of([self._put_off[path] for path in wanted if path in self._put_off])

    def all_of(self, files: Sequence[RemoteFile]) -> list[Copy]:
        """Get the copies of files, fetched now unless they are there."""
        with ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="kvae-look") as pool:
            known = list(pool.map(self._known, files))
        return [copy or self._one(file) for copy, file in zip(known, files, strict=True)]

    def _known(self, file: RemoteFile) -> Copy | None:
        """Get the copy of a file if it is there."""
        copy = self._copy(file)
        if not copy.path.exists():
            return None
        with file.opened() as source:
            said = _description(file, source)
        if not _is_copy(copy.path, _origin(copy), said):
            return None
        LOGGER.info("%s: its copy %s is used", file, copy.path)
        return copy

    def _copy(self, file: RemoteFile) -> Copy:
        uri = file.place.uri
        return Copy(self._folder / _key(file.place) / uri.name, RemotePath.of(uri))

    def _one(self, file: RemoteFile) -> Copy:
        """Fetch a file, unless another process does."""
        copy = self._copy(file)
        target, origin, folder = copy.path, _origin(copy), copy.path.parent
        with self._space(folder, target), file.opened() as source:
            said = _description(file, source)
            with self._locked(target.with_name(f"{target.name}.lock"), file):
                if _is_copy(target, origin, said):
                    return copy
                self._fetch(file, source, target)
                file.confirm(str(said["tag"]))
                # In this order: what is described is there, or is fetched again.
                with atomic_output(origin, force=True) as temporary:
                    temporary.write_text(json.dumps(said) + "\n", encoding="utf-8")
        return copy

    def _fetch(self, file: RemoteFile, source: object, target: Path) -> None:
        free = shutil.disk_usage(target.parent).free
        if free < file.size:
            raise KvaeError(
                f"{file}: has {file.size:,} bytes, and {target.parent} has room for {free:,}:"
                " give a larger folder with --cache"
            )
        if file.size >= _BLOCK:
            self._progress.message(f"fetching {file} ({file.size / 1e6:,.0f} MB) to {self._folder}")
        LOGGER.info("fetching %s (%d bytes) to %s", file, file.size, target)
        done = 0
        lock = threading.Lock()
        target.with_name(f"{target.name}.origin").unlink(missing_ok=True)
        with atomic_output(target, force=True) as temporary, temporary.open("r+b") as sink:

            def fetch(offset: int) -> None:
                nonlocal done
                block = file.read_at(source, offset, min(_BLOCK, file.size - offset))
                with lock:
                    sink.seek(offset)
                    sink.write(block)
                    done += len(block)

            with ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="kvae-fetch") as pool:
                tasks = [pool.submit(fetch, offset) for offset in range(0, file.size, _BLOCK)]
                try:
                    for task in tasks:
                        task.result()
                        self._progress.fetching(file.place.uri.name, done, file.size)
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    raise

    @contextmanager
    def _space(self, folder: Path, target: Path) -> Iterator[None]:
        """Say what the folder for copies is, where it cannot be written to."""
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            yield
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise KvaeError(
                f"{target}: a copy cannot be written ({reason}): give another folder with --cache"
            ) from error

    @contextmanager
    def _locked(self, path: Path, file: RemoteFile) -> Iterator[None]:
        """Keep other processes from fetching the same file."""
        try:
            import fcntl
        except ImportError:
            # A system without such locks: two may fetch it, and both get it whole.
            yield
            return
        with path.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._progress.message(f"waiting for another process that fetches {file}")
                fcntl.flock(lock, fcntl.LOCK_EX)
            except OSError:
                # A file system without locks: two may fetch it, and both get it whole.
                LOGGER.info("%s: cannot be locked", path)
            try:
                yield
            finally:
                with suppress(OSError):
                    fcntl.flock(lock, fcntl.LOCK_UN)


def _origin(copy: Copy) -> Path:
    """Where it is written down what a copy is one of."""
    return copy.path.with_name(f"{copy.path.name}.origin")


def _description(file: RemoteFile, source: Any) -> dict[str, object]:
    return {
        "uri": str(file),
        "bytes": file.size,
        "modified": file.modified,
        "tag": file.tag(source),
    }


def _sibling(uri: Uri, suffix: str) -> Uri:
    return uri.with_path(uri.path.rpartition(".")[0] + suffix)


def _key(place: Place) -> str:
    """Name a folder for the files of a remote one: files of a set stay together."""
    uri = place.uri
    # The same name at another endpoint is another file; who asks does not matter.
    parent = uri.path.rpartition("/")[0]
    text = "\0".join((uri.scheme, endpoint_of(uri), uri.host, parent))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:20]


def _is_copy(target: Path, origin: Path, said: dict[str, object]) -> bool:
    try:
        if target.stat().st_size != said["bytes"]:
            return False
        return bool(json.loads(origin.read_text(encoding="utf-8")) == said)
    except (OSError, ValueError):
        return False
