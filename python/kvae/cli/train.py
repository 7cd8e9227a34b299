"""``kvae train``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from kvae import defaults
from kvae.cli.common import (
    MACHINE,
    MODEL,
    OUTPUT,
    TRAINING,
    BatchSize,
    Cache,
    Config,
    Device,
    Force,
    Inputs,
    Json,
    LearningRate,
    LogFile,
    Preset,
    Quiet,
    Seed,
    Settings,
    Threads,
    Verify,
    complete,
    print_json,
)
from kvae.featurizing import DEFAULT_MIN_LENGTH, DEFAULT_WINDOW

SEQUENCES = "Sequences"


def train(
    features: Inputs = None,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Folder for the run.", rich_help_panel=OUTPUT),
    ] = Path("run"),
    preset: Preset = None,
    config: Config = None,
    settings: Settings = None,
    latent: Annotated[
        int | None,
        typer.Option(help="Latent units.", show_default="the preset's", rich_help_panel=MODEL),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            help="Start from the weights of a model: pretrained (the one that comes with kvae), "
            "a run, or a model file.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    positives: Annotated[
        str | None,
        typer.Option(
            help="Rows that shall be near each other: those of one contig, of one source "
            "(input file; right where each is a genome), or with one entry in a column of "
            "--labels.",
            show_default="contig",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Table of labels: tab-separated, with a header; the first column names "
            "records or files.",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(
            help="Cut sequences into windows of this many letters; 0 makes each one row.",
            show_default=str(DEFAULT_WINDOW),
            rich_help_panel=SEQUENCES,
        ),
    ] = None,
    min_length: Annotated[
        int | None,
        typer.Option(
            help="Leave shorter sequences out.",
            show_default=str(DEFAULT_MIN_LENGTH),
            rich_help_panel=SEQUENCES,
        ),
    ] = None,
    resample: Annotated[
        bool,
        typer.Option(
            "--resample",
            help="Draw the windows of training rows anew for every epoch, from --min-length to "
            "twice --window letters long.",
            rich_help_panel=SEQUENCES,
        ),
    ] = False,
    epochs: Annotated[
        int | None,
        typer.Option(
            help="Passes over the training rows; with --resume the total.",
            show_default=str(defaults.EPOCHS),
            rich_help_panel=TRAINING,
        ),
    ] = None,
    batch_size: BatchSize = None,
    lr: LearningRate = None,
    seed: Seed = None,
    device: Device = "auto",
    precision: Annotated[
        str | None,
        typer.Option(
            help="Numbers of the hidden layers: fp32, tf32, bf16 or fp16; auto is bf16 on "
            "CUDA devices that have it and fp32 on a CPU.",
            autocompletion=complete("auto", "fp32", "tf32", "bf16", "fp16"),
            show_default="auto",
            rich_help_panel=MACHINE,
        ),
    ] = None,
    compile: Annotated[
        bool | None,
        typer.Option(
            "--compile/--no-compile",
            help="Compile the step; takes a minute at the start.",
            show_default="on CUDA",
            rich_help_panel=MACHINE,
        ),
    ] = None,
    deterministic: Annotated[
        bool,
        typer.Option(
            "--deterministic",
            help="The same bits every time on CUDA, too, or an error; slower.",
            rich_help_panel=MACHINE,
        ),
    ] = False,
    threads: Threads = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on where the run in --output was last stored.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    verify: Verify = True,
    cache: Cache = None,
    json: Json = False,
    force: Force = False,
    quiet: Quiet = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose",
            "-v",
            help="Print more figures per epoch, and what else is done.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    log_file: LogFile = None,
) -> None:
    """Train a variational autoencoder on a feature file, or on sequences.

    About a tenth of the rows is held out by whole source files and scored after
    every epoch; each score stands beside that of a trivial predictor. The folder
    receives the best weights (model.safetensors), a line per epoch
    (metrics.jsonl), TensorBoard curves and what is needed to resume. Ctrl-C and
    SIGTERM store the run and stop; --resume then goes on within the epoch.
    """
    from kvae.cli.reporting import TerminalProgress
    from kvae.config import read_setting
    from kvae.logs import logged
    from kvae.remote.uris import shown
    from kvae.training.processes import leads
    from kvae.training.run import TrainingInterrupted
    from kvae.training.run import train as run_training

    inputs = features or ["feats.arrow"]
    with (
        TerminalProgress(quiet=quiet or not leads(), verbose=verbose) as progress,
        logged(verbose=verbose and leads(), log_file=log_file if leads() else None, needed=inputs),
    ):
        try:
            result = run_training(
                inputs,
                output,
                preset=preset,
                config=config,
                settings=dict(map(read_setting, settings or [])),
                epochs=epochs,
                batch_size=batch_size,
                lr=lr,
                latent=latent,
                window=window,
                min_length=min_length,
                resample=resample or None,
                positives=positives,
                labels=labels,
                init=init,
                seed=seed,
                precision=precision,
                compile=compile,
                deterministic=deterministic or None,
                device=device,
                threads=threads,
                verify=verify,
                cache=cache,
                force=force,
                resume=resume,
                progress=progress,
            )
        except TrainingInterrupted as interruption:
            if leads():
                typer.echo(f"kvae: {interruption}", err=True)
            raise typer.Exit(interruption.exit_code) from None
        progress.message(
            f"{result.run}: {result.epochs} epochs, best validation loss "
            f"{result.best_loss:.1f} in epoch {result.best_epoch}; next: "
            f"kvae encode {result.run} {shlex.join(map(shown, inputs))} -o latent.arrow"
        )
    if json and leads():
        print_json(result)
