"""Tables on standard output."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table


def print_table(title: str, header: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    """Print a table of names in the first column and figures in the others.

    It keeps its width where the terminal is narrower, or where a program reads it:
    a figure that is cut short is no figure.
    """
    table = Table(title=title, box=SIMPLE_HEAD, title_justify="left")
    for i, name in enumerate(header):
        table.add_column(name, justify="right" if i else "left", no_wrap=True)
    for line in lines:
        table.add_row(*line)
    console = Console(highlight=False, markup=False)
    unlimited = console.options.update(width=10_000)
    console.width = Measurement.get(console, unlimited, table).maximum
    console.print(table, crop=False)
