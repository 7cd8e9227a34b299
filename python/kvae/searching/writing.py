"""Tables of hits as files."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet

from kvae.formats import TextTable, by_suffix, text_sink

__all__ = ["hits_writer", "write_table"]

_Write = Callable[[pa.Table, Path], None]


def write_table(table: pa.Table, sink: IO[bytes]) -> None:
    """Write hits as tab-separated text."""
    text = TextTable(sink, table.column_names)
    for batch in table.to_batches(max_chunksize=65_536):
        text.write(batch.columns)


def _table(table: pa.Table, path: Path, *, gzipped: bool = False) -> None:
    with text_sink(path, gzipped=gzipped) as sink:
        write_table(table, sink)


def _parquet(table: pa.Table, path: Path) -> None:
    pyarrow.parquet.write_table(table, path)


def _arrow(table: pa.Table, path: Path) -> None:
    whole = table.unify_dictionaries()
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, whole.schema) as writer:
        writer.write_table(whole)


_FORMATS: dict[str, _Write] = {
    ".tsv": _table,
    ".tsv.gz": partial(_table, gzipped=True),
    ".parquet": _parquet,
    ".arrow": _arrow,
}


def hits_writer(path: str | Path) -> _Write:
    """Find the writer for a file name; it takes a table and the path to write to.

    Raises
    ------
    KvaeError
        For a suffix that stands for no format.
    """
    return by_suffix(path, _FORMATS)
