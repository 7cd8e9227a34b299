"""Tables of clusters in the formats of the field's tools."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from kvae.clustering.contigs import Contigs
from kvae.errors import KvaeError

__all__ = ["FORMATS", "cluster_lines", "cluster_name"]

FORMATS = ("vamb", "bioboxes")


def cluster_name(code: int) -> str:
    """Name of a cluster: its number, from 1."""
    return str(code + 1)


def cluster_lines(contigs: Contigs, codes: NDArray[np.int64], format: str) -> Iterator[str]:
    """Lines of a table, with line ends: contigs by cluster, the unclustered left out.

    Raises
    ------
    KvaeError
        For an unknown format.
    """
    if format not in FORMATS:
        raise KvaeError(f"format of clusters must be one of {', '.join(FORMATS)}, got {format}")
    names = contigs.names()
    order = np.argsort(codes, kind="stable")
    members = [(cluster_name(codes[i]), names[i]) for i in order[np.sum(codes < 0) :].tolist()]
    if format == "vamb":
        yield "clustername\tcontigname\n"
        yield from (f"{name}\t{contig}\n" for name, contig in members)
    else:
        yield "@Version:0.9.0\n@SampleID:kvae\n@@SEQUENCEID\tBINID\n"
        yield from (f"{contig}\t{name}\n" for name, contig in members)
