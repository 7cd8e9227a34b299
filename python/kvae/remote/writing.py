"""Outputs on remote file systems: written here, and visible there when they are whole."""

from __future__ import annotations

import ctypes
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from kvae.errors import KvaeError
from kvae.remote.places import Place, open_place, told
from kvae.remote.uris import Uri

__all__ = ["check_remote_output", "remote_output", "upload"]

LOGGER = logging.getLogger(__name__)

_BLOCK = 1 << 24
# Those whose files appear when they are closed; on others one is written beside and moved.
_APPEAR_WHOLE = ("s3", "gcs", "abfs")


def check_remote_output(uri: Uri, *, force: bool) -> Place:
    """Make sure that a file may be written, before any work is done.

    Raises
    ------
    KvaeError
        If it is there and ``force`` is not given, names a folder, or there is no bucket.
    """
    from pyarrow.fs import FileType

    if not uri.path:
        raise KvaeError(f"{uri}: is a bucket: name a file in it with -o")
    place = open_place(uri)
    info = place.info()
    if info.type == FileType.Directory:
        raise KvaeError(f"{uri}: is a folder: name a file with -o")
    if info.is_file and not force:
        raise KvaeError(f"{uri}: exists already: give --force to replace it, or another -o")
    if not info.is_file and "no bucket" in str(why := place.missing()):
        raise why
    return place


@contextmanager
def remote_output(uri: Uri, *, force: bool) -> Iterator[Path]:
    """Give a temporary path of this machine, and store what is there at the end.

    What was at the URI stays untouched unless the block ends without an exception.

    Raises
    ------
    KvaeError
        As `check_remote_output` does, and if the file cannot be stored.
    """
    place = check_remote_output(uri, force=force)
    with tempfile.TemporaryDirectory(prefix="kvae-") as folder:
        temporary = Path(folder, place.uri.name)
        try:
            temporary.touch()
            yield temporary
        except OSError as error:
            if error.filename in (None, str(temporary)):
                reason = (error.strerror or str(error)).lower()
                raise KvaeError(
                    f"{temporary}: cannot be written ({reason}): {uri} is written there first,"
                    " name a folder with room as TMPDIR"
                ) from error
            raise
        upload(temporary, place, force=force)


def upload(path: Path, place: Place, *, force: bool) -> None:
    """Store a file, which is visible when all of it is there.

    Raises
    ------
    KvaeError
        If it cannot be stored, or was made by someone else meanwhile.
    """
    size = path.stat().st_size
    LOGGER.info("storing %d bytes as %s", size, place)
    appears_whole = place.system.type_name in _APPEAR_WHOLE
    folder, _, name = place.path.rpartition("/")
    target = place.path if appears_whole else f"{folder}/.kvae.{name}.tmp"
    with told(place.uri):
        sink = place.system.open_output_stream(target, compression=None)
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                with told(place.uri):
                    sink.write(block)
        if not force and place.info().is_file:
            raise KvaeError(f"{place}: was made by someone else meanwhile: it is left as it is")
    except BaseException:
        if appears_whole:
            _abandon(sink)
        else:
            with suppress(OSError):
                sink.close()
                place.system.delete_file(target)
        raise
    with told(place.uri):
        sink.close()
        if not appears_whole:
            place.system.move(target, place.path)
    stored = int(place.info().size or 0)
    if stored != size:
        raise KvaeError(f"{place}: has {stored:,} bytes there, and {size:,} were sent: start again")


def _abandon(sink: Any) -> None:
    """Never close a stream: closing, which collecting it does too, would complete the file."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(sink))
