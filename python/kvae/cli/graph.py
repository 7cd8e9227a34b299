"""``kvae graph``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kvae.cli.common import OUTPUT, Config, Force, Preset, Quiet, Settings
from kvae.remote.uris import as_path


def graph(
    run: Annotated[
        Path | None,
        typer.Argument(metavar="RUN", help="Run folder; a preset is drawn where omitted."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Picture to write: .svg or .png.",
            show_default="model.svg, none with --table",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    preset: Preset = None,
    config: Config = None,
    settings: Settings = None,
    table: Annotated[
        bool,
        typer.Option(
            "--table",
            help="Print layers, widths and numbers of parameters.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Draw a model: its blocks, their widths and parameters, encoder to output."""
    from kvae.cli.tables import print_table
    from kvae.config import read_setting
    from kvae.drawing import graph as run_graph

    if output is None and not table:
        output = Path("model.svg")
    drawn = run_graph(
        run,
        output,
        preset=preset,
        config=config,
        settings=dict(map(read_setting, settings or [])),
        force=force,
    )
    if table:
        lines = [
            [name, what, f"{width:,}", f"{count:,}"] for name, what, width, count in drawn.table()
        ]
        lines.append(["all", "", "", f"{drawn.n_parameters:,}"])
        print_table(drawn.title, ["block", "is", "width", "parameters"], lines)
    if output is not None and not quiet:
        typer.echo(f"{as_path(output)}: {drawn.title}, {drawn.n_parameters:,} parameters", err=True)
