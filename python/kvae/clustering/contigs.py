"""Windows of one contig as one vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kvae.latents import Latents

__all__ = ["Contigs", "contigs_of"]


@dataclass(frozen=True)
class Contigs:
    """Contigs, in the order of their first windows.

    Attributes
    ----------
    ids
        Their records' names.
    source_names
        Input files.
    source_codes
        Index into `source_names` of every contig, int64.
    lengths
        Bases that their windows cover, int64.
    vectors
        Float32 of shape (contigs, latent units).
    of_rows
        Contig of every row of the latents, int64.
    """

    ids: Sequence[str]
    source_names: Sequence[str]
    source_codes: NDArray[np.int64]
    lengths: NDArray[np.int64]
    vectors: NDArray[np.float32]
    of_rows: NDArray[np.int64]

    def __len__(self) -> int:
        """Count the contigs."""
        return len(self.ids)

    def names(self) -> list[str]:
        """Name every contig by its record, so that no two are called the same.

        Where records of several files share a name, all are named ``file:record``,
        with whole paths if even the files' names are shared.
        """
        if len(set(self.ids)) == len(self.ids):
            return list(self.ids)
        short = [PurePath(name).name for name in self.source_names]
        files = short if len(set(short)) == len(short) else list(self.source_names)
        return [
            f"{files[code]}:{name}"
            for code, name in zip(self.source_codes.tolist(), self.ids, strict=True)
        ]


def contigs_of(latents: Latents) -> Contigs:
    """Join the windows of each contig: the mean of their vectors, weighted by length.

    A contig is what has one record's name in one file.
    """
    texts = latents.ids
    encoded = pc.dictionary_encode(texts)
    chunks = encoded.chunks if isinstance(encoded, pa.ChunkedArray) else [encoded]
    id_codes = np.concatenate([chunk.indices.to_numpy() for chunk in chunks]).astype(np.int64)
    names = chunks[-1].dictionary
    keys = latents.source_codes.astype(np.int64) * len(names) + id_codes
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    # np.unique sorts by key; contigs shall come as they are in the file.
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    of_rows = rank[inverse.reshape(-1)]
    first = np.sort(first)
    lengths = np.bincount(of_rows, weights=latents.length.astype(np.float64))
    vectors = latents.vectors
    if len(first) < len(latents):
        order = np.argsort(of_rows, kind="stable")
        weights = (latents.length / lengths[of_rows]).astype(np.float32)
        starts = np.searchsorted(of_rows[order], np.arange(len(first)))
        vectors = np.add.reduceat(vectors[order] * weights[order, None], starts, axis=0)
    return Contigs(
        pc.take(names, pa.array(id_codes[first])).to_pylist(),
        latents.source_names,
        latents.source_codes[first].astype(np.int64),
        np.rint(lengths).astype(np.int64),
        vectors,
        of_rows,
    )
