"""Latents to files, a batch at a time, in the format that the suffix names."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from kvae.formats import TextTable, by_suffix, text_sink
from kvae.h5ad import H5adFile, row_names
from kvae.kept_columns import KeptColumns
from kvae.latents.schema import LATENT_KEY, LOGVAR_KEY
from kvae.latents.sums import SUM, sum_of_batch
from kvae.npz import NpzFile

__all__ = ["LatentWriter", "latent_format"]


class LatentWriter(Protocol):
    """Takes record batches of the schema of `kvae.latents.latent_schema`, in order."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Write some rows."""
        ...


class _ArrowWriter:
    """Holds a batch back until it is known whether it is the last one."""

    def __init__(self, writer: Any, facts: bytes) -> None:
        self._writer = writer
        self._facts = facts
        self._n_written = 0
        self._held: pa.RecordBatch | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        self._write_held(is_last=False)
        self._held = batch

    def finish(self) -> None:
        self._write_held(is_last=True)

    def _write_held(self, *, is_last: bool) -> None:
        if self._held is None:
            return
        found = sum_of_batch(self._held, self._facts, self._n_written, is_last=is_last)
        self._writer.write_batch(self._held, custom_metadata={SUM: found})
        self._n_written += 1
        self._held = None


@contextmanager
def _arrow(path: Path, schema: pa.Schema) -> Iterator[LatentWriter]:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as opened:
        writer = _ArrowWriter(opened, schema.metadata[b"kvae"])
        yield writer
        writer.finish()


class _ParquetWriter:
    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def write(self, batch: pa.RecordBatch) -> None:
        self._writer.write_batch(batch)


@contextmanager
def _parquet(path: Path, schema: pa.Schema) -> Iterator[LatentWriter]:
    with pyarrow.parquet.ParquetWriter(str(path), schema, write_page_checksum=True) as writer:
        yield _ParquetWriter(writer)


class _TableWriter:
    """The vectors become columns z1, z2, ... and logvar1, ..."""

    def __init__(self, sink: IO[bytes], schema: pa.Schema) -> None:
        names: list[str] = []
        for field in schema:
            if pa.types.is_fixed_size_list(field.type):
                prefix = "z" if field.name == "latent" else field.name
                names += [f"{prefix}{i + 1}" for i in range(field.type.list_size)]
            else:
                names.append(field.name)
        self._text = TextTable(sink, names)

    def write(self, batch: pa.RecordBatch) -> None:
        columns: list[Any] = []
        for column in batch.columns:
            is_matrix = pa.types.is_fixed_size_list(column.type)
            columns += map(pa.array, _matrix(column).T) if is_matrix else [column]
        self._text.write(columns)


@contextmanager
def _table(path: Path, schema: pa.Schema, *, gzipped: bool = False) -> Iterator[LatentWriter]:
    with text_sink(path, gzipped=gzipped) as sink:
        yield _TableWriter(sink, schema)


class _MatrixWriter:
    """Vectors as matrices that grow in a file, and all other columns at the end."""

    def __init__(self, schema: pa.Schema, file: NpzFile | H5adFile, names: dict[str, str]) -> None:
        self._file = file
        self._names = {name: names[name] for name in schema.names if name in names}
        self._kept = [field.name for field in schema if field.name not in names]
        self._columns = KeptColumns(pa.schema([schema.field(name) for name in self._kept]))
        for name, place in self._names.items():
            file.begin(place, schema.field(name).type.list_size, np.float32)

    def write(self, batch: pa.RecordBatch) -> None:
        for name, place in self._names.items():
            self._file.append(place, _matrix(batch.column(name)))
        self._columns.append([batch.column(name) for name in self._kept])

    def columns(self) -> dict[str, Any]:
        return self._columns.columns()


@contextmanager
def _npz(path: Path, schema: pa.Schema) -> Iterator[LatentWriter]:
    with NpzFile(path) as file:
        writer = _MatrixWriter(schema, file, {"latent": "latent", "logvar": "logvar"})
        yield writer
        for name, column in writer.columns().items():
            file.put(name, column.to_numpy())
        file.put("kvae", np.array(schema.metadata[b"kvae"].decode()))


@contextmanager
def _h5ad(path: Path, schema: pa.Schema) -> Iterator[LatentWriter]:
    with H5adFile(path) as file:
        writer = _MatrixWriter(schema, file, {"latent": LATENT_KEY, "logvar": LOGVAR_KEY})
        yield writer
        columns = writer.columns()
        file.frame("obs", row_names(columns), columns)
        file.frame("var", [], {})
        file.facts({"kvae": json.loads(schema.metadata[b"kvae"])})


def _matrix(column: Any) -> Any:
    """Fixed-size lists as a numpy matrix, without a copy."""
    return column.flatten().to_numpy(zero_copy_only=True).reshape(len(column), -1)


_Open = Callable[[Path, pa.Schema], Any]
_FORMATS: dict[str, _Open] = {
    ".arrow": _arrow,
    ".parquet": _parquet,
    ".npz": _npz,
    ".tsv": _table,
    ".tsv.gz": partial(_table, gzipped=True),
    ".h5ad": _h5ad,
}


def latent_format(path: Path) -> _Open:
    """Find the writer for a file name; it takes the path to write to and a schema.

    Raises
    ------
    KvaeError
        For a suffix that stands for no format.
    """
    return by_suffix(path, _FORMATS)
