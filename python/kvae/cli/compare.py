"""``kvae compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kvae import defaults
from kvae.cli.common import (
    INPUT,
    OUTPUT,
    TRAINING,
    BatchSize,
    Device,
    LearningRate,
    Quiet,
    Seed,
    Threads,
)


def compare(
    features: Annotated[
        Path,
        typer.Argument(metavar="FEATS", help="Feature file written by kvae featurize."),
    ],
    configs: Annotated[
        list[str],
        typer.Argument(
            metavar="CONFIG...",
            help="Presets, TOML or JSON files, or NAME=BASE,KEY=VALUE,... with one of them "
            "as base, such as small=dot,model.latent=64.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="Folder for the runs, the tables and the picture.",
            rich_help_panel=OUTPUT,
        ),
    ] = Path("compare"),
    epochs: Annotated[
        int | None,
        typer.Option(
            help="Passes over the training rows, the same for all.",
            show_default=str(defaults.EPOCHS),
            rich_help_panel=TRAINING,
        ),
    ] = None,
    batch_size: BatchSize = None,
    lr: LearningRate = None,
    seed: Seed = None,
    rows: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Use a sample of this many rows, spread over all genomes; the same every time.",
            show_default="all",
            rich_help_panel=INPUT,
        ),
    ] = None,
    device: Device = "auto",
    threads: Threads = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Start these configurations over.", rich_help_panel=OUTPUT),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Train several configurations on the same rows and compare them.

    The folder receives a run per configuration, compare.tsv, compare.json,
    compare.md and the validation curves as compare.png and compare.svg; the table
    is printed as well. The same command again goes on where it was stopped, with
    more --epochs or further configurations if you like. A configuration that fails
    does not stop the others; the exit code is 1 then.
    """
    from kvae.cli.reporting import TerminalProgress
    from kvae.cli.tables import print_table
    from kvae.comparison import ComparisonInterrupted
    from kvae.comparison import compare as run_comparison
    from kvae.comparison.tables import sections

    with TerminalProgress(quiet=quiet) as progress:
        try:
            comparison = run_comparison(
                features,
                configs,
                output,
                epochs=epochs,
                batch_size=batch_size,
                lr=lr,
                seed=seed,
                rows=rows,
                device=device,
                threads=threads,
                force=force,
                progress=progress,
            )
        except ComparisonInterrupted as interruption:
            typer.echo(f"kvae: {interruption}", err=True)
            raise typer.Exit(interruption.exit_code) from None
    for section in sections(comparison.outcomes):
        print_table(section.title, section.header, section.lines)
    for outcome in comparison.failed:
        typer.echo(f"kvae: error: {outcome.entry.name}: {outcome.problem}", err=True)
    if comparison.failed:
        raise typer.Exit(1)
