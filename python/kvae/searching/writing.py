"""Tables of hits as files."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from kvae.errors import KvaeError

__all__ = ["hits_writer", "write_table"]

_Write = Callable[[pa.Table, Path], None]


def write_table(table: pa.Table, sink: IO[bytes] | gzip.GzipFile) -> None:
    """Write tab-separated text; nothing is quoted, a tab in a name becomes a space."""
    sink.write(("\t".join(table.column_names) + "\n").encode())
    for batch in table.to_batches(max_chunksize=65_536):
        if len(batch) == 0:
            continue
        columns: list[Any] = []
        for column in batch.columns:
            text = column.cast(pa.string())
            columns.append(pc.replace_substring_regex(text, "[\t\r\n]", " "))
        lines = pc.binary_join_element_wise(*columns, "\t").to_pylist()
        sink.write(("\n".join(lines) + "\n").encode())


def _plain(table: pa.Table, path: Path) -> None:
    with path.open("wb") as sink:
        write_table(table, sink)


def _gzip(table: pa.Table, path: Path) -> None:
    # No name and no time in the header: the same hits give the same bytes.
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as sink:
        write_table(table, sink)


def _parquet(table: pa.Table, path: Path) -> None:
    pyarrow.parquet.write_table(table, path)


def _arrow(table: pa.Table, path: Path) -> None:
    whole = table.unify_dictionaries()
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, whole.schema) as writer:
        writer.write_table(whole)


_FORMATS: dict[str, _Write] = {
    ".tsv": _plain,
    ".tsv.gz": _gzip,
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
    for suffix, writer in _FORMATS.items():
        if Path(path).name.lower().endswith(suffix):
            return writer
    raise KvaeError(f"{path}: unknown format, the name must end in {', '.join(_FORMATS)}")
