"""Latents to files, a batch at a time, in the format that the suffix names."""

from __future__ import annotations

import gzip
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from numpy.lib import format as npy

from kvae.errors import KvaeError

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


class _NpzWriter:
    """numpy's archive; the matrices go through a file so that memory stays bounded."""

    def __init__(self, schema: pa.Schema, spools: dict[str, IO[bytes]]) -> None:
        self._spools = spools
        self._facts = schema.metadata[b"kvae"].decode()
        self._width = {field.name: field.type.list_size for field in schema if field.name in spools}
        self._rows = 0
        self._columns: dict[str, list[Any]] = {
            field.name: [] for field in schema if field.name not in spools
        }

    def write(self, batch: pa.RecordBatch) -> None:
        self._rows += len(batch)
        for name, spool in self._spools.items():
            spool.write(_matrix(batch.column(name)).astype("<f4").tobytes())
        for name, chunks in self._columns.items():
            chunks.append(batch.column(name))

    def finish(self, path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name, spool in self._spools.items():
                shape = (self._rows, self._width[name])
                header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                with _member(archive, name) as member:
                    npy.write_array_header_2_0(member, header)
                    spool.seek(0)
                    shutil.copyfileobj(spool, member, 1 << 20)
            for name, chunks in self._columns.items():
                values = pa.chunked_array(chunks).to_numpy()
                if values.dtype == object:
                    values = values.astype(str)
                with _member(archive, name) as member:
                    npy.write_array(member, values, allow_pickle=False)
            with _member(archive, "kvae") as member:
                npy.write_array(member, np.array(self._facts), allow_pickle=False)


def _member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    """Open a member without a time stamp: the same latents give the same bytes."""
    return archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True)


@contextmanager
def _npz(path: Path, schema: pa.Schema) -> Iterator[LatentWriter]:
    with ExitStack() as stack:
        spools: dict[str, IO[bytes]] = {
            field.name: stack.enter_context(tempfile.TemporaryFile(dir=path.parent))
            for field in schema
            if pa.types.is_fixed_size_list(field.type)
        }
        writer = _NpzWriter(schema, spools)
        yield writer
        writer.finish(path)


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
