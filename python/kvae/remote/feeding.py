"""Remote files for the featurizer, each through a named pipe.

The featurizer opens files in their order, a few at a time. For every one of them there is
a named pipe in a temporary folder, and some threads that fetch the files in the same order
and a few blocks ahead, and write them to their pipes. The featurizer sees the end of a file
only when all of its bytes went through and it is still the one that was begun: whatever goes
wrong before leaves the pipe open, and ends the run by an exception.
"""

from __future__ import annotations

import errno
import os
import re
import select
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain
from queue import SimpleQueue
from typing import Any

from kvae.errors import KvaeError
from kvae.remote.parts import Part
from kvae.remote.places import RemoteFile

__all__ = ["Feeder", "Fetchers", "pipes"]

# Bytes fetched at a time, and how many such blocks of a file are under way.
BLOCK = 1 << 21
_BLOCKS_AHEAD = 2
# Files that are fetched beyond those that the featurizer has open.
_FILES_AHEAD = 5
_PIPE_BYTES = 1 << 20
_PATIENCE_SECONDS = 0.05
_LEAVING_SECONDS = 2.0


class Fetchers:
    """Threads that fetch blocks; they are left alone where one waits for a lost network."""

    def __init__(self, count: int) -> None:
        self._tasks: SimpleQueue[tuple[Callable[[], bytes], _Block] | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name="kvae-fetch", daemon=True)
            for _ in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, task: Callable[[], bytes]) -> _Block:
        """Have a block fetched."""
        block = _Block()
        self._tasks.put((task, block))
        return block

    def close(self) -> None:
        """Let the threads end."""
        for _ in self._threads:
            self._tasks.put(None)

    def _work(self) -> None:
        while (item := self._tasks.get()) is not None:
            task, block = item
            try:
                block.content = task()
            except BaseException as error:  # noqa: BLE001 - raised by whoever waits
                # It belongs to whoever waits for the block.
                block.error = error
            block.done.set()


class _Block:
    """A block that is being fetched."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.content = b""
        self.error: BaseException | None = None


def blocks_of(
    part: Part, source: Any, fetchers: Fetchers, *, ahead: int, stop: threading.Event
) -> Iterator[bytes]:
    """Fetch a part of a file from its beginning to its end, some blocks ahead.

    Yields
    ------
    bytes
        Block after block.

    Raises
    ------
    KvaeError
        Where it cannot be read on, or ends early.
    """
    offsets = iter(range(part.begin, part.end, BLOCK))
    waiting: deque[_Block] = deque()

    def begin() -> None:
        offset = next(offsets, None)
        if offset is not None:
            size = min(BLOCK, part.end - offset)
            task = partial(part.file.read_at, source, offset, size)
            waiting.append(fetchers.submit(task))

    for _ in range(ahead):
        begin()
    while waiting:
        block = waiting.popleft()
        while not block.done.wait(_PATIENCE_SECONDS):
            if stop.is_set():
                return
        if block.error is not None:
            raise block.error
        begin()
        yield block.content


@contextmanager
def pipes(files: Sequence[RemoteFile]) -> Iterator[dict[str, RemoteFile]]:
    """Give paths for files, where pipes can be made.

    Raises
    ------
    KvaeError
        Where the system has no named pipes.
    """
    if files and not hasattr(os, "mkfifo"):
        raise KvaeError(
            f"{files[0]}: sequences are read from there by named pipes, which this system does"
            " not have: download them first"
        )
    with tempfile.TemporaryDirectory(prefix="kvae-remote-") as folder:
        yield {f"{folder}/{i:08}": file for i, file in enumerate(files)}


class Feeder:
    """Feeds files to whoever opens their pipes in the same order.

    Parameters
    ----------
    files
        Files, or parts of them, by the paths of their pipes, in order.
    threads
        Files that are open at a time, at most.

    Use it as a context; `check` raises what went wrong, and has to be called now and then.
    """

    def __init__(self, files: Mapping[str, RemoteFile | Part], threads: int) -> None:
        self._files = deque(files.items())
        self._stop = threading.Event()
        self._error: BaseException | None = None
        # Pipes whose end must not be seen.
        self._held: list[int] = []
        self._lock = threading.Lock()
        # More than the featurizer opens: otherwise it might wait for a file that nobody
        # feeds, and not read those that would have to be fed before.
        count = min(len(self._files), threads + 1 + _FILES_AHEAD)
        self._fetchers = Fetchers(min(count * _BLOCKS_AHEAD, 32))
        self._threads = [
            threading.Thread(target=self._work, name="kvae-feed", daemon=True) for _ in range(count)
        ]

    def __enter__(self) -> Feeder:
        for path in dict(self._files):
            os.mkfifo(path, 0o600)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._fetchers.close()
        # One that waits for the network ends when that answers.
        end = time.monotonic() + _LEAVING_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        for handle in self._held:
            os.close(handle)
        for path, _ in self._files:
            with suppress(OSError):
                os.unlink(path)

    def check(self) -> None:
        """Raise what went wrong, if anything did.

        Raises
        ------
        KvaeError
            Naming the file.
        """
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                if not self._files or self._error is not None:
                    return
                path, file = self._files.popleft()
            try:
                self._feed(path, file)
            except BaseException as error:  # noqa: BLE001 - raised by `check`
                with self._lock:
                    self._error = self._error or error
                return
            finally:
                with suppress(OSError):
                    os.unlink(path)

    def _feed(self, path: str, file: RemoteFile | Part) -> None:
        """Write a file to its pipe, and its end only if it is the right one."""
        part = Part(file, 0, file.size) if isinstance(file, RemoteFile) else file
        file = part.file
        handle: int | None = None
        may_end = False
        try:
            with file.opened() as source:
                tag = file.tag(source)
                blocks = blocks_of(
                    part, source, self._fetchers, ahead=_BLOCKS_AHEAD, stop=self._stop
                )
                edges = ([block] if block else [] for block in (part.before, part.after))
                for block in chain(next(edges), blocks, next(edges)):
                    if handle is None:
                        handle = self._open(path)
                    if handle is None:
                        return
                    if not self._write(handle, block):
                        # Nobody reads it any more.
                        may_end = True
                        return
            file.confirm(tag)
            if handle is None:
                # There is nothing in it.
                handle = self._open(path)
            may_end = not self._stop.is_set()
        finally:
            if handle is not None:
                if may_end:
                    os.close(handle)
                else:
                    self._held.append(handle)

    def _open(self, path: str) -> int | None:
        """Wait until the pipe is read from; None if it will not be."""
        while not self._stop.is_set():
            try:
                handle = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise KvaeError(f"{path}: a pipe cannot be opened: {error.strerror}") from error
                self._stop.wait(0.002)
                continue
            with suppress(ImportError, OSError, AttributeError):
                import fcntl

                fcntl.fcntl(handle, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            return handle
        return None

    def _write(self, handle: int, block: bytes) -> bool:
        """Write to a pipe; false if its reader has gone, or all is over."""
        rest = memoryview(block)
        poll = select.poll()
        poll.register(handle, select.POLLOUT)
        while rest and not self._stop.is_set():
            if not poll.poll(1000 * _PATIENCE_SECONDS):
                continue
            try:
                rest = rest[os.write(handle, rest) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                return False
        return not rest


def original(text: str, names: Mapping[str, RemoteFile | Part]) -> str:
    """Put the names of files in the place of the pipes that stand for them."""
    if not names:
        return text
    folder = re.escape(os.path.dirname(next(iter(names))))
    return re.sub(rf"{folder}/\d{{8}}", lambda found: str(names.get(found[0], found[0])), text)


@contextmanager
def renamed(names: Mapping[str, RemoteFile | Part]) -> Iterator[None]:
    """Name files in messages by what they are to the user.

    Raises
    ------
    KvaeError
        With other paths in it.
    """
    try:
        yield
    except KvaeError as error:
        text = original(str(error), names)
        if text == str(error):
            raise
        raise KvaeError(text) from error
