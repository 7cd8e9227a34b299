"""Tables on standard output."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

Lines = Sequence[Sequence[str]]


def print_table(title: str, header: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    """Print a table of names in the first column and figures in the others.

    On a terminal that is too narrow for it, columns that do not fit follow below, each
    time behind the names: a figure that is cut short is no figure. What a program reads
    has its whole width.
    """
    console = Console(highlight=False, markup=False)
    limit = console.width if console.is_terminal else None
    lines = list(lines)
    for i, columns in enumerate(_groups(console, header, lines, limit)):
        table = _table("" if i else title, header, lines, columns)
        console.width = _width(console, table)
        console.print(table, crop=False)


def _groups(
    console: Console, header: Sequence[str], lines: Lines, limit: int | None
) -> Iterator[list[int]]:
    """Which columns stand side by side: as many as fit, and one at least."""
    group: list[int] = []
    for column in range(1, len(header)):
        wider = [*group, column]
        if limit is None or not group or _width(console, _table("", header, lines, wider)) <= limit:
            group = wider
        else:
            yield group
            group = [column]
    yield group


def _table(title: str, header: Sequence[str], lines: Lines, columns: Sequence[int]) -> Table:
    table = Table(title=title or None, box=SIMPLE_HEAD, title_justify="left")
    for i in (0, *columns):
        table.add_column(header[i], justify="right" if i else "left", no_wrap=True)
    for line in lines:
        table.add_row(*(line[i] for i in (0, *columns) if i < len(line)))
    return table


def _width(console: Console, table: Table) -> int:
    unlimited = console.options.update(width=10_000)
    return Measurement.get(console, unlimited, table).maximum
