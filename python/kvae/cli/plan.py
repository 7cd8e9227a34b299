"""``kvae plan``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kvae import defaults
from kvae.cli.common import (
    MODEL,
    TRAINING,
    Device,
    Json,
    Preset,
    Quiet,
    Threads,
    bases,
    number,
    seconds,
)
from kvae.featurizing import DEFAULT_MIN_LENGTH, DEFAULT_WINDOW


def plan(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUTS...",
            help="Sequence files and folders, or a feature file or the folder of its shards.",
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="Run folder or model file to train and encode with, or pretrained.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    preset: Preset = None,
    window: Annotated[
        int, typer.Option(min=0, help="Bases in a row, as for kvae featurize.")
    ] = DEFAULT_WINDOW,
    min_length: Annotated[
        int, typer.Option(min=0, help="Leave shorter records out.")
    ] = DEFAULT_MIN_LENGTH,
    epochs: Annotated[
        int, typer.Option(min=1, help="Passes to count.", rich_help_panel=TRAINING)
    ] = defaults.EPOCHS,
    device: Device = "auto",
    threads: Threads = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Estimate what inputs will take: rows, bytes, memory, times, and a batch that fits.

    A sample is featurized, trained on and encoded first, on this machine as it is now,
    which takes some ten seconds; times are those of the rates measured there.
    """
    from kvae.cli.reporting import TerminalProgress
    from kvae.cli.tables import print_table
    from kvae.planning import plan as run_plan

    with TerminalProgress(quiet=quiet) as progress:
        found = run_plan(
            inputs,
            model=model,
            preset=preset,
            window=window,
            min_length=min_length,
            device=device,
            threads=threads,
            progress=progress,
        )
    if json:
        typer.echo(found.as_json())
        return
    about = "" if found.is_exact else "about "
    title = (
        f"{about}{number(found.rows, 'row')} of {bases(found.bases)} from"
        f" {number(found.files, 'file')} ({_bytes(found.input_bytes)})"
    )
    lines = [[f"feature file, {kind}", _bytes(size)] for kind, size in found.stores.items()]
    lines.append(["sequences in memory, without a file", _bytes(found.sequences_bytes)])
    lines.append([f"memory left on {found.device}", _bytes(found.memory_bytes)])
    lines.append(["--batch-size that should fit", f"{found.batch_size:,}"])
    threads_used = number(found.threads, "thread")
    if found.featurize_seconds is not None:
        lines.append([f"featurize, {threads_used}", seconds(found.featurize_seconds)])
    where = f"{found.device}, {threads_used}" if found.device == "cpu" else found.device
    if found.epoch_seconds is not None:
        lines.append([f"train, {where}: an epoch", seconds(found.epoch_seconds)])
        lines.append([f"train, {where}: {epochs} epochs", seconds(epochs * found.epoch_seconds)])
    if found.encode_seconds is not None:
        lines.append([f"encode, {where}", seconds(found.encode_seconds)])
    print_table(title, ["", ""], lines)
    measured = found.measured
    rates = [
        f"{measured['train_rows_per_second']:,.0f} rows/s of training",
        f"{measured['encode_rows_per_second']:,.0f} of encoding",
    ]
    if measured["featurize_bases_per_second"]:
        rates.insert(0, f"{bases(measured['featurize_bases_per_second'])}/s of featurizing")
    typer.echo(
        f"measured just now on {_bytes(measured['sample_bytes'])} of the inputs and"
        f" {measured['train_rows']:,} rows: {', '.join(rates)}"
    )


def _bytes(value: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f} B"
