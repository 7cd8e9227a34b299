"""Progress of commands that do without torch, which `kvae.cli.reporting` loads."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Self

import typer

from kvae.progress import Progress

__all__ = ["LightProgress"]

_LINE_SECONDS = 10.0


class LightProgress(Progress):
    """A bar on a terminal, a line now and then elsewhere.

    Parameters
    ----------
    quiet
        Show nothing.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._bar: Any = None
        self._label = ""
        self._total = self._done = 0
        self._started = self._told = time.monotonic()

    def __enter__(self) -> Self:
        """Begin to show."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Remove the bar."""
        self._stop()

    def message(self, text: str) -> None:
        """Print a remark."""
        if not self._quiet:
            typer.echo(text, err=True)

    def begin(self, label: str, rows: int) -> None:
        """Restart for a pass."""
        self._stop()
        self._label, self._total, self._done = label, rows, 0
        self._started = self._told = time.monotonic()
        if not self._quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as RichBar

            self._bar = RichBar(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task(label, total=rows)
            self._bar.start()

    def advance(self, rows: int) -> None:
        """Move on."""
        self._done += rows
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done)
        elif now - self._told >= _LINE_SECONDS:
            self._told = now
            rate = self._done / max(now - self._started, 1e-9)
            self.message(
                f"{self._label}: {self._done:,} of {self._total:,} rows, {rate:,.0f} rows/s"
            )

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
