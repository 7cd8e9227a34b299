"""Columns as a table file, in the format that a name's suffix stands for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from kvae.formats import by_suffix


def _tsv(table: Any, path: Path) -> None:
    # Arrow would put the header in quotation marks.
    options = pa.csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
    with path.open("wb") as sink:
        sink.write(("\t".join(table.column_names) + "\n").encode())
        pa.csv.write_csv(table, sink, options)


def _parquet(table: Any, path: Path) -> None:
    pa.parquet.write_table(table, str(path))


def _arrow(table: Any, path: Path) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


_FORMATS: dict[str, Callable[[Any, Path], None]] = {
    ".tsv": _tsv,
    ".parquet": _parquet,
    ".arrow": _arrow,
}


def table_format(name: str) -> Callable[[Any, Path], None]:
    """Find what writes tables of a name's suffix.

    Raises
    ------
    KvaeError
        For a suffix that stands for no format.
    """
    return by_suffix(name, _FORMATS)


def write_table(columns: Mapping[str, NDArray[Any]], path: Path, name: str) -> None:
    """Write columns to `path` in the format of `name`; NaN becomes a missing value."""
    arrays = {key: pa.array(values, from_pandas=True) for key, values in columns.items()}
    table_format(name)(pa.table(arrays), path)
