"""Checksums of latents in an Arrow file, which has none of its own."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["SUM", "sum_of_batch"]

# Key of a record batch's own metadata.
SUM = "kvae.crc32"


def sum_of_batch(batch: pa.RecordBatch, facts: bytes, number: int, *, is_last: bool) -> str:
    """Eight hexadecimal digits that change with any value of a batch, and with its place.

    Values are summed, not the bytes that stand for them: of these there is a choice.

    Parameters
    ----------
    batch
        Rows of the schema of `kvae.latents.latent_schema`.
    facts
        What the schema says of the file.
    number, is_last
        Place of the batch, so that one that is gone, or there twice, is missed.
    """
    crc = zlib.crc32(f"{number} {is_last}".encode(), zlib.crc32(facts))
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        crc = zlib.crc32(f"{name} {len(column)}".encode(), crc)
        for part in _parts(column):
            crc = zlib.crc32(part, crc)
    return f"{crc:08x}"


def _parts(column: Any) -> list[bytes | memoryview]:
    if pa.types.is_dictionary(column.type):
        codes = column.indices.to_numpy(zero_copy_only=False)
        used, places = np.unique(codes, return_inverse=True)
        names = column.dictionary.take(pa.array(used))
        return [*_parts(names), places.astype("<i8").data]
    if pa.types.is_string(column.type):
        lengths = pc.binary_length(column).to_numpy(zero_copy_only=False)
        text = "".join(column.to_pylist()).encode()
        return [lengths.astype("<i8").data, text]
    if pa.types.is_fixed_size_list(column.type):
        column = column.flatten()
    values = np.ascontiguousarray(column.to_numpy(zero_copy_only=False))
    # The same bytes are other numbers in another type.
    return [values.dtype.str.encode(), values.data]
