"""A run and latents that tests of reports share, quick to make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from kvae.latents import latent_schema

# What names may be, and must never become.
EVIL = "</script><img/src=x/onerror=alert(1)>"


def write_latents(
    path: Path,
    ids: list[str],
    sources: list[str],
    vectors: Any,
    *,
    logvar: Any = None,
    facts: dict[str, Any] | None = None,
) -> Path:
    """Write latents of rows of 5,000 bases, each a window of its record."""
    n, width = vectors.shape
    schema = latent_schema(width, facts or {}, with_logvar=logvar is not None)
    names = sorted(set(sources))
    codes = pa.array([names.index(source) for source in sources], pa.int32())
    starts = np.arange(n, dtype=np.uint64) * np.uint64(5000)
    columns = {
        "id": pa.array(ids, pa.string()),
        "source": pa.DictionaryArray.from_arrays(codes, pa.array(names)),
        "start": pa.array(starts),
        "end": pa.array(starts + np.uint64(5000)),
        "length": pa.array(np.full(n, 5000, np.uint64)),
    }
    for name, matrix in (("latent", vectors), ("logvar", logvar)):
        if matrix is not None:
            values = pa.array(np.asarray(matrix, np.float32).reshape(-1))
            columns[name] = pa.FixedSizeListArray.from_arrays(values, type=schema.field(name).type)
    batch = pa.record_batch([columns[field.name] for field in schema], schema=schema)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write(batch)
    return path


def clouds(sizes: list[int], width: int = 64, seed: int = 0) -> Any:
    """Clouds of points, far from each other, one per size."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 4, (len(sizes), width))
    parts = [
        rng.normal(0, 1, (size, width)) + centre
        for size, centre in zip(sizes, centres, strict=True)
    ]
    return np.concatenate(parts).astype(np.float32)
