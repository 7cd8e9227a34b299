"""``kvae.search``: the rows that are most like a query."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from kvae import defaults
from kvae.atomic import atomic_output, check_output, keep_inputs
from kvae.errors import KvaeError
from kvae.latents import Latents, is_latent_name, read_latents
from kvae.nearest import unit_rows
from kvae.progress import Progress
from kvae.searching.indexing import Reference, open_reference, rows_of
from kvae.searching.writing import hits_writer

__all__ = ["Hits", "search"]

Query = str | Path | Latents | NDArray[np.float32]


@dataclass(frozen=True)
class Hits:
    """The nearest rows of every query.

    Attributes
    ----------
    queries
        What the queries are (an Arrow table of ``id``, ``source``, ``start``, ``end``
        and ``length``), None where they are vectors alone.
    reference
        What the searched rows are, with the same columns.
    rows
        Their numbers, int64 of shape (queries, hits), the nearest first.
    cosines
        Of the angles between the vectors, float32 of the same shape.
    """

    queries: pa.Table | None
    reference: pa.Table
    rows: NDArray[np.int64]
    cosines: NDArray[np.float32]

    def table(self) -> pa.Table:
        """Make a table with a line per query and hit.

        Columns are ``query``, ``query_start`` and ``query_end`` (where queries have
        names), ``rank`` from 1, ``cosine``, and the hit's ``id``, ``source``,
        ``start``, ``end`` and ``length``.
        """
        n_queries, n_hits = self.rows.shape
        of_query = np.repeat(np.arange(n_queries), n_hits)
        columns: dict[str, Any] = {"query": pa.array(of_query)}
        if self.queries is not None:
            asked = self.queries.take(of_query)
            columns = {
                "query": asked["id"],
                "query_start": asked["start"],
                "query_end": asked["end"],
            }
        columns["rank"] = pa.array(np.tile(np.arange(1, n_hits + 1, dtype=np.int32), n_queries))
        columns["cosine"] = pa.array(self.cosines.reshape(-1))
        found = self.reference.take(self.rows.reshape(-1))
        columns |= {name: found[name] for name in found.column_names}
        return pa.table(columns)


def search(
    reference: str | Path | Latents,
    query: Query | None = None,
    output: str | Path | None = None,
    *,
    record: str | Sequence[str] | None = None,
    run: str | Path | None = None,
    hits: int = defaults.SEARCH_HITS,
    device: str = "auto",
    threads: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Hits:
    """Find the rows whose latents have the smallest angles to a query's.

    Parameters
    ----------
    reference
        What is searched: a latent file, every row of which is compared, or the
        folder of `kvae.index`, where nearly all of the nearest are found and memory
        does not grow with the rows.
    query
        What is searched for: a latent file; sequences, which `run` encodes; or
        vectors of shape (queries, latent). Omitted with `record`.
    output
        Table to write: ``.tsv``, ``.tsv.gz``, ``.parquet`` or ``.arrow``.
    record
        Names of records of the reference, whose rows are the queries; they are not
        found themselves.
    run
        Run, model file or ``"pretrained"`` to encode sequences with.
    hits
        How many rows to find for each query.
    device, threads
        To encode and search with.
    force
        Replace an existing output.
    progress
        Told how far encoding and search are.

    Returns
    -------
    Hits
        In the order of the queries.

    Raises
    ------
    KvaeError
        For files that are missing or damaged, latents of two models, a record that
        does not exist, and an output that may not be written.
    """
    if hits < 1:
        raise KvaeError(f"the number of hits must be at least 1, got {hits}")
    if (query is None) == (record is None):
        raise KvaeError("give a query, or the name of a record of the reference")
    if output is not None:
        check_output(output, force=force)
        hits_writer(output)
    opened = open_reference(reference, threads)
    if output is not None:
        keep_inputs(output, opened, query, run)
    with threadpool_limits(threads):
        if record is not None:
            result = _like_records(opened, record, hits, progress)
        else:
            assert query is not None
            vectors, table = _read_query(opened, query, run, device, threads, progress)
            found = opened.nearest(unit_rows(vectors).astype(np.float32), hits, progress)
            result = Hits(table, opened.rows, *found)
    if output is not None:
        with atomic_output(output, force=force) as temporary:
            hits_writer(output)(result.table(), temporary)
    return result


def _like_records(
    opened: Reference, record: str | Sequence[str], hits: int, progress: Progress | None
) -> Hits:
    names = [record] if isinstance(record, str) else list(record)
    is_named = pc.is_in(opened.rows["id"], value_set=pa.array(names, pa.string()))
    rows = np.flatnonzero(is_named.to_numpy())
    missing = {*names} - {*opened.rows["id"].take(rows).to_pylist()}
    if missing:
        raise KvaeError(f"{opened.path}: has no record {min(missing)}")
    found, cosines = opened.nearest(opened.vectors(rows), hits + 1, progress)
    # A row is its own nearest, but among equal rows another may stand before it.
    own = found == rows[:, None]
    own[~own.any(axis=1), -1] = True
    shape = (len(rows), found.shape[1] - 1)
    return Hits(
        opened.rows.take(rows),
        opened.rows,
        found[~own].reshape(shape),
        cosines[~own].reshape(shape),
    )


def _read_query(
    opened: Reference,
    query: Query,
    run: str | Path | None,
    device: str,
    threads: int | None,
    progress: Progress | None,
) -> tuple[NDArray[np.float32], pa.Table | None]:
    """Vectors of the queries, and what they are of, where that is known."""
    name, table = "the query", None
    facts: Mapping[str, Any] = {}
    if isinstance(query, np.ndarray):
        vectors = query
        if vectors.ndim != 2 or not np.isfinite(vectors).all():
            raise KvaeError("vectors to search for must be a matrix of finite numbers")
    else:
        latents = (
            query if isinstance(query, Latents) else _encoded(query, run, device, threads, progress)
        )
        name, vectors, facts, table = (
            str(latents.path),
            latents.vectors,
            latents.facts,
            rows_of(latents),
        )
    theirs, ours = facts.get("model"), opened.facts.get("model")
    if theirs and ours and theirs != ours:
        raise KvaeError(
            f"{name} is of model {theirs}, and {opened.path} of model {ours}: encode both with"
            " the same"
        )
    if vectors.shape[1] != opened.n_latent:
        raise KvaeError(
            f"{name} has vectors of {vectors.shape[1]} numbers, and {opened.path} of"
            f" {opened.n_latent}: encode both with the same model"
        )
    return vectors, table


def _encoded(
    query: str | Path,
    run: str | Path | None,
    device: str,
    threads: int | None,
    progress: Progress | None,
) -> Latents:
    if run is None:
        if not is_latent_name(query):
            raise KvaeError(
                f"{query}: is no latent file: name the model that encodes it (--run or"
                " --pretrained)"
            )
        return read_latents(query)
    from kvae.encoding import encode

    with tempfile.TemporaryDirectory(prefix="kvae-query.", ignore_cleanup_errors=True) as folder:
        path = Path(folder, "latent.arrow")
        encode(run, query, path, device=device, threads=threads, progress=progress)
        return replace(read_latents(path), path=Path(query))
