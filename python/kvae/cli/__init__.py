"""The ``kvae`` program.

Each command is a thin layer over the public function of the same name. Nothing
heavy is imported before a command runs, so that help answers at once.
"""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Callable
from typing import Annotated, NoReturn

import typer

from kvae.cli.cluster import cluster
from kvae.cli.compare import compare
from kvae.cli.demo import demo
from kvae.cli.describe import describe
from kvae.cli.doctor import doctor
from kvae.cli.encode import encode
from kvae.cli.evaluate import evaluate
from kvae.cli.export import export
from kvae.cli.featurize import featurize
from kvae.cli.graph import graph
from kvae.cli.index import index
from kvae.cli.merge import merge
from kvae.cli.plan import plan
from kvae.cli.pretrain import pretrain
from kvae.cli.report import report
from kvae.cli.search import search
from kvae.cli.stopping import stoppable
from kvae.cli.train import train
from kvae.errors import KvaeError
from kvae.plugins import load_plugin
from kvae.system import speak_utf8

__all__ = ["app", "main"]

app = typer.Typer(
    name="kvae",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="A first try: `kvae demo`. Every command has its own --help.",
)
# How torch, Python's threads and the loader of libraries say that there is no more memory:
# they have no exception of their own for it.
_NO_MEMORY = ("allocate memory", "out of memory", "failed to map segment", "start new thread")
_PANELS: dict[str, tuple[Callable[..., None], ...]] = {
    "From sequences to latents": (featurize, train, encode),
    "With latents": (cluster, search, index, evaluate, report, export),
    "Looking at data and models": (demo, describe, graph, compare, doctor),
    "More machines, other beginnings": (plan, merge, pretrain),
}
_NEED_NO_ARGUMENTS = (train, cluster, index, demo, describe, graph, doctor)
for _panel, _commands in _PANELS.items():
    for _command in _commands:
        app.command(rich_help_panel=_panel, no_args_is_help=_command not in _NEED_NO_ARGUMENTS)(
            _command
        )


def _show_version(value: bool) -> None:
    if value:
        from kvae import __version__

        typer.echo(f"kvae {__version__}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
    plugins: Annotated[
        list[str] | None,
        typer.Option(
            "--plugin",
            envvar="KVAE_PLUGINS",
            metavar="MODULE",
            help="Load a module or .py file with decoders of your own; may be repeated.",
        ),
    ] = None,
) -> None:
    """k-mer features of DNA sequences, and a variational autoencoder on them.

    **featurize** sequences, **train** a model on the features, and
    **encode** sequences to latent vectors that can be clustered, searched and
    explored.
    """
    for name in plugins or []:
        load_plugin(name)


def _program_for(arguments: list[str]) -> typer.Typer:
    """Leave out the commands that are not asked for.

    Describing the options of all of them takes longer than featurizing many a genome.
    """
    wanted = [
        info
        for info in app.registered_commands
        if info.callback and info.callback.__name__ in arguments[:1]
    ]
    program = copy.copy(app)
    program.registered_commands = wanted or app.registered_commands
    return program


def main() -> None:
    """Run the program; mistakes of the user become one line and exit code 1."""
    speak_utf8()
    try:
        with stoppable():
            _program_for(sys.argv[1:])(prog_name="kvae")
    except KvaeError as error:
        _fail(str(error))
    except BrokenPipeError:
        # The reader of our output has gone; there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        # What the machine refuses is no defect, wherever it did so.
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}")
    except MemoryError as error:
        _fail(f"not enough memory: {error}" if str(error) else "not enough memory")
    except (RuntimeError, ImportError) as error:
        lines = str(error).splitlines()
        told = [line for line in lines if any(words in line for words in _NO_MEMORY)]
        if not told:
            raise
        _fail(f"not enough memory: {told[0].strip()}")


def _fail(message: str) -> NoReturn:
    line = " ".join(message.splitlines())
    print(f"kvae: error: {line}", file=sys.stderr)
    sys.exit(1)
