"""One Arrow file of features, memory-mapped, and what it says of itself."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from kvae.errors import KvaeError, refused
from kvae.layout import Layout
from kvae.stored_rows import STORES, StoredRows
from kvae.system import open_files, set_open_files

__all__ = ["MappedFile", "allow_open_files", "check_readable"]

FORMAT_VERSION = 1

# Files that a process has open beside feature files.
_OTHER_FILES = 256

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


def check_readable(path: Path, name: Path) -> None:
    """Let the operating system say what is wrong, which Arrow words for programmers."""
    try:
        with path.open("rb"):
            pass
    except FileNotFoundError as error:
        raise KvaeError(f"{name}: no such file: make it with kvae featurize") from error
    except OSError as error:
        raise KvaeError(f"{name}: {(error.strerror or 'cannot be read').lower()}") from error


def allow_open_files(count: int) -> None:
    """Ask the system for as many open files as that, beside what else is open."""
    wanted = count + _OTHER_FILES
    limits = open_files()
    if limits is None or limits[0] >= wanted:
        return
    most = limits[1]
    if most < wanted:
        raise KvaeError(
            f"{count:,} shards are more files than this system lets a process open"
            f" ({most:,}): kvae merge them first"
        )
    set_open_files(wanted, most)


class MappedFile:
    """One Arrow file of features.

    Parameters
    ----------
    path
        The file.
    name
        What messages call it.

    Attributes
    ----------
    name
        What messages call it.
    schema, metadata
        Columns, and what kvae wrote beside them.
    layout
        Of its rows.
    batches
        Record batches, whose contents are not examined yet.
    address
        Where the file begins in memory.
    stored
        Gives counts of what it keeps.

    Raises
    ------
    KvaeError
        If it is no feature file, or damaged.
    """

    def __init__(self, path: Path, name: Path) -> None:
        self.name = name
        try:
            with pa.memory_map(os.fspath(path)) as source:
                reader = pa.ipc.open_file(source)
                self.schema = reader.schema
                self.names = list(reader.schema.names)
                self.metadata = self._read_metadata()
                self.batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
                source.seek(0)
                self.address: int = source.read_buffer(source.size()).address
        except OSError as error:
            # Arrow reports truncation as an operating system's error too.
            reason = refused(error) or "is not a whole Arrow file: featurize again"
            raise self._error(reason) from error
        except (pa.ArrowException, ValueError, SystemError) as error:
            # What Arrow raises for damaged metadata is not one family.
            detail = str(error).splitlines()[0] if str(error) else "unreadable"
            raise self._error(f"is not a whole Arrow file ({detail}): featurize again") from error
        if len(set(self.names)) < len(self.names):
            raise self._error("has several columns of one name: featurize again")
        self.layout = self._read_layout()
        self.stored = self._open_rows()

    @property
    def kind(self) -> str:
        """What it keeps of each row: ``log``, ``counts`` or ``packed``."""
        return str(self.metadata.get("store"))

    def _error(self, message: str) -> KvaeError:
        return KvaeError(f"{self.name}: {message}")

    def _read_metadata(self) -> dict[str, Any]:
        text = (self.schema.metadata or {}).get(b"kvae")
        if text is None:
            raise self._error("is an Arrow file, but not one of kvae's: use kvae featurize")
        try:
            metadata = json.loads(text)
            version = metadata["format"]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
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
        kind = self.kind
        if kind not in STORES:
            raise self._error(f"has a store of kind '{kind}', which this kvae cannot read")
        stored = STORES[kind](self.layout)
        for name, (width, types) in stored.columns().items():
            self._require(name, partial(_is_list, width=width, types=types))
        counts = {f"n{k}": pa.types.is_uint64 for k in self.layout.ks}
        for name, is_right in {**_COLUMNS, **counts}.items():
            self._require(name, is_right)
        if kind == "packed" or "sequence" in self.names:
            for name, is_right in _SEQUENCE_COLUMNS.items():
                self._require(name, is_right)
        return stored

    def _require(self, name: str, is_right: Callable[[Any], bool]) -> None:
        if name not in self.names:
            raise self._error(f"has no column {name}: featurize again")
        type_ = self.schema.field(name).type
        if not is_right(type_):
            raise self._error(f"has a column {name} of type {type_}: featurize again")
