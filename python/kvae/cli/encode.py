"""``kvae encode``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kvae import defaults
from kvae.cli.common import (
    MACHINE,
    OUTPUT,
    Cache,
    Device,
    Force,
    Inputs,
    Json,
    LogFile,
    Pretrained,
    Quiet,
    Run,
    Threads,
    Verbose,
    Verify,
    model_and_inputs,
    print_json,
)


def encode(
    run: Run = None,
    features: Inputs = None,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="File to write; the format is that of its suffix: .arrow, .parquet, .npz, "
            ".h5ad, .tsv or .tsv.gz.",
            rich_help_panel=OUTPUT,
        ),
    ] = Path("latent.arrow"),
    with_logvar: Annotated[
        bool,
        typer.Option(
            "--with-logvar",
            help="Also write the logarithms of the posterior variances.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    batch_size: Annotated[
        int, typer.Option(help="Rows encoded at a time.", rich_help_panel=MACHINE)
    ] = defaults.ENCODE_BATCH_SIZE,
    pretrained: Pretrained = False,
    device: Device = "auto",
    threads: Threads = None,
    verify: Verify = True,
    cache: Cache = None,
    json: Json = False,
    force: Force = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    log_file: LogFile = None,
) -> None:
    """Write the latent of every row: the means of its posterior.

    Rows keep the order of the features, with their record, source file and
    position beside them. Sequences are cut into rows as those that the model was
    trained on, and no feature file is written.
    """
    from kvae.cli.reporting import TerminalProgress
    from kvae.encoding import encode as run_encoding
    from kvae.logs import logged

    model, inputs = model_and_inputs(run, features, pretrained)
    with (
        TerminalProgress(quiet=quiet) as progress,
        logged(verbose=verbose, log_file=log_file, needed=[output, model, *inputs]),
    ):
        result = run_encoding(
            model,
            inputs,
            output,
            with_logvar=with_logvar,
            batch_size=batch_size,
            device=device,
            threads=threads,
            verify=verify,
            cache=cache,
            force=force,
            progress=progress,
        )
        progress.message(f"{result.output}: {result.rows:,} rows of {result.latent} latent units")
    if json:
        print_json(result)
