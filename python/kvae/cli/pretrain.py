"""``kvae pretrain``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kvae import defaults
from kvae.cli.common import OUTPUT, Device, Force, Quiet, Threads

TRAINING = "Training"


def pretrain(
    features: Annotated[
        Path,
        typer.Argument(metavar="FEATS", help="Feature file written by kvae featurize."),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="File to write.", rich_help_panel=OUTPUT),
    ] = Path("kmers.safetensors"),
    code: Annotated[
        int,
        typer.Option(help="Numbers that the 7-mers of a row become.", rich_help_panel=TRAINING),
    ] = 128,
    epochs: Annotated[
        int, typer.Option(help="Passes over the training rows.", rich_help_panel=TRAINING)
    ] = defaults.EPOCHS,
    batch_size: Annotated[
        int, typer.Option(help="Rows per step.", rich_help_panel=TRAINING)
    ] = defaults.BATCH_SIZE,
    lr: Annotated[
        float, typer.Option(help="Learning rate.", rich_help_panel=TRAINING)
    ] = defaults.LR,
    seed: Annotated[
        int,
        typer.Option(help="Decides initial weights, split and order.", rich_help_panel=TRAINING),
    ] = defaults.SEED,
    device: Device = "auto",
    threads: Threads = None,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Train an autoencoder of the 7-mers alone, for a decoder that takes it over.

    Models use it with --set decoder.kind=pretrained --set weights=FILE, and hold
    its weights themselves from then on.
    """
    from kvae.cli.reporting import TerminalProgress
    from kvae.training.pretraining import pretrain as run_pretraining

    with TerminalProgress(quiet=quiet) as progress:
        result = run_pretraining(
            features,
            output,
            code=code,
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            seed=seed,
            device=device,
            threads=threads,
            force=force,
            progress=progress,
        )
        other_code = "" if code == 128 else f" --set readout.code={code}"
        progress.message(
            f"{result.output}: error {result.best_mse:.4f} in epoch {result.best_epoch} "
            f"({result.constant_mse:.4f} without an autoencoder); next: kvae train {features} "
            f"--preset deep --set decoder.kind=pretrained --set weights={result.output}{other_code}"
        )
