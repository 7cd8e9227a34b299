"""``kvae describe``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kvae.cli.common import OUTPUT, Cache, Force, Quiet, Verify, number
from kvae.remote.uris import as_path

if TYPE_CHECKING:
    from kvae.description import Description


def describe(
    features: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FEATS]...",
            help="Feature file written by kvae featurize, or the folder of its shards.",
            show_default="feats.arrow",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder for the table of k-mers, the summary and the picture.",
            show_default="print only",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    table: Annotated[
        str,
        typer.Option(
            help="Name of the table in the folder; the format is that of its suffix: "
            ".tsv, .parquet or .arrow.",
            rich_help_panel=OUTPUT,
        ),
    ] = "kmers.tsv",
    k: Annotated[
        int | None,
        typer.Option("--k", help="k-mers to describe.", show_default="the largest of the file"),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print JSON.", rich_help_panel=OUTPUT)
    ] = False,
    verify: Verify = True,
    cache: Cache = None,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Describe rows and k-mers: presence, variance, variance when present.

    The total variance of a k-mer's log-space field mixes two things: whether the
    k-mer occurs in a row, and how often. The summary tells them apart.
    """
    from kvae.cli.reporting import TerminalProgress
    from kvae.description import describe as run_description

    with TerminalProgress(quiet=quiet) as progress:
        described = run_description(
            features or "feats.arrow",
            output,
            k=k,
            table=table,
            verify=verify,
            cache=cache,
            force=force,
            progress=progress,
        )
    if json:
        typer.echo(described.as_json())
    else:
        _print_summary(described)
    if output is not None and not quiet:
        typer.echo(f"{as_path(output)}: summary.json, {table}, kmers.png, kmers.svg", err=True)


def _print_summary(described: Description) -> None:
    from kvae.cli.tables import print_table

    facts = described.summary()
    letters = described.other_letters
    typer.echo(
        f"{number(facts['rows'], 'row')} from {number(facts['sources'], 'source')},"
        f" {facts['bases']:,} letters"
        + ("" if letters is None else f", {letters:.3%} of them no bases")
        + f"\n{facts['kmers']:,} canonical {described.k}-mers:"
        f" {facts['kmers_never_present']:,} in no row,"
        f" {facts['kmers_always_present']:,} in every row"
    )
    quantiles = described.quantiles()
    columns = list(next(iter(quantiles.values())))
    for title, is_row in (("of rows", True), (f"of {described.k}-mers", False)):
        lines = [
            [
                name.removeprefix("row_").replace("_", " "),
                *(_text(values[column]) for column in columns),
            ]
            for name, values in quantiles.items()
            if name.startswith("row_") == is_row
        ]
        print_table(title, ["", *columns], lines)


def _text(value: float) -> str:
    if value != value:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
