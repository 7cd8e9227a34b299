"""``kvae export``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from kvae.cli.common import OUTPUT, Force, Json, Quiet, Threads, parse_ks, print_json

FEATURES = "Features"


class What(StrEnum):
    """Numbers of a table of features."""

    log = "log"
    counts = "counts"
    frequencies = "frequencies"


def export(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT...",
            help="A feature file, or sequence files and folders; a file of latents; or, for "
            ".onnx, a run folder, a model file, or pretrained.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="File to write; the format is that of its suffix: .parquet, .arrow, .tsv, "
            ".tsv.gz, .npz or .h5ad for tables, .onnx for an encoder.",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ],
    what: Annotated[
        What,
        typer.Option(
            help="Natural logarithms of frequencies + 1e-6, counts, or frequencies.",
            rich_help_panel=FEATURES,
        ),
    ] = What.log,
    k: Annotated[
        str | None,
        typer.Option(
            "--k",
            metavar="K,K,...",
            help="k-mers to write.",
            show_default="all that there are",
            rich_help_panel=FEATURES,
        ),
    ] = None,
    vamb: Annotated[
        bool,
        typer.Option(
            "--vamb",
            help="Write what VAMB reads, .npz: of features its composition, of latents its "
            "matrix; a row per record, not per window.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    threads: Threads = None,
    json: Json = False,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Write features, latents or an encoder for other programs.

    A table of features has a column per k-mer, named by it, beside id, source, start,
    end, length and GC of every row. Latents are converted from any format to any other.
    An encoder takes rows of features and gives latents, in every program that runs ONNX.
    """
    from kvae.cli.reporting import TerminalProgress
    from kvae.exporting import export as run_export

    with TerminalProgress(quiet=quiet) as progress:
        result = run_export(
            inputs,
            output,
            what=what.value,
            k=None if k is None else parse_ks(k),
            vamb=vamb,
            threads=threads,
            force=force,
            progress=progress,
        )
        size = f"{result.rows:,} rows of {result.columns:,} columns"
        if result.content == "encoder":
            size = f"rows of {result.rows:,} fields to {result.columns:,} latent units"
        progress.message(f"{result.output}: {result.content}, {size}")
    if json:
        print_json(result)
