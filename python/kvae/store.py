"""Feature files, memory-mapped."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kvae import _core
from kvae.errors import KvaeError
from kvae.gathering import GATHERERS, Gatherer, PackedGatherer
from kvae.layout import Layout
from kvae.stored_rows import STORES, StoredRows, matrix, sequences

__all__ = ["FeatureStore"]

FORMAT_VERSION = 1

_COLUMNS: dict[str, Callable[[Any], bool]] = {
    "id": pa.types.is_string,
    "source": lambda type_: (
        pa.types.is_dictionary(type_)
        and pa.types.is_int32(type_.index_type)
        and pa.types.is_string(type_.value_type)
    ),
    "start": pa.types.is_uint64,
    "end": pa.types.is_uint64,
    "length": pa.types.is_uint64,
    "gc": pa.types.is_float32,
}
_RUN = pa.struct([pa.field("start", pa.uint32(), False), pa.field("length", pa.uint32(), False)])
_SEQUENCE_COLUMNS: dict[str, Callable[[Any], bool]] = {
    "sequence": pa.types.is_large_binary,
    "invalid": lambda type_: pa.types.is_list(type_) and type_.value_type == _RUN,
}


def _is_list(type_: Any, width: int, types: tuple[str, ...]) -> bool:
    is_list = pa.types.is_fixed_size_list(type_)
    return is_list and type_.list_size == width and str(type_.value_type) in types


class FeatureStore:
    """A feature file, opened without reading it.

    The file is mapped into memory: opening takes the same time whatever its
    size, and rows are read from the disk when they are first used. Views that
    were handed out keep the file mapped.

    Parameters
    ----------
    path
        A file that `kvae.featurize` wrote.
    name
        What messages call it, and what its `path` says; the path where omitted.
    threads
        To gather rows with; all CPUs that this process may use, by default.

    Raises
    ------
    KvaeError
        If it is no such file, or damaged.

    Examples
    --------
    >>> store = FeatureStore("feats.arrow")  # doctest: +SKIP
    >>> store.batch(0).shape  # doctest: +SKIP
    (512, 8362)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        name: str | os.PathLike[str] | None = None,
        threads: int | None = None,
    ) -> None:
        self.path = Path(path if name is None else name)
        self._check_readable(Path(path))
        try:
            with pa.memory_map(os.fspath(path)) as source:
                reader = pa.ipc.open_file(source)
                self._schema = reader.schema
                self.metadata = self._read_metadata()
                self._batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
                source.seek(0)
                self._address = source.read_buffer(source.size()).address
        except OSError as error:
            # Arrow reports truncation as an operating system's error too.
            reason = error.strerror or "is not a whole Arrow file: featurize again"
            raise self._error(reason) from error
        except (pa.ArrowException, ValueError, SystemError) as error:
            # What Arrow raises for damaged metadata is not one family.
            detail = str(error).splitlines()[0] if str(error) else "unreadable"
            raise self._error(f"is not a whole Arrow file ({detail}): featurize again") from error
        self.layout = self._read_layout()
        self._is_valid = [False] * len(self._batches)
        self._starts = np.cumsum([0, *(batch.num_rows for batch in self._batches)])
        if len(self) == 0:
            raise self._error("has no rows: featurize again")
        self._stored = self._open_rows()
        # Opened now: the path may lead to another file later.
        self._file = _core.RowFile(path, self.layout.ks, threads)

    def _check_readable(self, path: Path) -> None:
        """Let the operating system say what is wrong, which Arrow words for programmers."""
        try:
            with path.open("rb"):
                pass
        except FileNotFoundError as error:
            raise self._error("no such file: make it with kvae featurize") from error
        except OSError as error:
            raise self._error((error.strerror or "cannot be read").lower()) from error

    def _error(self, message: str) -> KvaeError:
        return KvaeError(f"{self.path}: {message}")

    def _read_metadata(self) -> dict[str, Any]:
        text = (self._schema.metadata or {}).get(b"kvae")
        if text is None:
            raise self._error("is an Arrow file, but not one of kvae's: use kvae featurize")
        try:
            metadata = json.loads(text)
            version = metadata["format"]
        except (ValueError, TypeError, KeyError) as error:
            raise self._error("has unreadable metadata: featurize again") from error
        if version != FORMAT_VERSION:
            raise self._error(
                f"has format version {version}, and this kvae reads {FORMAT_VERSION}:"
                " featurize again, or use the kvae that wrote it"
            )
        return dict(metadata)

    def _read_layout(self) -> Layout:
        try:
            stated = Layout.from_dict(self.metadata["layout"])
            known = Layout.from_ks(stated.ks)
        except (KeyError, TypeError, ValueError, OverflowError, KvaeError) as error:
            raise self._error("has an unreadable layout: featurize again") from error
        if stated != known:
            raise self._error(
                f"has rows of layout {stated.fingerprint}, and this kvae makes"
                f" {known.fingerprint} of the same k: featurize again"
            )
        return known

    def _open_rows(self) -> StoredRows:
        """Choose how rows are read, and make sure that what it needs is there."""
        kind = str(self.metadata.get("store"))
        if kind not in STORES:
            raise self._error(f"has a store of kind '{kind}', which this kvae cannot read")
        stored = STORES[kind](self.layout)
        for name, (width, types) in stored.columns().items():
            self._require(name, partial(_is_list, width=width, types=types))
        counts = {f"n{k}": pa.types.is_uint64 for k in self.layout.ks}
        for name, is_right in {**_COLUMNS, **counts}.items():
            self._require(name, is_right)
        if kind == "packed" or "sequence" in self._schema.names:
            for name, is_right in _SEQUENCE_COLUMNS.items():
                self._require(name, is_right)
        return stored

    def _require(self, name: str, is_right: Callable[[Any], bool]) -> None:
        if name not in self._schema.names:
            raise self._error(f"has no column {name}: featurize again")
        type_ = self._schema.field(name).type
        if not is_right(type_):
            raise self._error(f"has a column {name} of type {type_}: featurize again")

    def _batch(self, i: int) -> Any:
        """Get a record batch; the first time, make sure that nothing in it points outside."""
        batch = self._batches[i]
        if not self._is_valid[i]:
            try:
                batch.validate()
                # The contents of all columns but the large ones, which hold
                # nothing that could point anywhere.
                small = [
                    name
                    for name, column in zip(batch.schema.names, batch.columns, strict=True)
                    if not pa.types.is_fixed_size_list(column.type)
                ]
                batch.select(small).validate(full=True)
            except pa.ArrowInvalid as error:
                detail = str(error).splitlines()[0]
                raise self._error(f"is damaged ({detail}): featurize again") from error
            self._is_valid[i] = True
        return batch

    def __len__(self) -> int:
        """Count the rows."""
        return int(self._starts[-1])

    def __repr__(self) -> str:
        return (
            f"FeatureStore({str(self.path)!r}: {len(self):,} rows, {self.layout.n_fields} fields)"
        )

    @property
    def kind(self) -> str:
        """What the file keeps of each row: ``log``, ``counts`` or ``packed``."""
        return str(self.metadata["store"])

    @property
    def n_batches(self) -> int:
        """Number of record batches."""
        return len(self._batches)

    def batch(self, i: int) -> NDArray[np.float32]:
        """View the features of a record batch.

        Returns
        -------
        ndarray of float32, shape (rows, fields)
            Read-only, and mapped: nothing is copied.

        Raises
        ------
        KvaeError
            If the file keeps no features but counts or sequences only.
        """
        if self.kind != "log":
            raise self._error(f"keeps {self.kind} and no features to view: use rows()")
        return matrix(self._batch(i), "features")

    def rows(
        self, indices: NDArray[np.int64], out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Gather log-space rows by their positions in the file.

        What the file does not keep is computed: from all kinds of file come the
        same rows, to within the rounding of float32.

        Parameters
        ----------
        indices
            Positions, in any order, repeats allowed.
        out
            Where to write, shape ``(len(indices), fields)``; made if missing.

        Returns
        -------
        ndarray of float32, shape (len(indices), fields)

        Raises
        ------
        IndexError
            If a position is outside the file.
        """
        if out is None:
            out = np.empty((len(indices), self.layout.n_fields), dtype=np.float32)
        indices = self._checked(indices)
        if len(indices) == 0:
            return out
        rows = out if out.flags.c_contiguous else np.empty_like(out, order="C")
        self._gatherer.rows(indices, rows)
        if rows is not out:
            out[...] = rows
        return out

    @property
    def packed(self) -> PackedGatherer:
        """Where the sequences are, of a file that keeps nothing else.

        Raises
        ------
        KvaeError
            If the file keeps features or counts.
        """
        if not isinstance(self._gatherer, PackedGatherer):
            raise self._error(f"keeps {self.kind}, not packed sequences only")
        return self._gatherer

    @property
    def has_sequences(self) -> bool:
        """Whether the file keeps the sequence of each row."""
        return "sequence" in self._schema.names

    def stretches_of(
        self, indices: NDArray[np.int64]
    ) -> tuple[PackedGatherer, NDArray[np.int64], NDArray[np.uint64], NDArray[np.uint64]]:
        """Where the sequences of rows are: what reads them, row, first and last letter.

        Raises
        ------
        KeyError
            If the file keeps no sequences.
        IndexError
            If a position is outside the file.
        """
        if not self.has_sequences:
            raise KeyError("sequence")
        indices = self._checked(indices)
        end = self._sequences.lengths[indices].astype(np.uint64)
        return self._sequences, indices, np.zeros_like(end), end

    @cached_property
    def _sequences(self) -> PackedGatherer:
        """What reads the sequences, whatever else the file keeps."""
        if isinstance(self._gatherer, PackedGatherer):
            return self._gatherer
        batches = [self._batch(i) for i in range(self.n_batches)]
        return PackedGatherer(self._file, self.layout, batches, self._address)

    @cached_property
    def _gatherer(self) -> Gatherer:
        """What reads rows: made when it is first needed, for it looks at all batches."""
        batches = [self._batch(i) for i in range(self.n_batches)]
        return GATHERERS[self.kind](self._file, self.layout, batches, self._address)

    def _checked(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        indices = np.asarray(indices, dtype=np.int64)
        if len(indices) and not (indices.min() >= 0 and indices.max() < len(self)):
            raise IndexError(f"{self.path} has rows 0 to {len(self) - 1}")
        return indices

    def counts(self, indices: NDArray[np.int64], k: int) -> NDArray[np.uint32]:
        """Gather exact counts of canonical k-mers by the rows' positions.

        From all kinds of file come the same counts. Those of a file that keeps
        features without sequences are exact up to about a million.

        Parameters
        ----------
        indices
            Positions, in any order, repeats allowed.
        k
            One of the layout's.

        Returns
        -------
        ndarray of uint32, shape (len(indices), canonical k-mers)

        Raises
        ------
        KeyError
            If the layout has no such k.
        IndexError
            If a position is outside the file.
        """
        size = self.layout.block(f"{k}-mers").size
        out = np.empty((len(indices), size), dtype=np.uint32)
        for batch, here, positions in self._locate(indices):
            out[here] = self._stored.counts(batch, positions, k)
        return out

    def sequences(self, indices: NDArray[np.int64]) -> list[bytes]:
        """Unpack the sequences of rows: upper-case bases, N for other letters.

        Raises
        ------
        KeyError
            If the file keeps no sequences.
        IndexError
            If a position is outside the file.
        """
        if "sequence" not in self._schema.names:
            raise KeyError("sequence")
        found: list[bytes] = [b""] * len(indices)
        for batch, here, positions in self._locate(indices):
            for i, letters in zip(here.tolist(), sequences(batch, positions), strict=True):
                found[i] = letters
        return found

    def _locate(
        self, indices: NDArray[np.int64]
    ) -> Iterator[tuple[Any, NDArray[np.int64], NDArray[np.int64]]]:
        """Give each batch, which of `indices` it holds, and where it holds them."""
        indices = self._checked(indices)
        batches = np.searchsorted(self._starts, indices, side="right") - 1
        for batch in np.unique(batches):
            here = np.flatnonzero(batches == batch)
            yield self._batch(int(batch)), here, indices[here] - self._starts[batch]

    def column(self, name: str) -> pa.ChunkedArray:
        """Get any column of the file, as Arrow, without a copy.

        Raises
        ------
        KeyError
            If the file has no such column.
        """
        if name not in self._schema.names:
            raise KeyError(name)
        columns = [self._batch(i).column(name) for i in range(self.n_batches)]
        return pa.chunked_array(columns, type=self._schema.field(name).type)

    @property
    def column_names(self) -> list[str]:
        """Names of all columns."""
        return list(self._schema.names)

    @cached_property
    def ids(self) -> pa.ChunkedArray:
        """Record name of each row."""
        return self.column("id")

    @cached_property
    def source_codes(self) -> NDArray[np.int32]:
        """Position in `source_names` of each row's input file."""
        codes = [chunk.indices.to_numpy() for chunk in self.column("source").chunks]
        return np.concatenate(codes)

    @cached_property
    def source_names(self) -> list[str]:
        """Input files, as they were named or found."""
        names: list[str] = self._batch(0).column("source").dictionary.to_pylist()
        return names
