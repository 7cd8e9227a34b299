"""Latents to files, a batch at a time, in the format that the suffix names."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from kvae.errors import KvaeError
from kvae.h5ad import H5adFile, row_names
from kvae.latents.schema import LATENT_KEY, LOGVAR_KEY
from kvae.npz import NpzFile

__all__ = ["LatentWriter", "latent_format"]


class LatentWriter(Protocol):
    """Takes record batches of the schema of `kvae.latents.latent_schema`, in order."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Write some rows."""
        ...


@contextmanager
def _arrow(path: Path, schema: pa.Schema) -> Iterator[LatentWriter]:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        yield writer


class _ParquetWriter:
    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def write(self, batch: pa.RecordBatch) -> None:
        self._writer.write_batch(batch)


@contextmanager
def _parquet(path: Path, schema: pa.Schema) -> Iterator[LatentWriter]:
    with pyarrow.parquet.ParquetWriter(str(path), schema) as writer:
        yield _ParquetWriter(writer)


class _TableWriter:
    """Tab-separated text: the vectors become columns z1, z2, ... and logvar1, ...

    Nothing is quoted, which is what the field's tools expect; a tab or line end
    in a path becomes a space instead.
    """

    def __init__(self, sink: IO[bytes] | gzip.GzipFile, schema: pa.Schema) -> None:
        self._sink = sink
        names: list[str] = []
        for field in schema:
            if pa.types.is_fixed_size_list(field.type):
                prefix = "z" if field.name == "latent" else field.name
                names += [f"{prefix}{i + 1}" for i in range(field.type.list_size)]
            else:
                names.append(field.name)
        self._sink.write(("\t".join(names) + "\n").encode())

    def write(self, batch: pa.RecordBatch) -> None:
        columns: list[Any] = []
        for column in batch.columns:
            if pa.types.is_fixed_size_list(column.type):
                columns += [pa.array(z).cast(pa.string()) for z in _matrix(column).T]
            elif pa.types.is_integer(column.type):
                columns.append(column.cast(pa.string()))
            else:
                text = column.cast(pa.string())
                columns.append(pc.replace_substring_regex(text, "[\t\r\n]", " "))
        lines = pc.binary_join_element_wise(*columns, "\t").to_pylist()
        self._sink.write(("\n".join(lines) + "\n").encode())


@contextmanager
def _table(path: Path, schema: pa.Schema) -> Iterator[LatentWriter]:
    with path.open("wb") as sink:
        yield _TableWriter(sink, schema)


@contextmanager
def _gzip_table(path: Path, schema: pa.Schema) -> Iterator[LatentWriter]:
    # No name and no time in the header: the same latents give the same bytes.
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as sink:
        yield _TableWriter(sink, schema)


class _MatrixWriter:
    """Vectors as matrices that grow in a file, and all other columns at the end."""

    def __init__(self, schema: pa.Schema, file: NpzFile | H5adFile, names: dict[str, str]) -> None:
        self._file = file
        self._names = {name: names[name] for name in schema.names if name in names}
        self._columns: dict[str, list[Any]] = {
            field.name: [] for field in schema if field.name not in names
        }
        for name, place in self._names.items():
            file.begin(place, schema.field(name).type.list_size, np.float32)

    def write(self, batch: pa.RecordBatch) -> None:
        for name, place in self._names.items():
            self._file.append(place, _matrix(batch.column(name)))
        for name, chunks in self._columns.items():
            chunks.append(batch.column(name))

    def columns(self, schema: pa.Schema) -> dict[str, Any]:
        return {
            name: pa.chunked_array(chunks, type=schema.field(name).type)
            for name, chunks in self._columns.items()
        }


@contextmanager
def _npz(path: Path, schema: pa.Schema) -> Iterator[LatentWriter]:
    with NpzFile(path) as file:
        writer = _MatrixWriter(schema, file, {"latent": "latent", "logvar": "logvar"})
        yield writer
        for name, column in writer.columns(schema).items():
            file.put(name, column.to_numpy())
        file.put("kvae", np.array(schema.metadata[b"kvae"].decode()))


@contextmanager
def _h5ad(path: Path, schema: pa.Schema) -> Iterator[LatentWriter]:
    with H5adFile(path) as file:
        writer = _MatrixWriter(schema, file, {"latent": LATENT_KEY, "logvar": LOGVAR_KEY})
        yield writer
        columns = writer.columns(schema)
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
    ".tsv.gz": _gzip_table,
    ".h5ad": _h5ad,
}


def latent_format(path: Path) -> _Open:
    """Find the writer for a file name; it takes the path to write to and a schema.

    Raises
    ------
    KvaeError
        For a suffix that stands for no format.
    """
    for suffix, opener in _FORMATS.items():
        if path.name.lower().endswith(suffix):
            return opener
    raise KvaeError(f"{path}: unknown format, the name must end in {', '.join(_FORMATS)}")
