"""The program run in this process, which spares importing torch once more."""

from __future__ import annotations

import shlex
import signal
import sys

import pytest

from kvae.cli import main


def kvae(line: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run a command line that starts with ``kvae``; its exit code."""
    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(sys, "argv", shlex.split(line))
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    finally:
        signal.signal(signal.SIGTERM, handler)
    return 0
