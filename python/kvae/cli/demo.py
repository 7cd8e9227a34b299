"""``kvae demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kvae import defaults
from kvae.cli.common import OUTPUT, Device, Force, Quiet, Threads

_NEXT = """\
next, with your own sequences: encode them with the model that comes with kvae,
  kvae encode --pretrained contigs.fa -o latent.arrow
group them, and write the sequences of each group:
  kvae cluster latent.arrow -o clusters.tsv --bins bins
or train one on them, with --init pretrained where they are few:
  kvae featurize genomes/ -o feats.arrow
  kvae train feats.arrow -o run
  kvae encode run feats.arrow -o latent.arrow
and show it to others, labels and all:
  kvae report run --latent latent.arrow --labels labels.tsv -o report.html
and look closer at this run:
  tensorboard --logdir {folder}/run"""


def demo(
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Folder to make.", rich_help_panel=OUTPUT),
    ] = Path("kvae-demo"),
    epochs: Annotated[
        int, typer.Option(min=1, help="Passes over the rows.")
    ] = defaults.DEMO_EPOCHS,
    seed: Annotated[int, typer.Option(help="Decides weights, split and order.")] = 0,
    device: Device = "auto",
    threads: Threads = None,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Featurize, train and encode small genomes that come with kvae.

    Takes half a minute on two quiet cores, some more on busy ones, and ends with a picture,
    and with what to try next.
    """
    from kvae.cli.reporting import TerminalProgress
    from kvae.demo import demo as run_demo

    with TerminalProgress(quiet=quiet) as progress:
        result = run_demo(
            output,
            epochs=epochs,
            seed=seed,
            device=device,
            threads=threads,
            force=force,
            progress=progress,
            say=lambda line: progress.message(f"$ {line}"),
        )
    if quiet:
        return
    typer.echo(
        f"\n{result.rows:,} windows of {result.genomes} genomes are now"
        f" {result.latent} latent numbers each: {output}/latent.arrow\n"
        "nearest neighbours of the same genome:"
        f" {result.latent_agreement:.1%} in the latent space,"
        f" {result.fourmer_agreement:.1%} among plain 4-mers\n"
        f"picture: {output}/demo.png\n"
        f"the run as a page, for a browser: {output}/report.html\n"
    )
    typer.echo(_NEXT.format(folder=output))
