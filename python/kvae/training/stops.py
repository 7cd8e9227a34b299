"""Requests to stop, heard between two steps."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Self

from kvae.system import signal_heard

# One Ctrl-C can arrive twice within a moment: from the terminal and from a
# launcher that passes it on.
_ECHO_SECONDS = 1.0


class StopSignals:
    """Takes SIGINT and SIGTERM as requests while it is entered.

    The first one is only remembered, so that the run can finish its step and
    write a checkpoint. A second one, a second or more later, does what it would
    have done without us. A signal that was ignored before stays ignored, and in
    a thread that cannot handle signals nothing changes.

    Attributes
    ----------
    received
        The first signal, None as long as there was none.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._when = 0.0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        """Start to listen."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                before = signal.getsignal(number)
                if before is not None and before != signal.SIG_IGN:
                    self._before[number] = before
                    signal.signal(number, self._hear)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Put the former handlers back."""
        self._restore()

    def _hear(self, number: int, frame: FrameType | None) -> None:
        signal_heard()
        now = time.monotonic()
        if self.received is None:
            self.received, self._when = signal.Signals(number), now
        elif now - self._when >= _ECHO_SECONDS:
            self._restore()
            signal.raise_signal(number)

    def _restore(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())
