"""``kvae featurize``."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvae.cli.common import (
    INPUT,
    MACHINE,
    OUTPUT,
    Force,
    Json,
    LogFile,
    Quiet,
    Threads,
    Verbose,
    bases,
    number,
    parse_ks,
    print_json,
    seconds,
    warn,
)
from kvae.remote.uris import as_path

if TYPE_CHECKING:
    from kvae.featurizing import FeaturizeResult

ROWS = "Rows"


class Engine(StrEnum):
    """What computes."""

    local = "local"
    ray = "ray"


class Store(StrEnum):
    """What a feature file keeps of every row."""

    log = "log"
    counts = "counts"
    packed = "packed"


def featurize(
    inputs: Annotated[
        # Text and not paths: a path is normalised, and ./- would become standard input.
        list[str],
        typer.Argument(
            metavar="INPUTS...",
            help="FASTA or FASTQ files (plain, gzip, BGZF, bzip2, xz or zstd), folders, "
            "@lists of paths, or - for standard input; files and folders here, or at s3://, "
            "gs:// and the like.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="Feature file to write; with --shard the folder for shards, feats by default.",
            rich_help_panel=OUTPUT,
        ),
    ] = Path("feats.arrow"),
    window: Annotated[
        int,
        typer.Option(
            min=0,
            help="Bases in a row; the remainder of a record joins its last row. "
            "0 makes every record one row.",
            rich_help_panel=ROWS,
        ),
    ] = 5000,
    min_length: Annotated[
        int, typer.Option(min=0, help="Leave shorter records out.", rich_help_panel=ROWS)
    ] = 1000,
    k: Annotated[
        str,
        typer.Option(
            "--k", metavar="K,K,...", help="k-mers of a row: 1 to 8.", rich_help_panel=ROWS
        ),
    ] = "7,4,3",
    store: Annotated[
        Store,
        typer.Option(
            help="Keep log-space features (33 kB a row), counts (half of it), or only the "
            "packed sequence (1.3 kB for 5 kb).",
            rich_help_panel=OUTPUT,
        ),
    ] = Store.log,
    sequence: Annotated[
        bool,
        typer.Option(
            "--sequence/--no-sequence",
            help="Keep the sequence of every row, at two bits a base.",
            rich_help_panel=OUTPUT,
        ),
    ] = True,
    skip_bad: Annotated[
        bool,
        typer.Option(
            "--skip-bad",
            help="Leave damaged files out instead of stopping; the exit code is 1 then too.",
            rich_help_panel=INPUT,
        ),
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Featurize the I-th of N shares of the inputs, by their bytes, unless it is "
            "there already; kvae merge joins them.",
            show_default="everything",
            rich_help_panel=INPUT,
        ),
    ] = None,
    engine: Annotated[
        Engine,
        typer.Option(
            help="Where to compute: here, or shards by the workers of a Ray cluster.",
            rich_help_panel=MACHINE,
        ),
    ] = Engine.local,
    address: Annotated[
        str | None,
        typer.Option(
            help="Ray cluster, for instance auto.",
            show_default="one of this machine",
            rich_help_panel=MACHINE,
        ),
    ] = None,
    shards: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of shards with --engine ray.",
            show_default="one per CPU or more",
            rich_help_panel=MACHINE,
        ),
    ] = None,
    threads: Threads = None,
    json: Json = False,
    force: Force = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    log_file: LogFile = None,
) -> None:
    """Count k-mers and write log-space features, a row per window of 5 kb.

    Files in folders are found by their names (.fa .fasta .fna .ffn .fas .fq .fastq,
    compressed or not); their format is told by their content.
    """
    from kvae.featurizing import featurize as run_featurize
    from kvae.logs import logged

    if engine is Engine.ray:
        if shard is not None:
            raise typer.BadParameter("with --engine ray all shards are made", param_hint="--shard")
        options = {"k": parse_ks(k), "window": window, "min_length": min_length}
        options |= {"store": store.value, "sequence": sequence, "skip_bad": skip_bad}
        options |= {"shards": shards, "address": address, "threads": threads or 1, "force": force}
        _featurize_ray(inputs, output, options, quiet=quiet)
        return
    if address is not None or shards is not None:
        raise typer.BadParameter("these are of --engine ray", param_hint="--address, --shards")
    with (
        logged(verbose=verbose, log_file=log_file, needed=[output, *inputs]),
        nullcontext(None) if quiet else _Progress() as progress,
    ):
        result = run_featurize(
            inputs,
            output,
            k=parse_ks(k),
            window=window,
            min_length=min_length,
            store=store.value,
            sequence=sequence,
            skip_bad=skip_bad,
            shard=shard,
            threads=threads,
            force=force,
            progress=progress,
        )
    for message in result.warnings:
        if not quiet:
            warn(message)
    for message in result.bad:
        warn(f"left out: {message}")
    name = _shard_file(output, shard) if shard else as_path(output)
    if not quiet:
        if result.repeated:
            typer.echo(f"{name}: done already, {number(result.rows, 'row')}", err=True)
        else:
            _summarize(result, name, verbose=verbose)
    if json:
        print_json(result, output=name)
    if result.bad:
        raise typer.Exit(1)


def _featurize_ray(
    inputs: Sequence[str | Path], output: Path, options: dict[str, Any], *, quiet: bool
) -> None:
    from kvae.cli.reporting import TerminalProgress
    from kvae.distributed import featurize_ray

    folder = _folder(output)
    with TerminalProgress(quiet=quiet) as progress:
        manifests = featurize_ray(inputs, folder, progress=progress, **options)
        rows = sum(manifest["rows"] for manifest in manifests)
        progress.message(
            f"{folder}: {number(rows, 'row')} in {number(len(manifests), 'shard')}; join them"
            f" with kvae merge {folder}, or give the folder to kvae train and kvae encode"
        )
    left_out = [message for manifest in manifests for message in manifest["bad"]]
    for message in left_out:
        warn(f"left out: {message}")
    if left_out:
        raise typer.Exit(1)


def _shard_file(output: Path, shard: str) -> Path:
    from kvae.shards import ShardName

    return _folder(output) / f"{ShardName.of(shard).stem}.arrow"


def _folder(output: Path) -> Path:
    """Where shards go."""
    return Path("feats") if output == Path("feats.arrow") else as_path(output)


def _summarize(result: FeaturizeResult, output: Path, *, verbose: bool) -> None:
    """Say what was done, and what was left out and why."""
    from kvae.logs import one_line

    rate = bases(result.bases / result.seconds)
    typer.echo(
        f"{output}: {number(result.rows, 'row')} of {bases(result.bases)} from"
        f" {number(result.records, 'record')} in {number(result.files, 'file')},"
        f" {seconds(result.seconds)} ({rate}/s)",
        err=True,
    )
    if result.skipped:
        left_out = _left_out(result.too_short, result.without_kmer)
        more = "" if verbose else ", listed with -v"
        typer.echo(
            f"left out: {left_out} (in {number(len(result.skipped), 'file')}{more})", err=True
        )
    if verbose:
        for name, too_short, without_kmer in result.skipped:
            typer.echo(f"  {one_line(name)}: {_left_out(too_short, without_kmer)}", err=True)


def _left_out(too_short: int, without_kmer: int) -> str:
    reasons = []
    if too_short:
        reasons.append(f"{number(too_short, 'record')} shorter than --min-length")
    if without_kmer:
        reasons.append(f"{number(without_kmer, 'window')} without a valid 7-mer")
    return ", ".join(reasons)


class _Progress:
    """A bar of the bytes read on a terminal, a line now and then elsewhere."""

    LINE_SECONDS = 10.0

    def __enter__(self) -> _Progress:
        self._start = self._told = time.monotonic()
        self._bar = None
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                DownloadColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
            )

            self._bar = Progress(
                TextColumn("featurize"),
                BarColumn(),
                DownloadColumn(),
                TextColumn("{task.fields[rows]:,} rows  {task.fields[rate]}/s"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task("", total=None, rows=0, rate="")
            self._bar.start()
        return self

    def __call__(self, read: int, total: int | None, rows: int, letters: int) -> None:
        now = time.monotonic()
        rate = bases(letters / max(now - self._start, 1e-9))
        if self._bar is not None:
            self._bar.update(self._task, completed=read, total=total, rows=rows, rate=rate)
        elif now - self._told >= self.LINE_SECONDS:
            self._told = now
            share = f"{100 * read / total:.0f} % read, " if total else ""
            typer.echo(f"featurize: {share}{rows:,} rows, {rate}/s", err=True)

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()
