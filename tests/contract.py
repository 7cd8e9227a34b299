"""One command line at a time: what it made, what it said, how it ended."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from kvae.cli import main
from sequences import listing


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def warnings(self) -> list[str]:
        return [line for line in self.stderr.splitlines() if line.startswith("kvae: warning: ")]

    def error(self) -> str:
        """The one line of a command that failed, without its beginning."""
        assert self.code == 1, (self.code, self.stderr)
        assert self.stdout == ""
        assert self.stderr.startswith("kvae: error: "), self.stderr
        assert self.stderr.count("\n") == 1, self.stderr
        return self.stderr.removeprefix("kvae: error: ").rstrip("\n")


def run(
    arguments: Sequence[str | os.PathLike[str]],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Ended:
    """Run ``kvae`` with these arguments in this process."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    monkeypatch.setattr(sys, "argv", ["kvae", *(os.fspath(argument) for argument in arguments)])
    capfd.readouterr()
    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    told = capfd.readouterr()
    return Ended(code, told.out, told.err)


@contextmanager
def unchanged(folder: Path) -> Iterator[None]:
    """Nothing in a folder is made, changed or removed."""
    before = listing(folder)
    yield
    assert listing(folder) == before
