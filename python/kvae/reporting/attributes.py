"""What the points of a map can be coloured by: files, labels, clusters, GC, length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kvae.errors import KvaeError
from kvae.labels import SOURCE, label_rows, read_labels
from kvae.latents import Latents
from kvae.reporting.points import Points, combined
from kvae.row_sources import Indices

__all__ = ["Category", "Quantity", "attributes", "read_clusters"]

CLUSTER = "cluster"
# Of names of files, what says only how they are written.
_SUFFIXES = (".gz", ".bgz", ".bz2", ".xz", ".zst", ".fa", ".fasta", ".fna", ".ffn", ".fas", ".fq")


@dataclass(frozen=True)
class Category:
    """Groups of points.

    Attributes
    ----------
    name
        What they are groups of.
    names
        The groups, the one with most rows first.
    codes
        Group of every point, -1 where it has none.
    """

    name: str
    names: Sequence[str]
    codes: NDArray[np.int32]


@dataclass(frozen=True)
class Quantity:
    """A number of every point.

    Attributes
    ----------
    name, unit
        What it is, and in what.
    values
        Float32.
    is_log
        Whether ratios are of interest rather than differences.
    """

    name: str
    unit: str
    values: NDArray[np.float32]
    is_log: bool = False


class _Labelled:
    """Latents with the part of a `kvae.row_sources.RowSource` that labels are looked up by."""

    def __init__(self, latents: Latents) -> None:
        self.path = latents.path
        self.ids = latents.ids
        self.source_names = list(latents.source_names)
        self.source_codes = latents.source_codes


def attributes(
    points: Points,
    rows: Indices,
    *,
    labels: str | Path | None = None,
    by: Sequence[str] = (),
    clusters: str | Path | None = None,
) -> list[Category | Quantity]:
    """Find what some rows can be coloured by.

    Parameters
    ----------
    points, rows
        All rows, and which of them.
    labels, by
        A table as for `kvae.evaluate`, and its columns.
    clusters
        A table of clusters and contigs.

    Raises
    ------
    KvaeError
        For tables that are none, or about no row.
    """
    latents = points.latents
    found: list[Category | Quantity] = []
    if labels is not None:
        source: Any = _Labelled(latents)
        for name, column in label_rows(source, read_labels(labels), by).columns.items():
            if name != SOURCE:
                found.append(_category(name, column[rows]))
    elif by:
        raise KvaeError(f"{by[0]}: labels to colour by need a table of them")
    if clusters is not None:
        of_row = _cluster_of(latents, read_clusters(clusters), Path(clusters))
        found.append(_category(CLUSTER, of_row[rows]))
    codes = latents.source_codes[rows]
    if len(np.unique(codes)) > 1 or not found:
        names = np.array(_short([str(name) for name in latents.source_names]))
        found.append(_category(SOURCE, names[codes]))
    if points.gc is not None:
        found.append(Quantity("GC", "% of bases", 100.0 * points.gc[rows]))
    length = latents.length[rows].astype(np.float32)
    found.append(Quantity("length", "bases", length, is_log=True))
    return found


def read_clusters(path: str | Path) -> Mapping[str, str]:
    """Read a table with a header, of clusters and the contigs in them, by contig.

    Raises
    ------
    KvaeError
        For a file that is missing or no such table, or has a contig twice.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise KvaeError(f"{path}: {(error.strerror or 'cannot be read').lower()}") from error
    except UnicodeDecodeError as error:
        raise KvaeError(f"{path}: is no table of text in UTF-8") from error
    found: dict[str, str] = {}
    for number, line in enumerate(lines[1:], start=2):
        if not line:
            continue
        parts = line.split("\t")
        if len(parts) < 2:
            raise KvaeError(
                f"{path}: line {number} has no tab: a line is a cluster, a tab and a contig"
            )
        cluster, contig = parts[0], parts[1]
        if found.setdefault(contig, cluster) != cluster:
            raise KvaeError(f"{path}: line {number}: {contig} is in another cluster already")
    if not found:
        raise KvaeError(f"{path}: has no clusters below its header")
    return found


def _cluster_of(latents: Latents, clusters: Mapping[str, str], path: Path) -> NDArray[np.str_]:
    keys = pa.array(clusters.keys(), pa.string())
    line = pc.fill_null(pc.index_in(combined(latents.ids), value_set=keys), -1).to_numpy()
    if not (line >= 0).any():
        raise KvaeError(f"{path}: names no record of {latents.path} in its second column")
    names = np.array([*clusters.values(), ""])
    of_row: NDArray[np.str_] = names[line]
    return of_row


def _category(name: str, of_row: NDArray[np.str_]) -> Category:
    names, codes, sizes = np.unique(of_row, return_inverse=True, return_counts=True)
    order = np.argsort(-sizes, kind="stable")
    order = order[names[order] != ""]
    rank = np.full(len(names), -1, dtype=np.int32)
    rank[order] = np.arange(len(order))
    return Category(name, [str(text) for text in names[order]], rank[codes])


def _short(names: Sequence[str]) -> list[str]:
    """Names of files without folders and suffixes, where they stay different."""
    short = []
    for name in names:
        last = name.rstrip("/").rpartition("/")[2] or name
        while (suffix := Path(last).suffix.lower()) in _SUFFIXES and len(last) > len(suffix):
            last = last[: -len(suffix)]
        short.append(last)
    return short if len(set(short)) == len(set(names)) else list(names)
