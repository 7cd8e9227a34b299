"""AnnData files, written and read without anndata, a piece at a time.

What stands where is AnnData's on-disk format: every group and dataset says in its
attributes what it encodes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kvae.optional import require

__all__ = ["H5adFile", "read_facts", "read_frame", "row_names"]

# A chunk of a matrix is compressed and read as a whole: about this many numbers.
_CHUNK = 1 << 16
_EMPTY = ("layers", "obsm", "obsp", "varm", "varp")


class H5adFile:
    """An AnnData file that grows by rows.

    Parameters
    ----------
    path
        The file to write.

    Raises
    ------
    KvaeError
        Where h5py is not installed.
    """

    def __init__(self, path: Path) -> None:
        self._h5 = require("h5py", "anndata", "an .h5ad file")
        self._sink = _Sink(path)
        self._file = self._h5.File(self._sink, "w")
        _encode(self._file, "anndata", "0.1.0")
        for name in _EMPTY:
            _encode(self._file.create_group(name), "dict", "0.1.0")

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file, and raise what the system refused at any time."""
        try:
            self._file.close()
        finally:
            self._sink.close()
            if self._sink.error and (kind is None or issubclass(kind, Exception)):
                raise self._sink.error

    def begin(self, name: str, width: int, dtype: Any) -> None:
        """Start a dense matrix of ``width`` columns, such as ``obsm/X_kvae``."""
        rows = max(1, _CHUNK // max(width, 1))
        matrix = self._file.create_dataset(
            name, (0, width), dtype, maxshape=(None, width), chunks=(rows, width), **_FILTERS
        )
        _encode(matrix, "array", "0.2.0")

    def append(self, name: str, rows: NDArray[Any]) -> None:
        """Add rows to a dense matrix."""
        self._sink.check()
        matrix = self._file[name]
        before = len(matrix)
        matrix.resize(before + len(rows), axis=0)
        matrix[before:] = rows

    def begin_sparse(self, name: str, width: int, dtype: Any) -> None:
        """Start a matrix of ``width`` columns of which the zeros are not kept."""
        group = self._file.create_group(name)
        _encode(group, "csr_matrix", "0.1.0")
        group.attrs["shape"] = np.array([0, width], dtype=np.int64)
        for part, kind in (("data", dtype), ("indices", np.int32)):
            group.create_dataset(part, (0,), kind, maxshape=(None,), chunks=(_CHUNK,), **_FILTERS)
        group.create_dataset("indptr", (1,), np.int64, maxshape=(None,), chunks=(1024,))

    def append_sparse(self, name: str, rows: NDArray[Any]) -> None:
        """Add rows, given dense, to a sparse matrix."""
        self._sink.check()
        group = self._file[name]
        row, column = np.nonzero(rows)
        _extend(group["data"], rows[row, column])
        _extend(group["indices"], column.astype(np.int32))
        ends = group["indptr"][-1] + np.cumsum(np.count_nonzero(rows, axis=1))
        _extend(group["indptr"], ends)
        group.attrs["shape"] = group.attrs["shape"] + np.array([len(rows), 0])

    def frame(self, name: str, index: list[str], columns: Mapping[str, Any]) -> None:
        """Write ``obs`` or ``var``: a table of Arrow columns with names of its rows."""
        group = self._file.create_group(name)
        _encode(group, "dataframe", "0.2.0")
        group.attrs["_index"] = "_index"
        order = np.array(list(columns), dtype=self._h5.string_dtype())
        group.attrs["column-order"] = order if len(order) else np.empty(0, np.float64)
        self._strings(group, "_index", index)
        for key, column in columns.items():
            if pa.types.is_dictionary(column.type):
                self._categories(group, key, column)
            elif pa.types.is_string(column.type):
                self._strings(group, key, column.to_pylist())
            else:
                _encode(group.create_dataset(key, data=column.to_numpy()), "array", "0.2.0")

    def facts(self, content: Mapping[str, Any]) -> None:
        """Write ``uns``; what is neither text, number nor dictionary becomes JSON text."""
        self._mapping(self._file, "uns", content)

    def _mapping(self, parent: Any, name: str, content: Mapping[str, Any]) -> None:
        group = parent.create_group(name)
        _encode(group, "dict", "0.1.0")
        for key, value in content.items():
            if isinstance(value, Mapping):
                self._mapping(group, key, value)
            elif isinstance(value, bool | int | float):
                _encode(group.create_dataset(key, data=value), "numeric-scalar", "0.2.0")
            else:
                text = value if isinstance(value, str) else json.dumps(value)
                dataset = group.create_dataset(key, data=text, dtype=self._h5.string_dtype())
                _encode(dataset, "string", "0.2.0")

    def _strings(self, group: Any, name: str, values: list[str]) -> None:
        data = np.array(values, dtype=object)
        dataset = group.create_dataset(name, data=data, dtype=self._h5.string_dtype())
        _encode(dataset, "string-array", "0.2.0")

    def _categories(self, parent: Any, name: str, column: Any) -> None:
        whole = column.unify_dictionaries() if isinstance(column, pa.ChunkedArray) else column
        if isinstance(whole, pa.ChunkedArray):
            whole = whole.combine_chunks()
        group = parent.create_group(name)
        _encode(group, "categorical", "0.2.0")
        group.attrs["ordered"] = False
        _encode(group.create_dataset("codes", data=whole.indices.to_numpy()), "array", "0.2.0")
        self._strings(group, "categories", whole.dictionary.to_pylist())


class _Sink:
    """A file for HDF5 to write that keeps the first error of the system.

    HDF5 writes some of what it has when objects are forgotten, where nobody can be told of
    an error. Nothing fails here, then: the file is whole if there was no error.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b")
        self._position = self._end = 0
        self.error: OSError | None = None

    def check(self) -> None:
        """Raise the error, if there was one."""
        if self.error:
            raise self.error

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place; a file that failed has one, too."""
        self._position = offset + (0, self._position, self._end)[whence]
        return self._position

    def tell(self) -> int:
        """Tell the place."""
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Read what was written."""
        self._try(lambda: self._file.seek(self._position))
        self._try(lambda: self._file.readinto(buffer))
        self._position += len(buffer)
        return len(buffer)

    def read(self, size: int) -> bytes:
        """Read what was written."""
        content = bytearray(size)
        self.readinto(content)
        return bytes(content)

    def write(self, data: Any) -> int:
        """Write all of it."""
        self._try(lambda: self._file.seek(self._position))
        self._try(lambda: self._file.write(data))
        self._position += len(data)
        self._end = max(self._end, self._position)
        return len(data)

    def truncate(self, size: int) -> int:
        """Cut the file, or make it longer."""
        self._end = size
        self._try(lambda: self._file.truncate(size))
        return size

    def flush(self) -> None:
        """Hand everything to the system."""
        self._try(self._file.flush)

    def close(self) -> None:
        """End."""
        self.flush()
        with suppress(OSError):
            self._file.close()

    def _try(self, act: Callable[[], object]) -> None:
        if self.error is None:
            try:
                act()
            except OSError as error:
                self.error = error


_FILTERS: dict[str, Any] = {
    "compression": "gzip",
    "compression_opts": 1,
    "shuffle": True,
    "fletcher32": True,
}


def _encode(where: Any, kind: str, version: str) -> None:
    where.attrs["encoding-type"] = kind
    where.attrs["encoding-version"] = version


def _extend(dataset: Any, values: NDArray[Any]) -> None:
    before = len(dataset)
    dataset.resize(before + len(values), axis=0)
    dataset[before:] = values


def row_names(columns: Mapping[str, Any]) -> list[str]:
    """Name rows by record and place, as ``contig:0-5000``, each differently.

    Parameters
    ----------
    columns
        Arrow columns ``id``, ``start`` and ``end``.
    """
    parts = (columns[name].to_pylist() for name in ("id", "start", "end"))
    names = [f"{record}:{start}-{end}" for record, start, end in zip(*parts, strict=True)]
    if len(set(names)) == len(names):
        return names
    # Records of several files may have one name.
    taken = set(names)
    seen: dict[str, int] = {}
    for i, name in enumerate(names):
        if name not in seen:
            seen[name] = 0
            continue
        while names[i] in taken:
            seen[name] += 1
            names[i] = f"{name}-{seen[name]}"
        taken.add(names[i])
    return names


def _strings(dataset: Any) -> list[str]:
    """Read a dataset of strings."""
    values: list[str] = dataset.asstr()[:].tolist()
    return values


def read_frame(group: Any) -> dict[str, Any]:
    """Read the columns of ``obs`` as Arrow arrays; strings may be categories."""
    columns: dict[str, Any] = {}
    for name in group.attrs["column-order"]:
        column = group[name]
        if column.attrs["encoding-type"] == "categorical":
            categories = pa.array(_strings(column["categories"]), pa.string())
            codes = pa.array(column["codes"][:].astype(np.int32))
            columns[name] = pa.DictionaryArray.from_arrays(codes, categories)
        elif column.attrs["encoding-type"] == "string-array":
            columns[name] = pa.array(_strings(column), pa.string())
        else:
            columns[name] = pa.array(column[:])
    return columns


def read_facts(group: Any) -> dict[str, Any]:
    """Read a dictionary of ``uns``."""
    facts: dict[str, Any] = {}
    for name, value in group.items():
        kind = value.attrs["encoding-type"]
        if kind == "dict":
            facts[name] = read_facts(value)
        elif kind == "string":
            facts[name] = value.asstr()[()]
        elif kind == "numeric-scalar":
            facts[name] = value[()].item()
    return facts
