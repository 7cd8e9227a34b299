"""``kvae evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kvae import defaults
from kvae.cli.common import (
    INPUT,
    OUTPUT,
    By,
    Cache,
    Device,
    Force,
    Inputs,
    Labels,
    Pretrained,
    Quiet,
    Run,
    Threads,
    Verify,
    model_and_inputs,
)
from kvae.errors import KvaeError
from kvae.remote.uris import as_path

_SCORES = "Scores"


def evaluate(
    run: Run = None,
    features: Inputs = None,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="Folder for the tables and the picture.",
            rich_help_panel=OUTPUT,
        ),
    ] = Path("evaluation"),
    labels: Labels = None,
    by: By = None,
    reference: Annotated[
        list[str] | None,
        typer.Option(
            metavar="INPUT",
            help="Other rows, which baselines learn from instead of the evaluated ones; may be "
            "repeated.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    reference_labels: Annotated[
        Path | None,
        typer.Option(
            help="Labels of the reference; discriminants are learned from its species.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    rows: Annotated[
        int,
        typer.Option(
            min=1,
            help="Evaluate so many rows at most, spread over all source files.",
            rich_help_panel=INPUT,
        ),
    ] = defaults.EVALUATE_ROWS,
    only_labelled: Annotated[
        bool,
        typer.Option(
            "--only-labelled",
            help="Evaluate only rows that the table has a label for.",
            rich_help_panel=INPUT,
        ),
    ] = False,
    seeds: Annotated[
        int,
        typer.Option(min=1, help="Repeat so often what is random.", rich_help_panel=_SCORES),
    ] = defaults.EVALUATE_SEEDS,
    metric: Annotated[
        str,
        typer.Option(
            help="euclidean or cosine: the distance of all vectors.", rich_help_panel=_SCORES
        ),
    ] = "euclidean",
    bins: Annotated[
        str,
        typer.Option(
            metavar="BASES,...",
            help="Edges of the bins of length; the last bin is open.",
            rich_help_panel=_SCORES,
        ),
    ] = "1000,2500,5000,10000",
    seed: Annotated[
        int,
        typer.Option(
            help="Decides the sample of rows, and is the first of the seeds.",
            rich_help_panel=_SCORES,
        ),
    ] = defaults.SEED,
    pretrained: Pretrained = False,
    device: Device = "auto",
    threads: Threads = None,
    verify: Verify = True,
    cache: Cache = None,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Examine a model: what it reconstructs, and what its latents are good for.

    Every figure stands beside those of predictors and vectors that need no trained
    model: profiles of short k-mers and of the genome, 4-mers, principal components,
    discriminants. The folder receives evaluation.json, evaluation.md,
    evaluation.png and evaluation.svg; a short table is printed.
    """
    from kvae.cli.reporting import TerminalProgress
    from kvae.cli.tables import print_table
    from kvae.evaluation import evaluate as run_evaluation
    from kvae.evaluation.tables import sections

    model, inputs = model_and_inputs(run, features, pretrained)
    with TerminalProgress(quiet=quiet) as progress:
        found = run_evaluation(
            model,
            inputs,
            output,
            labels=labels,
            by=by or (),
            reference=reference or None,
            reference_labels=reference_labels,
            rows=rows,
            seeds=seeds,
            seed=seed,
            metric=metric,
            bins=_edges(bins),
            only_labelled=only_labelled,
            device=device,
            threads=threads,
            verify=verify,
            cache=cache,
            force=force,
            progress=progress,
        )
        progress.message(
            f"{as_path(output)}: evaluation.json, evaluation.md, evaluation.png, evaluation.svg"
        )
    for section in sections(found):
        print_table(section.title, section.header, section.lines)
    for sentence in found.words:
        typer.echo(sentence)


def _edges(text: str) -> list[int]:
    try:
        return [int(edge) for edge in text.split(",")]
    except ValueError:
        raise KvaeError(f"--bins {text}: edges are whole numbers of bases, with commas") from None
