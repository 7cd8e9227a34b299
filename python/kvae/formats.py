"""What the formats of tables share: the suffix that names one, and tab-separated text."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from kvae.errors import KvaeError
from kvae.remote.uris import as_path, name_of

__all__ = ["TextTable", "by_suffix", "text_sink"]

T = TypeVar("T")


def by_suffix(path: str | Path, formats: Mapping[str, T], also: str = "") -> T:
    """Choose what belongs to a file's suffix, whatever its case.

    Parameters
    ----------
    path
        The file.
    formats
        By suffix.
    also
        What else the message offers.

    Raises
    ------
    KvaeError
        For a suffix that stands for no format.
    """
    for suffix, found in formats.items():
        if name_of(path).lower().endswith(suffix):
            return found
    raise KvaeError(
        f"{as_path(path)}: unknown format, the name must end in {', '.join(formats)}{also}"
    )


@contextmanager
def text_sink(path: Path, *, gzipped: bool) -> Iterator[Any]:
    """Open a file to write text to it, in bytes."""
    with path.open("wb") as file:
        if not gzipped:
            yield file
            return
        # No name and no time in the header: the same table gives the same bytes.
        with gzip.GzipFile("", "wb", 6, file, mtime=0) as sink:
            yield sink


class TextTable:
    """Tab-separated text.

    Nothing is quoted, which is what the field's tools expect; a tab or line end in a
    name or path becomes a space instead.

    Parameters
    ----------
    sink
        Where to write.
    names
        Of the columns.
    """

    def __init__(self, sink: IO[bytes], names: Sequence[str]) -> None:
        self._sink = sink
        self._sink.write(("\t".join(names) + "\n").encode())

    def write(self, columns: Sequence[Any]) -> None:
        """Write some rows: an Arrow array per column."""
        if not len(columns[0]):
            return
        lines = pc.binary_join_element_wise(*map(_text, columns), "\t").to_pylist()
        self._sink.write(("\n".join(lines) + "\n").encode())


def _text(column: Any) -> Any:
    """Write a column's values; only texts can hold what separates them."""
    text = column.cast(pa.string())
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return text
    return pc.replace_substring_regex(text, "[\t\r\n]", " ")
