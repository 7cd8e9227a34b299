"""``kvae``, and ``python -m kvae``."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import NoReturn


def main() -> None:
    """Run the program; Ctrl-C while it is loaded ends it as at any other time."""
    # A program in the background of a script is not to hear Ctrl-C.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _stop)
    # A tenth of a second, in which nothing has been begun.
    from kvae.cli import main as run

    run()


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    """End at once: an exception might be lost in what is being imported."""
    print("kvae: interrupted", file=sys.stderr, flush=True)
    os._exit(128 + number)


if __name__ == "__main__":
    main()
