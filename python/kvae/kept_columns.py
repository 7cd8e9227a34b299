"""Columns of rows that are written last, kept while what is larger is written."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

__all__ = ["KeptColumns"]


class KeptColumns:
    """Columns that grow by rows, in Arrow's own memory: as many bytes as they have on disk.

    Lists of arrays would do but for where they lie: small pieces that stay, between large
    ones that come and go, keep the C library from using the large ones' places again, so that
    memory grows by all that has ever been written.

    Parameters
    ----------
    schema
        Names and types of the columns.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._sink = pa.BufferOutputStream()
        self._writer = pa.ipc.new_stream(self._sink, schema)

    def append(self, columns: list[Any]) -> None:
        """Add rows: an Arrow array for every column of the schema."""
        self._writer.write_batch(pa.record_batch(columns, schema=self._schema))

    def columns(self) -> dict[str, pa.ChunkedArray]:
        """Give all rows, by column; nothing can be added then."""
        self._writer.close()
        table = pa.ipc.open_stream(self._sink.getvalue()).read_all()
        return {name: table.column(name) for name in table.column_names}
