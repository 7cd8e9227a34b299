"""Options and output that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from json import dumps
from pathlib import Path
from typing import Annotated, Any

import typer

from kvae import defaults
from kvae.errors import KvaeError

INPUT = "Input"
OUTPUT = "Output"
MODEL = "Model"
TRAINING = "Training"
MACHINE = "Machine"


def complete(*values: str) -> Callable[[str], list[str]]:
    """Make what completes an option of a shell's command line from known values."""
    return lambda incomplete: [value for value in values if value.startswith(incomplete)]


Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        "-t",
        min=1,
        help="CPU threads.",
        show_default="all this process may use",
        rich_help_panel=MACHINE,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        help="auto, cpu, cuda, cuda:N or mps; one that is missing is an error.",
        autocompletion=complete("auto", "cpu", "cuda", "mps"),
        rich_help_panel=MACHINE,
    ),
]
Force = Annotated[
    bool, typer.Option("--force", help="Replace an existing output.", rich_help_panel=OUTPUT)
]
Verify = Annotated[
    bool,
    typer.Option(
        "--verify/--no-verify",
        help="Hold what is read of a feature file against its checksums.",
        rich_help_panel=INPUT,
    ),
]
Cache = Annotated[
    Path | None,
    typer.Option(
        envvar="KVAE_CACHE",
        metavar="FOLDER",
        help="Where copies of remote feature files (s3://... and so on) are kept.",
        show_default="the user's folder for caches",
        rich_help_panel=MACHINE,
    ),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print errors only.", rich_help_panel=OUTPUT)
]
Preset = Annotated[
    str | None,
    typer.Option(
        help="Design: kvae, or one of outline, deep, slim, lowrank and dot.",
        autocompletion=complete(*defaults.PRESETS),
        show_default=defaults.PRESET,
        rich_help_panel=MODEL,
    ),
]
# Text and not paths: a path is normalised, and ./- would become standard input.
Run = Annotated[
    str | None,
    typer.Argument(
        metavar="RUN",
        help="Run folder of kvae train, or a model file; not with --pretrained.",
        show_default=False,
    ),
]
Inputs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[INPUT]...",
        help="Feature file of kvae featurize or the folder of its shards, or sequence files "
        "and folders; here or at s3://, gs:// and the like.",
        show_default="feats.arrow",
    ),
]
LatentFile = Annotated[
    Path,
    typer.Argument(metavar="LATENT", help="File of kvae encode, in any of its formats."),
]
Labels = Annotated[
    Path | None,
    typer.Option(
        help="Table (.tsv with a header) of labels; its first column names records or "
        "source files.",
        show_default="the source files alone",
        rich_help_panel=INPUT,
    ),
]
By = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN",
        help="Column of the table to use; may be repeated.",
        show_default="genome, species, species_cluster95, label and genus, else the second",
        rich_help_panel=INPUT,
    ),
]
Pretrained = Annotated[
    bool,
    typer.Option(
        "--pretrained",
        help="Use the model that comes with kvae: all arguments are then inputs.",
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        help="TOML or JSON file with what differs from its preset; a run's config.json is one.",
        rich_help_panel=MODEL,
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change one key of the configuration, such as decoder.kind=lowrank or "
        "loss.beta=2; may be repeated.",
        rich_help_panel=MODEL,
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        help="Rows per step.", show_default=str(defaults.BATCH_SIZE), rich_help_panel=TRAINING
    ),
]
LearningRate = Annotated[
    float | None,
    typer.Option(
        help="Learning rate at the start; halved when the validation loss stalls.",
        show_default=f"{defaults.LR:g}",
        rich_help_panel=TRAINING,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        help="Decides initial weights, split, order and noise.",
        show_default=str(defaults.SEED),
        rich_help_panel=TRAINING,
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print a summary as JSON on standard output.",
        rich_help_panel=OUTPUT,
    ),
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more.", rich_help_panel=OUTPUT)]

LogFile = Annotated[
    Path | None,
    typer.Option(
        help="Append to this file what is done, when, with which versions and where.",
        rich_help_panel=OUTPUT,
    ),
]


def warn(message: str) -> None:
    """Print a warning to standard error."""
    typer.echo(paint(f"kvae: warning: {message}", typer.colors.YELLOW), err=True)


def paint(text: str, colour: str) -> str:
    """Colour a text, unless NO_COLOR asks for none; typer leaves it out where no terminal is."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return text if plain else typer.style(text, fg=colour)


def print_json(result: Any, **more: Any) -> None:
    """Print the result of a command as one JSON object on standard output."""
    content = {**more, **asdict(result)}
    typer.echo(dumps(content, indent=2, ensure_ascii=False, default=_plain))


def _plain(value: Any) -> Any:
    """Give what JSON has no form for another: paths as text, mappings as dictionaries."""
    return dict(value) if isinstance(value, Mapping) else str(value)


def number(count: int, thing: str) -> str:
    """Write a number of things for people."""
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def seconds(value: float) -> str:
    """Write a duration for people."""
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def bases(value: float) -> str:
    """Write a number of bases for people."""
    for unit, size in (("Gb", 1e9), ("Mb", 1e6), ("kb", 1e3)):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value:.0f} b"


def model_and_inputs(
    run: str | None, features: list[str] | None, pretrained: bool
) -> tuple[str, list[str]]:
    """Tell the model from the inputs; the first argument is an input with ``--pretrained``."""
    inputs = [*(features or [])]
    if pretrained:
        from kvae.pretrained import PRETRAINED

        inputs = [*([run] if run else []), *inputs]
        return PRETRAINED, inputs or ["feats.arrow"]
    if run is None:
        raise typer.BadParameter("give a run, or --pretrained", param_hint="RUN")
    return run, inputs or ["feats.arrow"]


def parse_ks(text: str) -> list[int]:
    """Read k with commas between them, in the order of a row's fields."""
    from kvae.layout import Layout

    try:
        return list(Layout.from_ks([int(k) for k in text.split(",")]).ks)
    except ValueError:
        raise typer.BadParameter("give numbers with commas between them, like 7,4,3") from None
    except KvaeError as error:
        raise typer.BadParameter(str(error)) from None
