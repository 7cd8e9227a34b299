"""``kvae cluster``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kvae import defaults
from kvae.cli.common import INPUT, OUTPUT, Force, LatentFile, Quiet, Seed, Threads, bases, number
from kvae.remote.uris import as_path

if TYPE_CHECKING:
    from kvae.clustering import Clusters

_METHOD = "Method"


def cluster(
    latents: LatentFile = Path("latent.arrow"),
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Table of cluster and contig.", rich_help_panel=OUTPUT),
    ] = Path("clusters.tsv"),
    k: Annotated[
        int | None,
        typer.Option(
            "-k",
            help="Number of clusters, where it is known: k-means.",
            show_default="found by the method",
            rich_help_panel=_METHOD,
        ),
    ] = None,
    resolution: Annotated[
        float,
        typer.Option(help="More gives more and smaller clusters.", rich_help_panel=_METHOD),
    ] = 1.0,
    neighbours: Annotated[
        int,
        typer.Option(
            help="Nearest contigs that a contig may be linked with.", rich_help_panel=_METHOD
        ),
    ] = defaults.CLUSTER_NEIGHBOURS,
    min_contigs: Annotated[
        int,
        typer.Option(
            help="Smaller clusters are none: their contigs are unclustered.",
            rich_help_panel=_METHOD,
        ),
    ] = 2,
    format: Annotated[
        str,
        typer.Option(help="Format of the table: vamb, or bioboxes (CAMI).", rich_help_panel=OUTPUT),
    ] = "vamb",
    bins: Annotated[
        Path | None,
        typer.Option(
            help="Folder for a FASTA file of every cluster.",
            show_default="none",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    min_bin_bases: Annotated[
        int,
        typer.Option(
            help="Clusters with fewer bases get no file among the bins.", rich_help_panel=OUTPUT
        ),
    ] = defaults.MIN_BIN_BASES,
    sequences: Annotated[
        Path | None,
        typer.Option(
            help="Where the files are that the latents name, for the bins.",
            show_default="where they were",
            rich_help_panel=INPUT,
        ),
    ] = None,
    json: Annotated[
        bool,
        typer.Option("--json", help="Print the summary as JSON.", rich_help_panel=OUTPUT),
    ] = False,
    seed: Seed = None,
    threads: Threads = None,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Cluster contigs by their latents.

    Windows of one contig are joined first. Contigs are then linked with those whose
    neighbourhoods overlap with theirs, and the graph is cut into communities; the
    number of clusters is found, unless -k gives it.
    """
    from kvae.cli.reporting import TerminalProgress
    from kvae.clustering import cluster as run_clustering

    with TerminalProgress(quiet=quiet) as progress:
        result = run_clustering(
            latents,
            output,
            k=k,
            resolution=resolution,
            neighbours=neighbours,
            min_contigs=min_contigs,
            format=format,
            bins=bins,
            sequences=sequences,
            min_bin_bases=min_bin_bases,
            seed=defaults.SEED if seed is None else seed,
            threads=threads,
            force=force,
            progress=progress,
        )
        progress.message(f"{as_path(output)}: {_sentence(result)}")
        if result.bins is not None:
            progress.message(
                f"{result.bins}: {number(result.n_bins, 'bin')} of at least {bases(min_bin_bases)}"
            )
    if json:
        typer.echo(result.as_json())


def _sentence(result: Clusters) -> str:
    facts = result.summary()
    return (
        f"{number(facts['clusters'], 'cluster')} of {number(facts['clustered_contigs'], 'contig')},"
        f" half of them of {bases(facts['median_cluster_bases'])} or more;"
        f" {facts['contigs'] - facts['clustered_contigs']:,} of {facts['contigs']:,} contigs"
        f" ({facts['unclustered_share_of_bases']:.1%} of the bases) are in none"
    )
