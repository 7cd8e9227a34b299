"""``kvae merge``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kvae.cli.common import OUTPUT, Cache, Force, Quiet, bases, number


def merge(
    shards: Annotated[
        list[str],
        typer.Argument(
            metavar="SHARDS...",
            help="Folders of kvae featurize --shard, or the files in them, in any order.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Feature file to write.", rich_help_panel=OUTPUT),
    ] = Path("feats.arrow"),
    cache: Cache = None,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Join the shards of a feature file.

    The result has the bytes that kvae featurize of the same inputs would have written
    without --shard. Shards may also be trained on and encoded as they are: give their
    folder in the place of a feature file.
    """
    from kvae.cli.reporting import TerminalProgress
    from kvae.merging import merge as run_merge

    with TerminalProgress(quiet=quiet) as progress:
        result = run_merge(shards, output, cache=cache, force=force, progress=progress)
        progress.message(
            f"{result.output}: {number(result.rows, 'row')} of {bases(result.bases)} from"
            f" {number(result.shards, 'shard')}"
        )
