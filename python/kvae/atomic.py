"""Outputs that are there whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kvae._core import forget_temporary, remember_temporary
from kvae.errors import KvaeError, refused
from kvae.remote.uris import RemotePath, as_path
from kvae.system import exchange, sync, use_default_mode

__all__ = ["atomic_folder", "atomic_output", "check_output", "check_outputs", "keep_inputs"]


def check_output(path: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Make sure that a file may be written at `path`, before any work is done.

    Returns
    -------
    Path
        `path`, with links resolved, so that a linked file is replaced and not
        the link. For a URI a path that names it in messages.

    Raises
    ------
    KvaeError
        If the folder is missing or cannot be written to, `path` is a folder or a device,
        or there is a file already and `force` is false. Of a URI, also if it cannot be looked up.
    """
    given = as_path(path)
    if isinstance(given, RemotePath):
        from kvae.remote.writing import check_remote_output

        check_remote_output(given.uri, force=force)
        return given
    if str(given) == "-":
        raise KvaeError("-: an output is a file here, not what is printed: name one with -o")
    target = Path(os.path.realpath(given))
    if not target.parent.is_dir():
        raise KvaeError(f"{given}: the folder {target.parent} does not exist: create it first")
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        mode = None
    except OSError as error:
        raise KvaeError(f"{given}: {error.strerror}") from error
    if mode is not None:
        if stat.S_ISDIR(mode):
            raise KvaeError(f"{given}: is a folder: name a file with -o")
        if not stat.S_ISREG(mode):
            raise KvaeError(f"{given}: is not a regular file: name another one with -o")
        if not force:
            raise KvaeError(f"{given}: exists already: give --force to replace it, or another -o")
    _check_writable(given, target.parent)
    return target


def check_outputs(folder: Path, names: Iterable[str], *, force: bool = False) -> None:
    """Make sure that files may be written into a folder, which may have to be made.

    Raises
    ------
    KvaeError
        If the folder around it is missing, it is a file, or one of the files may not be
        written, as `check_output` says.
    """
    if isinstance(folder, RemotePath):
        for name in names:
            check_output(folder / name, force=force)
        return
    around = folder.absolute().parent
    if not around.is_dir():
        raise KvaeError(f"{folder}: the folder {folder.parent} does not exist: create it first")
    if not folder.exists():
        _check_writable(folder, around)
        return
    if not folder.is_dir():
        raise KvaeError(f"{folder}: exists and is not a folder")
    for name in names:
        check_output(folder / name, force=force)


def _check_writable(path: Path, folder: Path) -> None:
    if not os.access(folder, os.W_OK):
        reason = os.strerror(errno.EACCES)
        raise KvaeError(f"{path}: cannot write to its folder: {reason}")


def keep_inputs(output: str | os.PathLike[str], *inputs: object) -> None:
    """Make sure that an output will not take the place of what is read for it.

    Parameters
    ----------
    output
        Where something is going to be written.
    inputs
        Paths and URIs of files that are read; objects that have a ``path`` or ``files``;
        lists of these. Whatever else is among them is passed over.

    Raises
    ------
    KvaeError
        If it is one of them, under this name or another.
    """
    target = as_path(output)
    for given in inputs:
        if isinstance(given, list | tuple):
            keep_inputs(output, *given)
            continue
        if not isinstance(given, str | os.PathLike):
            held = (getattr(given, "path", None), *getattr(given, "files", ()))
            keep_inputs(output, *(name for name in held if isinstance(name, str | os.PathLike)))
            continue
        path = as_path(given)
        if isinstance(target, RemotePath) or isinstance(path, RemotePath):
            is_same = str(target) == str(path)
        else:
            is_same = target.exists() and path.exists() and target.samefile(path)
        if is_same:
            raise KvaeError(f"{output} is the input: give another -o")


@contextmanager
def atomic_output(
    path: str | os.PathLike[str], *, force: bool = False, prefix: str = ".kvae."
) -> Iterator[Path]:
    """Give a temporary path to write to, and move it to `path` at the end.

    What was at `path` stays untouched unless the block ends without an
    exception; the temporary file is removed if it does not. Its name begins with
    ``prefix``.

    A URI has a file for temporary files, which is stored at the end and visible there
    when it is whole.

    Yields
    ------
    Path
        An empty file in the folder of `path`.

    Raises
    ------
    KvaeError
        As `check_output` does, or if the folder or the file cannot be written to.
    """
    if isinstance(remote := as_path(path), RemotePath):
        from kvae.remote.writing import remote_output

        with remote_output(remote.uri, force=force) as temporary:
            yield temporary
        return
    target = check_output(path, force=force)
    path = as_path(path)
    try:
        handle, name = tempfile.mkstemp(prefix=prefix, suffix=".tmp", dir=target.parent)
    except OSError as error:
        raise KvaeError(f"{path}: cannot write to its folder: {error.strerror}") from error
    temporary = Path(name)
    # The Rust half ends the process where memory runs out and nobody can be told.
    place = remember_temporary(os.fsencode(temporary))
    try:
        os.close(handle)
        use_default_mode(temporary, 0o666)
        yield temporary
        sync(temporary)
        if not force and target.exists():
            raise KvaeError(f"{path}: was made by someone else meanwhile: it is left as it is")
        temporary.replace(target)
        sync(target.parent)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.filename in (None, name, str(target.parent)):
            reason = refused(error) or " ".join(str(error).split())
            raise KvaeError(f"{path}: cannot be written: {reason}") from error
        raise
    finally:
        forget_temporary(place)


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary folder to write to, and move it to `path` at the end.

    A folder that is at `path` is replaced then, whatever it holds: whether that may be
    is for the caller to know. If the block ends with an exception it stays untouched,
    and the temporary folder is removed.

    Yields
    ------
    Path
        An empty folder beside `path`.

    Raises
    ------
    KvaeError
        If it, or the folder around it, cannot be written to.
    """
    if isinstance(as_path(path), RemotePath):
        raise KvaeError(
            f"{as_path(path)}: a folder is written to a file system of this machine only:"
            " write it there, and copy it"
        )
    target = Path(os.path.realpath(path))
    try:
        temporary = Path(tempfile.mkdtemp(prefix=".kvae.", suffix=".tmp", dir=target.parent))
    except OSError as error:
        raise KvaeError(f"{path}: cannot write to its folder: {error.strerror}") from error
    place = remember_temporary(os.fsencode(temporary))
    try:
        use_default_mode(temporary, 0o777)
        yield temporary
        for file in temporary.iterdir():
            sync(file)
        if target.exists():
            _replace_folder(temporary, target)
        else:
            temporary.rename(target)
        sync(target.parent)
    except BaseException as error:
        if isinstance(error, OSError) and _is_of(error, temporary):
            reason = refused(error) or " ".join(str(error).split())
            raise KvaeError(f"{path}: cannot be written: {reason}") from error
        raise
    finally:
        # What is left of it: parts of the new folder, or the old one in its place.
        shutil.rmtree(temporary, ignore_errors=True)
        if temporary.exists():
            # Something was refused, which may have been for once.
            shutil.rmtree(temporary, ignore_errors=True)
        forget_temporary(place)


def _is_of(error: OSError, folder: Path) -> bool:
    """Tell whether it was a temporary folder, or what is around it, that failed."""
    where = error.filename
    return where is None or where == str(folder.parent) or str(where).startswith(str(folder))


def _replace_folder(new: Path, target: Path) -> None:
    """Move a folder to where there is one; the old one is at `new` or gone then."""
    if exchange(new, target):
        return
    # Two renames, so that the old folder is never half removed in its place.
    old = Path(tempfile.mkdtemp(prefix=".kvae.", suffix=".tmp", dir=target.parent))
    try:
        target.rename(old / target.name)
        new.rename(target)
    finally:
        if not target.exists():
            (old / target.name).rename(target)
        shutil.rmtree(old, ignore_errors=True)
