"""Options and output that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

INPUT = "Input"
OUTPUT = "Output"
MACHINE = "Machine"

Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        "-t",
        min=1,
        help="CPU threads.",
        show_default="all this process may use",
        rich_help_panel=MACHINE,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        help="auto, cpu, cuda, cuda:N or mps; one that is missing is an error.",
        rich_help_panel=MACHINE,
    ),
]
Force = Annotated[
    bool, typer.Option("--force", help="Replace an existing output.", rich_help_panel=OUTPUT)
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print errors only.", rich_help_panel=OUTPUT)
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more.", rich_help_panel=OUTPUT)]


def warn(message: str) -> None:
    """Print a warning to standard error."""
    typer.secho(f"kvae: warning: {message}", err=True, fg=typer.colors.YELLOW)


def number(count: int, thing: str) -> str:
    """Write a number of things for people."""
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def seconds(value: float) -> str:
    """Write a duration for people."""
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def bases(value: float) -> str:
    """Write a number of bases for people."""
    for unit, size in (("Gb", 1e9), ("Mb", 1e6), ("kb", 1e3)):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value:.0f} b"
