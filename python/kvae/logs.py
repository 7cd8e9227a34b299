"""What a command did and how long it took, for whoever has to find out why.

The package logs to the logger ``kvae`` and its children. Nothing is set up on import, so a
program that uses the package decides where that goes; the command line does it here, for
``-v`` and ``--log-file``.
"""

from __future__ import annotations

import logging
import os
import platform
import re
import shlex
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from kvae.errors import KvaeError
from kvae.remote.uris import as_uri, shown
from kvae.system import peak_memory

__all__ = ["LOGGER", "WarningHandler", "describe_inputs", "logged", "one_line"]

LOGGER = logging.getLogger("kvae")

_PACKAGES = ("numpy", "pyarrow", "pydantic", "safetensors", "torch", "typer")
# What changes how the package and the libraries below it compute.
_VARIABLES = re.compile(
    r"(KVAE|OMP|MKL|OPENBLAS|CUDA|TORCH|NCCL|SLURM)_\w+|(LOCAL_)?RANK|WORLD_SIZE"
)
_FIRST_LINE = re.compile(rb"\d{4}-\d\d-\d\d [\d:,]+ [A-Z]+ kvae")


def one_line(text: str) -> str:
    """Escape line ends and all else that does not print."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


class _Lines(logging.Formatter):
    """One line per message, whatever the names in it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Escape what would break the line."""
        record.message = one_line(record.message)
        return super().formatMessage(record)


class WarningHandler(logging.Handler):
    """Shows warnings to the user of a command, or keeps them from him."""

    def __init__(self, show: Callable[[str], object] | None) -> None:
        super().__init__(logging.WARNING)
        self._show = show
        self.setFormatter(_Lines("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Show one."""
        if self._show is not None:
            self._show(self.format(record))


class _StandardError(logging.StreamHandler[TextIO]):
    """Writes to what is standard error now: a progress bar replaces it for a while."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        """Standard error."""
        return sys.stderr


class _File(logging.FileHandler):
    """Says once that it cannot write, and lets the work go on."""

    _complained = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Complain, the first time."""
        if not self._complained:
            self._complained = True
            error = sys.exc_info()[1]
            reason = getattr(error, "strerror", None) or error
            print(f"kvae: warning: {self._given}: cannot be logged to: {reason}", file=sys.stderr)

    def __init__(self, path: Path) -> None:
        self._given = path
        super().__init__(path, encoding="utf-8", errors="backslashreplace")

    def close(self) -> None:
        """Close the file; what it could not take was complained of."""
        with suppress(OSError):
            super().close()


@contextmanager
def logged(
    *, verbose: bool = False, log_file: Path | None = None, needed: Iterable[Any] = ()
) -> Iterator[None]:
    """Log what happens in the block, to standard error or to the end of a file.

    Parameters
    ----------
    verbose
        Log to standard error.
    log_file
        Log to this file too, with tracebacks of what fails. One that is there goes on.
    needed
        Files that the log must not be.

    Raises
    ------
    KvaeError
        If the file is one of `needed`, is no log, or cannot be written.
    """
    handlers: list[logging.Handler] = []
    if verbose:
        terminal = _StandardError()
        terminal.setLevel(logging.INFO)
        # Warnings are shown in any case.
        terminal.addFilter(lambda record: record.levelno < logging.WARNING)
        terminal.setFormatter(_Lines("%(asctime)s %(message)s", "%H:%M:%S"))
        handlers.append(terminal)
    if log_file is not None:
        handlers.append(_file_handler(log_file, needed))
    level, propagate = LOGGER.level, LOGGER.propagate
    for handler in handlers:
        LOGGER.addHandler(handler)
    if handlers:
        LOGGER.setLevel(logging.DEBUG)
        LOGGER.propagate = False
    start = time.perf_counter()
    try:
        _log_surroundings()
        yield
    except BaseException as error:
        after = time.perf_counter() - start
        LOGGER.debug("failed after %.3f s: %s", after, error, exc_info=True)
        raise
    else:
        peak = (peak_memory() or 0) / 2**20
        LOGGER.info("done in %.3f s, peak memory %.0f MB", time.perf_counter() - start, peak)
    finally:
        for handler in handlers:
            LOGGER.removeHandler(handler)
            handler.close()
        LOGGER.setLevel(level)
        LOGGER.propagate = propagate


def _file_handler(path: Path, needed: Iterable[Any]) -> logging.Handler:
    taken = {os.path.realpath(os.fspath(other)) for other in needed}
    if os.path.realpath(path) in taken:
        raise KvaeError(f"{path}: the log cannot be an input or the output: name another file")
    try:
        if path.is_file() and path.stat().st_size:
            with path.open("rb") as file:
                if not _FIRST_LINE.match(file.read(100)):
                    raise KvaeError(f"{path}: is there and is no log of kvae: name another file")
        handler = _File(path)
    except OSError as error:
        raise KvaeError(f"{path}: cannot be written: {error.strerror}") from error
    handler.setFormatter(_Lines("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    return handler


def _log_surroundings() -> None:
    """Log what a report of a bug has to say first."""
    if not LOGGER.isEnabledFor(logging.INFO):
        return
    from kvae import __version__, _core

    packages = ", ".join(f"{name} {_version(name)}" for name in _PACKAGES)
    LOGGER.info("kvae %s, Python %s, %s", __version__, platform.python_version(), packages)
    LOGGER.info("command: %s", shlex.join(map(shown, sys.argv)))
    LOGGER.info("folder: %s", Path.cwd())
    machine = (platform.platform(), os.cpu_count(), _core.available_threads(), _simd())
    LOGGER.info("%s, %s CPUs of which %d may be used, instructions: %s", *machine)
    variables = {
        name: os.environ[name] for name in sorted(os.environ) if _VARIABLES.fullmatch(name)
    }
    if variables:
        LOGGER.info("environment: %s", variables)


def _simd() -> str:
    from kvae import _core

    try:
        return str(_core.backend())
    except KvaeError as error:
        return f"none ({error})"


def _version(package: str) -> str:
    # Loaded where it is used: few commands are asked what they did.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def describe_inputs(paths: Iterable[str | os.PathLike[str]]) -> Iterator[str]:
    """Say what each input is and how large, without opening it."""
    for path in paths:
        name = os.fspath(path)
        if as_uri(name.removeprefix("@")) is not None:
            yield shown(name)
            continue
        if name == "-":
            yield "standard input"
            continue
        try:
            found = os.stat(name.removeprefix("@"))
        except OSError as error:
            yield f"{name}: {error.strerror}"
            continue
        if stat.S_ISDIR(found.st_mode):
            yield f"{name}: folder"
        elif stat.S_ISREG(found.st_mode):
            yield f"{name}: {found.st_size:,} bytes"
        else:
            yield f"{name}: {stat.filemode(found.st_mode)[0]} (no regular file)"
