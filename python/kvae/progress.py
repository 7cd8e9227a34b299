"""What a long computation tells while it runs."""

from __future__ import annotations


class Progress:
    """Receives the progress of a computation; this base class keeps silent.

    Subclass it to show a bar, log to a service, or stop early by raising.
    """

    def message(self, text: str) -> None:
        """Receive a remark in one line."""

    def reading(self, read: int, total: int | None, rows: int) -> None:
        """Learn that sequences are being read: bytes, of how many if known, and rows so far."""

    def fetching(self, name: str, done: int, total: int) -> None:
        """Learn that a remote file is being fetched: bytes, of how many."""

    def begin(self, label: str, rows: int) -> None:
        """Learn that a pass over ``rows`` rows begins."""

    def advance(self, rows: int) -> None:
        """Learn that ``rows`` more rows of the pass are done."""
