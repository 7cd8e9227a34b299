"""``kvae report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kvae import defaults
from kvae.cli.common import INPUT, OUTPUT, By, Device, Force, Labels, Quiet, Threads

_MAP = "Map"


def report(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="Run folder of kvae train, a model file, or pretrained.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Page to write (.html).", rich_help_panel=OUTPUT),
    ] = Path("report.html"),
    latent: Annotated[
        Path | None,
        typer.Option(
            help="Latents of kvae encode.",
            show_default="a sample of the features is encoded",
            rich_help_panel=INPUT,
        ),
    ] = None,
    features: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="INPUT",
            help="Feature file, or sequences, for calibration, lengths and GC; may be repeated.",
            show_default="what the run was trained on, if it is still there",
            rich_help_panel=INPUT,
        ),
    ] = None,
    labels: Labels = None,
    by: By = None,
    clusters: Annotated[
        Path | None,
        typer.Option(
            help="Table (.tsv with a header) of clusters and their contigs to colour by.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    evaluation: Annotated[
        Path | None,
        typer.Option(
            help="evaluation.json of kvae evaluate, or its folder.", rich_help_panel=INPUT
        ),
    ] = None,
    map: Annotated[
        str,
        typer.Option(
            help="umap (pip install kvae\\[umap]), tsne, pca, or auto: UMAP where it is"
            " installed, else t-SNE.",
            rich_help_panel=_MAP,
        ),
    ] = "auto",
    map_rows: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Rows on the map at most, as many of each file as there are.",
            show_default="20,000 by UMAP, 5,000 by t-SNE, 30,000 by PCA",
            rich_help_panel=_MAP,
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Decides samples and the map.", rich_help_panel=_MAP)
    ] = defaults.SEED,
    title: Annotated[
        str | None,
        typer.Option(
            help="Heading of the page.", show_default="name of the run", rich_help_panel=OUTPUT
        ),
    ] = None,
    device: Device = "auto",
    threads: Threads = None,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Write a page about a run: what was trained, how well, and where its rows lie.

    The page is one HTML file that loads nothing, to be read on a phone, printed and sent.
    """
    from kvae.cli.reporting import TerminalProgress
    from kvae.reporting import report as run_report

    with TerminalProgress(quiet=quiet) as progress:
        written = run_report(
            run,
            output,
            latents=latent,
            features=None if features is None else [*features],
            labels=labels,
            by=by or (),
            clusters=clusters,
            evaluation=evaluation,
            map=map,
            map_rows=map_rows,
            title=title,
            seed=seed,
            device=device,
            threads=threads,
            force=force,
            progress=progress,
        )
        for sentence in dict.fromkeys(written.missing.values()):
            progress.message(f"not on the page: {sentence}")
        progress.message(
            f"{written.output}: {written.map_rows:,} rows on the map, {written.size / 1e6:.1f} MB"
        )
