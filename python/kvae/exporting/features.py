"""Features as tables with a column per k-mer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kvae.atomic import atomic_output
from kvae.errors import KvaeError
from kvae.exporting.formats import PLACE, TableFacts, table_format
from kvae.featurizing import DEFAULT_KS
from kvae.progress import Progress
from kvae.row_sources import open_rows
from kvae.store import FeatureStore

__all__ = ["export_features", "open_features", "row_columns"]

# Numbers that are read, computed and written at a time.
_NUMBERS = 1 << 22


def open_features(source: Any, *, k: Sequence[int] | None, threads: int | None) -> FeatureStore:
    """Open the rows to export.

    Raises
    ------
    KvaeError
        For what is missing or damaged, or not from a file.
    """
    store = open_rows(source, k=DEFAULT_KS if k is None else k, threads=threads)
    if not isinstance(store, FeatureStore):
        raise KvaeError(f"{store.path}: rows to export come from a feature file or sequences")
    return store


def export_features(
    store: FeatureStore,
    output: Path,
    *,
    what: str,
    k: Sequence[int] | None,
    force: bool,
    progress: Progress,
) -> tuple[int, int]:
    """Write rows, see `kvae.export`; the number of rows and k-mers."""
    ks = _chosen(store, k)
    kmers = {size: store.layout.kmers(size) for size in ks}
    names = [name for size in ks for name in kmers[size]]
    facts = TableFacts(
        what=what,
        columns=names,
        k=[size for size in ks for _ in kmers[size]],
        dtype=np.dtype(np.uint32 if what == "counts" else np.float32),
        facts={
            "format": "kvae-table-1",
            "what": what,
            "k": list(ks),
            "layout": store.layout.fingerprint,
            "pseudocount": store.layout.pseudocount,
        },
    )
    open_writer = table_format(output)
    # Of log-space rows all blocks are computed, whichever of them are written.
    width = store.layout.n_fields if what == "log" else len(names)
    progress.begin("exporting", len(store))
    with atomic_output(output, force=force) as temporary:  # noqa: SIM117 - written, then moved
        with open_writer(temporary, facts) as writer:
            for rows in _parts(len(store), max(1, _NUMBERS // width)):
                matrix = np.concatenate(list(_blocks(store, rows, what, ks)), axis=1)
                writer.write(row_columns(store, rows), matrix)
                progress.advance(len(rows))
    return len(store), len(names)


def _chosen(store: FeatureStore, k: Sequence[int] | None) -> tuple[int, ...]:
    present = store.layout.ks
    if k is None:
        return present
    missing = [size for size in k if size not in present]
    if missing or not k:
        have = ", ".join(map(str, present))
        wanted = f"no {missing[0]}-mers" if missing else "k-mers, and none is asked for"
        raise KvaeError(f"{store.path}: has {wanted}: it has those of k = {have}")
    return tuple(size for size in present if size in k)


def _parts(n_rows: int, size: int) -> Iterator[NDArray[np.int64]]:
    for start in range(0, n_rows, size):
        yield np.arange(start, min(start + size, n_rows), dtype=np.int64)


def _blocks(
    store: FeatureStore, rows: NDArray[np.int64], what: str, ks: Sequence[int]
) -> Iterator[NDArray[Any]]:
    """Give the columns of each k."""
    if what == "log":
        whole = store.rows(rows)
        yield from (whole[:, store.layout.block(f"{k}-mers").slice] for k in ks)
        return
    for k in ks:
        counts = store.counts(rows, k)
        if what == "counts":
            yield counts
        else:
            totals = counts.sum(axis=1, dtype=np.float64)[:, None]
            yield (counts / np.maximum(totals, 1.0)).astype(np.float32)


def row_columns(store: FeatureStore, rows: NDArray[np.int64]) -> dict[str, Any]:
    """Columns that say where rows come from, as Arrow arrays; the rows are consecutive."""
    start, n = int(rows[0]), len(rows)
    columns = {name: store.column(name).slice(start, n).combine_chunks() for name in PLACE}
    codes = pa.array(store.source_codes[start : start + n], pa.int32())
    columns["source"] = pa.DictionaryArray.from_arrays(
        codes, pa.array(store.source_names, pa.string())
    )
    return columns
