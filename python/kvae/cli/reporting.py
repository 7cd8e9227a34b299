"""Progress of a computation on standard error."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import (
    Progress as RichBar,
)

from kvae.cli.common import warn
from kvae.epoch_progress import EpochRecord, TrainProgress
from kvae.logs import LOGGER, WarningHandler

# Without a terminal a long pass still shows that it is alive.
_LINE_SECONDS = 10.0


class TerminalProgress(TrainProgress):
    """Shows a bar on a terminal, plain lines otherwise.

    Parameters
    ----------
    quiet
        Show nothing.
    verbose
        Also show the further figures of every epoch.
    """

    def __init__(self, *, quiet: bool = False, verbose: bool = False) -> None:
        self._quiet = quiet
        self._warnings = WarningHandler(None if quiet else warn)
        self._verbose = verbose
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._bar = RichBar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=quiet or not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task("", total=None, visible=False, rate="")
        self._label = ""
        self._total = 0
        self._done = 0
        self._started = self._told = time.monotonic()

    def __enter__(self) -> Self:
        """Start the bar, and show warnings."""
        LOGGER.addHandler(self._warnings)
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Remove the bar."""
        self._bar.stop()
        LOGGER.removeHandler(self._warnings)

    def message(self, text: str) -> None:
        """Print a remark."""
        if not self._quiet:
            self._console.print(text, markup=False)

    def reading(self, read: int, total: int | None, rows: int) -> None:
        """Show how far sequences are read, in megabytes."""
        label = "reading MB"
        if self._label != label:
            self.begin(label, 0)
        now = time.monotonic()
        self._bar.update(
            self._task,
            completed=read // 1_000_000,
            total=None if total is None else -(-total // 1_000_000),
            rate=f"{rows:,} rows",
        )
        if self._bar.disable and now - self._told > _LINE_SECONDS:
            self._told = now
            share = f"{100 * read / total:.0f} % of the sequences, " if total else ""
            self.message(f"reading: {share}{rows:,} rows")

    def fetching(self, name: str, done: int, total: int) -> None:
        """Show how far a remote file is fetched, in megabytes."""
        label = f"fetching MB of {name}"
        if self._label != label:
            self.begin(label, 0)
        self._bar.update(
            self._task, completed=done // 1_000_000, total=-(-total // 1_000_000), rate=""
        )
        now = time.monotonic()
        if self._bar.disable and now - self._told > _LINE_SECONDS:
            self._told = now
            self.message(f"fetching {name}: {done / 1e6:,.0f} of {total / 1e6:,.0f} MB")

    def begin(self, label: str, rows: int) -> None:
        """Restart the bar for a pass."""
        self._label, self._total, self._done = label, rows, 0
        self._started = self._told = time.monotonic()
        self._bar.reset(self._task, total=rows, description=label, visible=True, rate="")

    def advance(self, rows: int) -> None:
        """Move the bar, or print a line now and then."""
        self._done += rows
        now = time.monotonic()
        rate = f"{self._done / max(now - self._started, 1e-9):,.0f} rows/s"
        self._bar.update(self._task, completed=self._done, rate=rate)
        if self._bar.disable and now - self._told > _LINE_SECONDS:
            self._told = now
            self.message(f"{self._label}: {self._done:,} of {self._total:,} rows, {rate}")

    def epoch(self, record: EpochRecord, line: str) -> None:
        """Print the line of an epoch."""
        self.message(line)
        if self._verbose:
            self.message(record.details())
