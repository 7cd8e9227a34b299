"""``kvae search``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from kvae import defaults
from kvae.cli.common import INPUT, MODEL, OUTPUT, Device, Force, Quiet, Threads
from kvae.remote.uris import as_path


def search(
    reference: Annotated[
        Path,
        typer.Argument(
            metavar="REFERENCE", help="What is searched: a latent file, or a folder of kvae index."
        ),
    ],
    query: Annotated[
        Path | None,
        typer.Argument(
            metavar="QUERY",
            help="What is searched for: a latent file, or sequences with --run or --pretrained.",
            show_default=False,
        ),
    ] = None,
    record: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Search for what is like a record of the reference; may be repeated.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(help="Run or model file that encodes the query.", rich_help_panel=MODEL),
    ] = None,
    pretrained: Annotated[
        bool,
        typer.Option(
            "--pretrained",
            help="Encode the query with the model that comes with kvae.",
            rich_help_panel=MODEL,
        ),
    ] = False,
    hits: Annotated[int, typer.Option("--hits", "-n", help="Rows to find for each row.")] = (
        defaults.SEARCH_HITS
    ),
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Table to write: .tsv, .tsv.gz, .parquet or .arrow.",
            show_default="printed as .tsv",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    device: Device = "auto",
    threads: Threads = None,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Find the rows that are most like a query, by the angle between latents.

    The cosine is 1 for rows of one composition and near 0 for rows that have nothing
    to do with each other.
    """
    if pretrained and run is not None:
        raise typer.BadParameter("give --run or --pretrained, not both", param_hint="--run")
    if (query is None) == (not record):
        raise typer.BadParameter("give a QUERY, or --record", param_hint="QUERY")

    from kvae.cli.reporting import TerminalProgress
    from kvae.pretrained import PRETRAINED
    from kvae.searching import search as run_search
    from kvae.searching.writing import write_table

    with TerminalProgress(quiet=quiet) as progress:
        found = run_search(
            reference,
            query,
            output,
            record=record,
            run=PRETRAINED if pretrained else run,
            hits=hits,
            device=device,
            threads=threads,
            force=force,
            progress=progress,
        )
        if output is not None:
            progress.message(
                f"{as_path(output)}: {found.rows.shape[1]} hits for each of"
                f" {len(found.rows):,} rows"
            )
    if output is None:
        write_table(found.table(), sys.stdout.buffer)
