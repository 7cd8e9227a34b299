"""``kvae index``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kvae.cli.common import OUTPUT, Force, LatentFile, Quiet, Threads


def index(
    latents: LatentFile = Path("latent.arrow"),
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Folder of the index.", rich_help_panel=OUTPUT),
    ] = Path("latent.index"),
    threads: Threads = None,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Build an index of latents, for kvae search in millions of rows.

    The index is mapped into memory when it is searched. Files of fewer rows can be
    searched as they are.
    """
    from kvae.cli.reporting import TerminalProgress
    from kvae.searching import index as run_indexing

    with TerminalProgress(quiet=quiet) as progress:
        built = run_indexing(latents, output, threads=threads, force=force, progress=progress)
        progress.message(
            f"{output}: {len(built.rows):,} rows of {built.n_latent} latent units,"
            f" searched with kvae search {output}"
        )
