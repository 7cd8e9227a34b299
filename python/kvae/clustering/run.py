"""``kvae.cluster``: from latents to clusters of contigs."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from kvae import defaults
from kvae.atomic import atomic_output, check_output, keep_inputs
from kvae.clustering.bins import check_bins, write_bins
from kvae.clustering.communities import communities
from kvae.clustering.contigs import Contigs, contigs_of
from kvae.clustering.writing import cluster_lines
from kvae.errors import KvaeError
from kvae.latents import Latents, read_latents
from kvae.progress import Progress
from kvae.seeds import check_seed

__all__ = ["Clusters", "cluster"]


@dataclass(frozen=True)
class Clusters:
    """Clusters of contigs, the one with the most bases first.

    Attributes
    ----------
    contigs
        What was clustered.
    codes
        Cluster of every contig from 0, -1 of those in none; int64.
    method
        ``communities`` or ``k-means``.
    bins
        Folder of the clusters' sequences, None where none were asked for.
    n_bins
        How many it holds.
    """

    contigs: Contigs
    codes: NDArray[np.int64]
    method: str
    bins: Path | None = None
    n_bins: int = 0

    @property
    def n_clusters(self) -> int:
        """Count the clusters."""
        return int(self.codes.max(initial=-1)) + 1

    @property
    def of_rows(self) -> NDArray[np.int64]:
        """Cluster of every row of the latents, -1 of those in none."""
        found: NDArray[np.int64] = self.codes[self.contigs.of_rows]
        return found

    def summary(self) -> dict[str, Any]:
        """Count clusters, contigs and bases, and what of both is unclustered."""
        inside = self.codes >= 0
        bases = int(self.contigs.lengths.sum())
        clustered = int(self.contigs.lengths[inside].sum())
        sizes = np.bincount(self.codes[inside], weights=self.contigs.lengths[inside])
        facts: dict[str, Any] = {
            "method": self.method,
            "contigs": len(self.contigs),
            "bases": bases,
            "clusters": self.n_clusters,
            "clustered_contigs": int(inside.sum()),
            "clustered_bases": clustered,
            "unclustered_share_of_contigs": float(1 - inside.mean()),
            "unclustered_share_of_bases": 1 - clustered / bases if bases else 0.0,
            "median_cluster_bases": float(np.median(sizes)) if len(sizes) else 0.0,
        }
        if self.bins is not None:
            facts |= {"bins": str(self.bins), "bins_written": self.n_bins}
        return facts

    def as_json(self) -> str:
        """Write the summary as JSON."""
        return json.dumps(self.summary(), indent=2, ensure_ascii=False)


def cluster(
    latents: str | Path | Latents,
    output: str | Path | None = None,
    *,
    k: int | None = None,
    resolution: float = 1.0,
    neighbours: int = defaults.CLUSTER_NEIGHBOURS,
    min_contigs: int = 2,
    format: str = "vamb",
    bins: str | Path | None = None,
    sequences: str | Path | None = None,
    min_bin_bases: int = defaults.MIN_BIN_BASES,
    seed: int = defaults.SEED,
    threads: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Clusters:
    """Cluster contigs by the angles between their latents.

    Windows of one contig are joined first, as the mean of their vectors, weighted by
    length. Without `k`, contigs are linked with their nearest ones as strongly as
    their neighbourhoods overlap, and the graph is cut into communities (Leiden); with
    `k`, they are clustered around so many centres (k-means).

    Parameters
    ----------
    latents
        A file of `kvae.encode`, or what `kvae.latents.read_latents` made of one.
    output
        Table to write, a line per clustered contig, sorted by cluster.
    k
        Number of clusters, where it is known.
    resolution
        More gives more and smaller clusters; not with `k`.
    neighbours
        Nearest contigs that a contig may be linked with; not with `k`.
    min_contigs
        Smaller clusters are none: their contigs are left unclustered.
    format
        Of the table: ``vamb`` (a header, then cluster and contig) or ``bioboxes``
        (CAMI's binning format 0.9.0).
    bins
        Folder for a FASTA file of every cluster.
    sequences
        Folder to look for the sequence files in that the latents name, or the file
        itself where they name one; where omitted they are where they were.
    min_bin_bases
        Clusters with fewer bases get no file in `bins`.
    seed
        Decides where the algorithms start.
    threads
        CPU threads, all that are available where omitted. Up to 30,000 contigs the
        clusters do not depend on them; beyond, neighbours are found with an index
        whose links do, unless there is one thread only.
    force
        Replace existing outputs.
    progress
        Told what is done.

    Returns
    -------
    Clusters
        Clusters are numbered by their bases, the largest first.

    Raises
    ------
    KvaeError
        For a file that holds no latents, a number that makes no sense, and outputs
        that may not be written.
    """
    _check_numbers(k, resolution, neighbours, min_contigs)
    check_seed(seed)
    if output is not None:
        check_output(output, force=force)
        keep_inputs(output, latents, sequences)
    if bins is not None:
        check_bins(bins, force=force)
    if isinstance(latents, str | Path):
        latents = read_latents(latents)
    contigs = contigs_of(latents)
    progress = progress or Progress()
    if k is None and len(contigs) <= neighbours + 1:
        progress.message(
            f"{len(contigs)} contigs are few to find groups among: each is a neighbour of all"
            " others, and windows of one contig are one; -k says how many groups there are"
        )
    with threadpool_limits(threads):
        if k is None:
            found = communities(
                contigs.vectors,
                neighbours=neighbours,
                resolution=resolution,
                seed=seed,
                threads=threads,
                progress=progress,
            )
        else:
            if k > len(contigs):
                raise KvaeError(f"{latents.path}: has {len(contigs)} contigs, and -k asks for {k}")
            # scikit-learn takes longer to load than clustering most assemblies does.
            from kvae.clustering.centres import centre_clusters

            found = centre_clusters(contigs.vectors, k, seed)
    method = "communities" if k is None else "k-means"
    result = Clusters(contigs, _ordered(found, contigs.lengths, min_contigs), method)
    # The table is moved to its place when the bins are in theirs: there are both or neither.
    with nullcontext() if output is None else atomic_output(output, force=force) as temporary:
        if temporary is not None:
            lines = cluster_lines(contigs, result.codes, format)
            with temporary.open("w", encoding="utf-8", newline="\n") as file:
                file.writelines(lines)
        if bins is None:
            return result
        written = write_bins(
            contigs,
            result.codes,
            bins,
            sequences=sequences,
            min_bases=min_bin_bases,
            force=force,
            progress=progress,
        )
    return Clusters(contigs, result.codes, method, Path(bins), written)


def _check_numbers(k: int | None, resolution: float, neighbours: int, min_contigs: int) -> None:
    if k is not None and k < 1:
        raise KvaeError(f"k must be at least 1, got {k}")
    if not 0 < resolution < float("inf"):
        raise KvaeError(f"resolution must be a number above 0, got {resolution}")
    if neighbours < 1:
        raise KvaeError(f"neighbours must be at least 1, got {neighbours}")
    if min_contigs < 1:
        raise KvaeError(f"the least number of contigs must be at least 1, got {min_contigs}")


def _ordered(
    found: NDArray[np.int64], lengths: NDArray[np.int64], min_contigs: int
) -> NDArray[np.int64]:
    """Renumber clusters by their bases; those that are too small are all -1."""
    _, codes, counts = np.unique(found, return_inverse=True, return_counts=True)
    codes = codes.reshape(-1)
    bases = np.bincount(codes, weights=lengths)
    kept = np.flatnonzero(counts >= min_contigs)
    number = np.full(len(counts), -1, np.int64)
    number[kept[np.argsort(-bases[kept], kind="stable")]] = np.arange(len(kept))
    ordered: NDArray[np.int64] = number[codes]
    return ordered
