"""Ctrl-C and SIGTERM end the program by an exception, so that nothing half-written stays."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from kvae.system import signal_heard, watched_signals

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

__all__ = ["stoppable"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_INTERRUPTIONS = (KeyboardInterrupt, SystemExit)
# How long an exception may take to arrive before it is taken for lost.
_PATIENCE = 1.0
# How long Python may take to hear of a signal before the program ends without it: as long as
# what sends SIGTERM waits, before it kills, or less.
_DEAF_SECONDS = 20.0


@contextmanager
def stoppable() -> Iterator[None]:
    """Say that the program was stopped and end with the signal's exit code.

    So it does whatever has become of the exception on its way: libraries make another one
    of it while they are imported or compute. Where they drop it, as Python itself does
    within callbacks of weak references, it is raised again. Where Python does not hear of a
    signal, as a library computes without it, the program ends after a while, or at once for
    a second signal.
    """
    stop = _Stop()
    former = sys.unraisablehook

    def hook(dropped: UnraisableHookArgs) -> None:
        if not (stop.heard and isinstance(dropped.exc_value, _INTERRUPTIONS)):
            former(dropped)

    handlers = {number: signal.getsignal(number) for number in (*_SIGNALS, signal.SIGALRM)}
    for number in _SIGNALS:
        # A program in the background of a script is not to hear Ctrl-C.
        if handlers[number] != signal.SIG_IGN:
            signal.signal(number, stop.hear)
    sys.unraisablehook = hook
    try:
        with watched_signals(_DEAF_SECONDS, _PATIENCE):
            yield
    except BaseException as end:
        if stop.heard is None or (isinstance(end, SystemExit) and not end.code):
            raise
        how = "terminated" if stop.heard == signal.SIGTERM else "interrupted"
        print(f"kvae: {how}", file=sys.stderr)
        sys.exit(128 + stop.heard)
    finally:
        if stop.heard:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
        for number, handler in handlers.items():
            # Those that are not Python's are none, and stay.
            if handler is not None:
                signal.signal(number, handler)
        sys.unraisablehook = former


class _Stop:
    """A signal that has come, if one has."""

    def __init__(self) -> None:
        self.heard: signal.Signals | None = None

    def hear(self, number: int, frame: FrameType | None) -> None:
        """Leave for a signal, and look later whether that has worked."""
        signal_heard()
        self.heard = signal.Signals(number)
        signal.signal(signal.SIGALRM, self._look)
        signal.setitimer(signal.ITIMER_REAL, _PATIENCE, _PATIENCE)
        self._leave()

    def _look(self, number: int, frame: FrameType | None) -> None:
        if not _is_interruption(sys.exception()):
            self._leave()

    def _leave(self) -> None:
        assert self.heard is not None
        if self.heard == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + self.heard)


def _is_interruption(handled: BaseException | None) -> bool:
    """Whether an interruption is being handled: something is cleaned up for it."""
    while handled is not None and not isinstance(handled, _INTERRUPTIONS):
        handled = handled.__context__
    return handled is not None
