"""What operating systems do differently, and the only place that asks which one this is."""

from __future__ import annotations

import atexit
import ctypes
import errno
import io
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path, PosixPath, WindowsPath

from kvae import _core

__all__ = [
    "NativePath",
    "exchange",
    "file_in_memory",
    "memory",
    "open_files",
    "peak_memory",
    "set_open_files",
    "signal_heard",
    "speak_utf8",
    "sync",
    "use_default_mode",
    "watched_signals",
]

if sys.platform == "win32":
    from ctypes import wintypes

    NativePath = WindowsPath

    class _Memory(ctypes.Structure):
        """MEMORYSTATUSEX."""

        _fields_ = (
            ("length", wintypes.DWORD),
            ("load", wintypes.DWORD),
            *((name, ctypes.c_ulonglong) for name in ("total", "available", "a", "b", "c", "d")),
            ("extended", ctypes.c_ulonglong),
        )

    class _Counters(ctypes.Structure):
        """PROCESS_MEMORY_COUNTERS."""

        _fields_ = (
            ("size", wintypes.DWORD),
            ("faults", wintypes.DWORD),
            ("peak", ctypes.c_size_t),
            *((name, ctypes.c_size_t) for name in ("now", "a", "b", "c", "d", "page", "top")),
        )

    def sync(path: Path) -> None:
        """Wait until a file is on the device; folders are not waited for here."""
        if path.is_dir():
            return
        # Only what may be written can be flushed.
        handle = os.open(path, os.O_RDWR | os.O_BINARY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def exchange(one: Path, other: Path) -> bool:
        """Tell that two folders cannot be exchanged in one step."""
        return False

    def use_default_mode(path: Path, mode: int) -> None:
        """Leave a temporary file as it is: who may read it is inherited from its folder."""

    def watched_signals(patience: float, pause: float) -> AbstractContextManager[None]:
        """Watch nothing: Ctrl-C is all there is, and ends what computes without Python."""
        return nullcontext()

    def signal_heard() -> None:
        """Say nothing, as nobody watches."""

    def open_files() -> tuple[int, int] | None:
        """Tell that there is no limit of open files to raise."""
        return None

    def set_open_files(count: int, most: int) -> None:
        """Do nothing: there is no such limit."""

    def peak_memory() -> int | None:
        """Give the most memory that this process has held, in bytes."""
        counters = _Counters(size=ctypes.sizeof(_Counters))
        kernel = ctypes.WinDLL("kernel32")
        kernel.GetCurrentProcess.restype = wintypes.HANDLE
        arguments = (wintypes.HANDLE, ctypes.POINTER(_Counters), wintypes.DWORD)
        kernel.K32GetProcessMemoryInfo.argtypes = arguments
        this = kernel.GetCurrentProcess()
        if not kernel.K32GetProcessMemoryInfo(this, ctypes.byref(counters), counters.size):
            return None
        return int(counters.peak)

    def memory() -> tuple[int, int | None] | None:
        """Memory of the machine and what is left of it, in bytes."""
        found = _Memory(length=ctypes.sizeof(_Memory))
        if not ctypes.WinDLL("kernel32").GlobalMemoryStatusEx(ctypes.byref(found)):
            return None
        return int(found.total), int(found.available)

    def speak_utf8() -> None:
        """Write UTF-8 to pipes and files too, which get the letters of one language else."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(encoding="utf-8", errors="backslashreplace")

else:
    NativePath = PosixPath
    import resource

    # Where Python tells of signals now.
    _watched: set[int] = set()

    def _watch_no_more() -> None:
        """Keep the signals of a process that was forked to itself."""
        if _watched:
            signal.set_wakeup_fd(-1)

    os.register_at_fork(after_in_child=_watch_no_more)

    def sync(path: Path) -> None:
        """Wait until a file or folder is on the device."""
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    @contextmanager
    def watched_signals(patience: float, pause: float) -> Iterator[None]:
        """End the program for a signal even where Python's handlers are never called.

        Libraries that compute, or wait, may not come back to Python for long. Temporary
        outputs are removed, and the exit code is the signal's. Handlers have to say that
        they were called, by `signal_heard`.

        Parameters
        ----------
        patience
            Seconds from SIGINT or SIGTERM on, for Python to get at it.
        pause
            Seconds after which a second signal ends the program at once.
        """
        heard, told = os.pipe()
        os.set_blocking(told, False)
        _core.watch_signals(heard, patience, pause)
        former = signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        _watched.add(told)
        try:
            yield
        finally:
            _watched.discard(told)
            signal.set_wakeup_fd(former)
            os.close(told)

    def signal_heard() -> None:
        """Say that a handler was called, to whoever watches the signals."""
        for told in _watched:
            with suppress(OSError):
                os.write(told, b"\0")

    def exchange(one: Path, other: Path) -> bool:
        """Exchange two folders in one step, if the system and the file system can."""
        here, exchanging = -100, 2
        try:
            renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
        except AttributeError:
            return False
        if renameat2(here, os.fsencode(one), here, os.fsencode(other), exchanging) == 0:
            return True
        code = ctypes.get_errno()
        if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            return False
        raise OSError(code, os.strerror(code), str(one))

    def use_default_mode(path: Path, mode: int) -> None:
        """Give a temporary file or folder the mode that any new one would have."""
        mask = os.umask(0)
        os.umask(mask)
        path.chmod(mode & ~mask)

    def open_files() -> tuple[int, int] | None:
        """How many files may be open, and how many at most; None where there is no limit."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == resource.RLIM_INFINITY:
            return None
        return soft, sys.maxsize if hard == resource.RLIM_INFINITY else hard

    def set_open_files(count: int, most: int) -> None:
        """Allow more open files, `most` being what `open_files` has told."""
        hard = resource.RLIM_INFINITY if most == sys.maxsize else most
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))

    def peak_memory() -> int | None:
        """Give the most memory that this process has held, in bytes."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024

    def memory() -> tuple[int, int | None] | None:
        """Memory of the machine in bytes, and None: what is left is not told."""
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), None

    def speak_utf8() -> None:
        """Do nothing: terminals, pipes and files have the user's encoding."""


@contextmanager
def file_in_memory() -> Iterator[str]:
    """Give the path of an empty file that exists as long as it is open or mapped.

    Where files cannot live in memory, or without a name, it is a temporary file.
    """
    if sys.platform == "win32":
        # What is mapped cannot be removed: at the end of the process it can.
        handle, name = tempfile.mkstemp(prefix="kvae-sequences.")
        os.close(handle)
        atexit.register(_remove, name)
        yield name
    elif hasattr(os, "memfd_create"):
        handle = os.memfd_create("kvae-sequences")
        try:
            yield f"/proc/self/fd/{handle}"
        finally:
            os.close(handle)
    else:
        with tempfile.NamedTemporaryFile(prefix="kvae-sequences.") as file:
            yield file.name


def _remove(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)
