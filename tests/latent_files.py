"""Latent files for tests, written by kvae's own writers from given vectors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kvae.latents import latent_format, latent_schema


def write_latents(
    path: Path,
    vectors: NDArray[Any],
    *,
    ids: Sequence[str] | None = None,
    sources: Sequence[str] | None = None,
    lengths: Sequence[int] | None = None,
    logvar: NDArray[Any] | None = None,
    batch: int = 512,
) -> Path:
    """Write vectors as `kvae.encode` does, in batches; rows of one record follow each other."""
    n, width = vectors.shape
    ids = [f"contig_{i}" for i in range(n)] if ids is None else ids
    sources = ["assembly.fna"] * n if sources is None else sources
    length = np.full(n, 5000) if lengths is None else np.asarray(lengths)
    start = np.zeros(n, np.int64)
    for i in range(1, n):
        if ids[i] == ids[i - 1] and sources[i] == sources[i - 1]:
            start[i] = start[i - 1] + length[i - 1]
    facts = {"model": "fingerprint", "run": "run", "layout": "layout"}
    schema = latent_schema(width, facts, with_logvar=logvar is not None)
    names = list(dict.fromkeys(sources))
    codes = np.array([names.index(source) for source in sources], np.int32)
    with latent_format(path)(path, schema) as writer:
        for at in range(0, n, batch):
            rows = slice(at, min(at + batch, n))
            columns: dict[str, Any] = {
                "id": pa.array(ids[rows], pa.string()),
                "source": pa.DictionaryArray.from_arrays(codes[rows], names),
                "latent": _lists(vectors[rows], schema.field("latent").type),
            }
            for name, values in (("start", start), ("end", start + length), ("length", length)):
                columns[name] = pa.array(values[rows].astype(np.uint64))
            if logvar is not None:
                columns["logvar"] = _lists(logvar[rows], schema.field("logvar").type)
            writer.write(pa.record_batch([columns[name] for name in schema.names], schema=schema))
    return path


def _lists(matrix: NDArray[Any], type_: Any) -> Any:
    flat = np.ascontiguousarray(matrix, np.float32).reshape(-1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), type=type_)
