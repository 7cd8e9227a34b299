"""Interruptions that pass through a library which hides them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["kept_interruptions"]


@contextmanager
def kept_interruptions() -> Iterator[None]:
    """Raise what a signal's handler raised, not what a library makes of it.

    A library that asks Python for signals while it computes may answer an exception of
    their handlers, such as KeyboardInterrupt, with a RuntimeError of its own that knows
    nothing of it. In a thread that cannot handle signals nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    raised: list[BaseException] = []

    def remembering(handler: Callable[[int, FrameType | None], Any]) -> Callable[..., None]:
        def handle(number: int, frame: FrameType | None) -> None:
            try:
                handler(number, frame)
            except BaseException as interruption:
                raised.append(interruption)
                raise

        return handle

    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handled = {number: handler for number, handler in former.items() if callable(handler)}
    try:
        for number, handler in handled.items():
            signal.signal(number, remembering(handler))
        yield
    except RuntimeError as error:
        if raised:
            raise raised[0] from error
        raise
    finally:
        for number, handler in handled.items():
            signal.signal(number, handler)
