"""Tables with a column per k-mer, in the format that the suffix names."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from kvae.formats import TextTable, by_suffix, text_sink
from kvae.h5ad import H5adFile, row_names
from kvae.kept_columns import KeptColumns
from kvae.npz import NpzFile

__all__ = ["PLACE", "TableFacts", "TableWriter", "table_format"]

# Columns of every table before those of k-mers.
PLACE = ("id", "source", "start", "end", "length", "gc")
_TYPES = {"id": pa.string(), "source": pa.dictionary(pa.int32(), pa.string()), "gc": pa.float32()}
_PLACE_FIELDS = [pa.field(name, _TYPES.get(name, pa.uint64())) for name in PLACE]
# Numbers in a row group of a Parquet file: its footer describes every column of each.
_GROUP = 1 << 25
# From this k on most counts of a row are zeros.
_SPARSE_K = 6


@dataclass(frozen=True)
class TableFacts:
    """What a table is of.

    Attributes
    ----------
    what
        ``log``, ``counts`` or ``frequencies``.
    columns, k
        The k-mers, and the k of each.
    dtype
        Of the numbers.
    facts
        What the file says of itself.
    """

    what: str
    columns: list[str]
    k: list[int]
    dtype: np.dtype[Any]
    facts: Mapping[str, Any]

    @property
    def schema(self) -> pa.Schema:
        """The table as Arrow sees it."""
        number = pa.from_numpy_dtype(self.dtype)
        kmers = [pa.field(name, number, nullable=False) for name in self.columns]
        return pa.schema([*_PLACE_FIELDS, *kmers], metadata={"kvae": json.dumps(dict(self.facts))})


class TableWriter(Protocol):
    """Takes rows in order."""

    def write(self, place: Mapping[str, Any], matrix: NDArray[Any]) -> None:
        """Write some rows: Arrow arrays of the columns `PLACE`, and numbers."""
        ...


def _batch(schema: pa.Schema, place: Mapping[str, Any], matrix: NDArray[Any]) -> pa.RecordBatch:
    columns = [pa.array(column) for column in np.ascontiguousarray(matrix.T)]
    return pa.record_batch([*(place[name] for name in PLACE), *columns], schema=schema)


class _ArrowWriter:
    def __init__(self, facts: TableFacts, writer: Any) -> None:
        self._schema = facts.schema
        self._writer = writer

    def write(self, place: Mapping[str, Any], matrix: NDArray[Any]) -> None:
        self._writer.write_batch(_batch(self._schema, place, matrix))


@contextmanager
def _arrow(path: Path, facts: TableFacts) -> Iterator[TableWriter]:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, facts.schema) as writer:
        yield _ArrowWriter(facts, writer)


class _ParquetWriter:
    """Collects rows to groups, as many as keep the file's footer small."""

    def __init__(self, facts: TableFacts, writer: Any) -> None:
        self._schema = facts.schema
        self._writer = writer
        self._rows = max(1, _GROUP // len(facts.columns))
        self._waiting: list[pa.RecordBatch] = []

    def write(self, place: Mapping[str, Any], matrix: NDArray[Any]) -> None:
        self._waiting.append(_batch(self._schema, place, matrix))
        if sum(map(len, self._waiting)) >= self._rows:
            self.flush()

    def flush(self) -> None:
        if self._waiting:
            table = pa.Table.from_batches(self._waiting)
            self._writer.write_table(table, row_group_size=len(table))
            self._waiting.clear()


@contextmanager
def _parquet(path: Path, facts: TableFacts) -> Iterator[TableWriter]:
    with pyarrow.parquet.ParquetWriter(
        str(path),
        facts.schema,
        compression="zstd",
        use_dictionary=["id", "source"],
        write_statistics=list(PLACE),
    ) as writer:
        groups = _ParquetWriter(facts, writer)
        yield groups
        groups.flush()


class _TextWriter:
    def __init__(self, facts: TableFacts, sink: IO[bytes]) -> None:
        self._text = TextTable(sink, [*PLACE, *facts.columns])

    def write(self, place: Mapping[str, Any], matrix: NDArray[Any]) -> None:
        kmers = map(pa.array, np.ascontiguousarray(matrix.T))
        self._text.write([*(place[name] for name in PLACE), *kmers])


@contextmanager
def _text(path: Path, facts: TableFacts, *, gzipped: bool = False) -> Iterator[TableWriter]:
    with text_sink(path, gzipped=gzipped) as sink:
        yield _TextWriter(facts, sink)


class _MatrixWriter:
    """A matrix that grows in a file, and all columns of `PLACE` at the end."""

    def __init__(self, append: Callable[[NDArray[Any]], None]) -> None:
        self._append = append
        self._place = KeptColumns(pa.schema(_PLACE_FIELDS))

    def write(self, place: Mapping[str, Any], matrix: NDArray[Any]) -> None:
        self._append(matrix)
        self._place.append([place[name] for name in PLACE])

    def columns(self) -> dict[str, Any]:
        return self._place.columns()


@contextmanager
def _npz(path: Path, facts: TableFacts) -> Iterator[TableWriter]:
    with NpzFile(path) as file:
        file.begin(facts.what, len(facts.columns), facts.dtype)
        writer = _MatrixWriter(lambda rows: file.append(facts.what, rows))
        yield writer
        file.put("kmers", np.array(facts.columns))
        for name, column in writer.columns().items():
            file.put(name, column.to_numpy())
        file.put("kvae", np.array(json.dumps(dict(facts.facts))))


@contextmanager
def _h5ad(path: Path, facts: TableFacts) -> Iterator[TableWriter]:
    is_sparse = facts.what != "log" and max(facts.k) >= _SPARSE_K
    with H5adFile(path) as file:
        begin = file.begin_sparse if is_sparse else file.begin
        append = file.append_sparse if is_sparse else file.append
        begin("X", len(facts.columns), facts.dtype)
        writer = _MatrixWriter(lambda rows: append("X", rows))
        yield writer
        columns = writer.columns()
        file.frame("obs", row_names(columns), columns)
        file.frame("var", facts.columns, {"k": pa.array(facts.k, pa.int32())})
        file.facts({"kvae": facts.facts})


_Open = Callable[[Path, TableFacts], AbstractContextManager[TableWriter]]
_FORMATS: dict[str, _Open] = {
    ".parquet": _parquet,
    ".arrow": _arrow,
    ".tsv": _text,
    ".tsv.gz": partial(_text, gzipped=True),
    ".npz": _npz,
    ".h5ad": _h5ad,
}


def table_format(path: Path) -> _Open:
    """Find the writer for a file name; it takes the path to write to and the facts.

    Raises
    ------
    KvaeError
        For a suffix that stands for no format.
    """
    return by_suffix(path, _FORMATS, also=" or .onnx (encoders)")
