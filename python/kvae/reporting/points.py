"""The rows that a page shows: latents of a file, or of a sample that is encoded for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from kvae.errors import KvaeError
from kvae.latents import Latents
from kvae.loading import BatchLoader
from kvae.model import KmerVAE
from kvae.progress import Progress
from kvae.row_sources import Indices, RowSource, describe_row
from kvae.sampling import balanced_rows
from kvae.store import FeatureStore

__all__ = ["Points", "encode_sample", "gc_of", "points_of"]

_BATCH = 512


@dataclass(frozen=True)
class Points:
    """Latents with what is known of their rows.

    Attributes
    ----------
    latents
        The rows.
    gc
        GC fraction of every row, None where it is not known.
    of_rows
        Of how many rows these are a sample; their own number where they are all.
    """

    latents: Latents
    gc: NDArray[np.float32] | None
    of_rows: int

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.latents)


def points_of(latents: Latents, store: RowSource | None) -> Points:
    """Rows of a latent file; their GC is known where the features are of the same rows."""
    return Points(latents, gc_of(latents, store), len(latents))


def gc_of(latents: Latents, store: RowSource | None) -> NDArray[np.float32] | None:
    """GC of the rows, where a feature file has the same ones in the same order."""
    if not isinstance(store, FeatureStore) or len(store) != len(latents):
        return None
    for name, theirs in (("start", latents.start), ("end", latents.end)):
        if not np.array_equal(store.column(name).to_numpy(), theirs):
            return None
    if combined(latents.ids) != combined(store.ids):
        return None
    return np.asarray(store.column("gc").to_numpy(), dtype=np.float32)


@torch.inference_mode()
def encode_sample(
    model: KmerVAE,
    store: FeatureStore,
    n_rows: int,
    seed: int,
    device: torch.device,
    progress: Progress,
) -> Points:
    """Encode some rows, as many of each file as there are.

    Raises
    ------
    KvaeError
        At a row whose features or latent are not finite.
    """
    everything = np.arange(len(store), dtype=np.int64)
    chosen = balanced_rows(store.source_codes, everything, n_rows, seed)
    shape = (len(chosen), model.config.n_latent)
    mean, log_var = np.empty(shape, np.float32), np.empty(shape, np.float32)
    progress.begin("encoding a sample", len(chosen))
    parts = [chosen[start : start + _BATCH] for start in range(0, len(chosen), _BATCH)]
    done = 0
    for batch in BatchLoader(store, device)(parts):
        latent = model.inference(batch.x)
        here = slice(done, done + len(batch.rows))
        mean[here], log_var[here] = latent.mean.cpu().numpy(), latent.log_var.cpu().numpy()
        finite = np.isfinite(mean[here]).all(axis=1) & np.isfinite(log_var[here]).all(axis=1)
        if not finite.all():
            row = int(batch.rows[int(finite.argmin())])
            raise KvaeError(f"{describe_row(store, row)}: features or latent not finite")
        done = here.stop
        progress.advance(len(batch.rows))
    latents = Latents(
        path=store.path,
        ids=combined(store.ids).take(pa.array(chosen)),
        source_names=list(store.source_names),
        source_codes=store.source_codes[chosen],
        start=_numbers(store, "start", chosen),
        end=_numbers(store, "end", chosen),
        length=_numbers(store, "length", chosen),
        vectors=mean,
        logvar=log_var,
        facts={},
    )
    gc = np.asarray(store.column("gc").to_numpy()[chosen], dtype=np.float32)
    return Points(latents, gc, len(store))


def _numbers(store: FeatureStore, name: str, rows: Indices) -> NDArray[np.uint64]:
    return np.asarray(store.column(name).to_numpy()[rows], dtype=np.uint64)


def combined(column: Any) -> Any:
    """Take a column, chunked or not, as one array."""
    return pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column
