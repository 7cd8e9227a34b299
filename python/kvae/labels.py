"""Labels of rows: a table of the user's, and the files that rows are from."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kvae.errors import KvaeError
from kvae.row_sources import Indices, RowSource

__all__ = ["SOURCE", "LabelTable", "RowLabels", "label_rows", "read_labels"]

Texts = NDArray[np.str_]

# The name of the label that needs no table.
SOURCE = "source file"
GENUS = "genus"
# Labels that are told apart within a genus, and that discriminants are learned from.
SPECIES = ("species", "species_cluster95", "genome")
# Columns that are scored where they are there and none is named.
KNOWN = ("genome", "species", "species_cluster95", "label", GENUS)
_UNKNOWN = ("", "?")


@dataclass(frozen=True)
class LabelTable:
    """A table of labels.

    Attributes
    ----------
    path
        The file.
    key
        Name of its first column, which says what a line is about.
    keys
        That column.
    columns
        The others; ``""`` where there is no label.
    """

    path: Path
    key: str
    keys: Sequence[str]
    columns: Mapping[str, Sequence[str]]

    def choose(self, by: Sequence[str] = ()) -> list[str]:
        """Names of the columns to score.

        Those named, else those of the usual names, else the second one.

        Raises
        ------
        KvaeError
            For a name that no column has.
        """
        for name in by:
            if name not in self.columns:
                known = ", ".join(self.columns)
                raise KvaeError(f"{self.path}: has no column {name}; its labels are {known}")
        if by:
            return list(dict.fromkeys(by))
        usual = [name for name in KNOWN if name in self.columns]
        return usual or list(self.columns)[:1]


def read_labels(path: str | Path) -> LabelTable:
    """Read a tab-separated table with a header.

    Raises
    ------
    KvaeError
        For a file that is missing or no such table, or names something twice.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise KvaeError(f"{path}: {(error.strerror or 'cannot be read').lower()}") from error
    except UnicodeDecodeError as error:
        raise KvaeError(f"{path}: is no table of text in UTF-8") from error
    lines = csv.reader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    table = [line for line in lines if line]
    if not table or len(table[0]) < 2:
        raise KvaeError(
            f"{path}: needs a header of two or more columns, separated by tabs: what a line"
            " is about, and its labels"
        )
    header, *body = table
    if len(set(header)) < len(header):
        raise KvaeError(f"{path}: has two columns of one name")
    for number, line in enumerate(body, start=2):
        if len(line) != len(header):
            raise KvaeError(
                f"{path}: line {number} has {len(line)} columns, and the header {len(header)}"
            )
    keys = [line[0] for line in body]
    if len(set(keys)) < len(keys):
        twice = next(key for i, key in enumerate(keys) if key in set(keys[:i]))
        raise KvaeError(f"{path}: has two lines about {twice}")
    columns = {
        name: ["" if line[i] in _UNKNOWN else line[i] for line in body]
        for i, name in enumerate(header)
        if i > 0
    }
    return LabelTable(path, header[0], keys, columns)


@dataclass(frozen=True)
class RowLabels:
    """Labels of all rows of a feature file.

    Attributes
    ----------
    columns
        By name, the label of every row, ``""`` where it has none.
    table
        Where they are from, None where there are only files.
    matched
        Rows that the table has a line about.
    shared
        Lines about a record's name that records of several files have.
    """

    columns: Mapping[str, Texts]
    table: Path | None
    matched: int
    shared: int = 0

    def take(self, rows: Indices) -> dict[str, Texts]:
        """Labels of some rows."""
        return {name: column[rows] for name, column in self.columns.items()}


def label_rows(
    store: RowSource, table: LabelTable | None = None, by: Sequence[str] = ()
) -> RowLabels:
    """Label rows by their records, else by the files that they are from.

    The first column of the table names a record (a row's ``id``) or a file (its
    path as it was given, or its name alone). A record goes before its file. The file
    itself is a label, too, where there are two or more of them.

    Raises
    ------
    KvaeError
        If the table has a line about no row, or lacks a column that `by` names.
    """
    columns: dict[str, Texts] = {}
    matched = shared = 0
    if table is not None:
        names = table.choose(by)
        by_record, by_source = _lines(store, table)
        lines = np.where(by_record >= 0, by_record, by_source)
        shared = _in_several_files(by_record, store.source_codes)
        matched = int((lines >= 0).sum())
        if matched == 0:
            raise KvaeError(
                f"{table.path}: names no record and no file of {store.path} in its column"
                f" {table.key}"
            )
        for name in names:
            values = np.array([*table.columns[name], ""])
            columns[name] = values[lines]
    sources = np.array([str(name) for name in store.source_names])
    if len(np.unique(store.source_codes)) > 1:
        columns[SOURCE] = sources[store.source_codes]
    return RowLabels(columns, None if table is None else table.path, matched, shared)


def _lines(store: RowSource, table: LabelTable) -> tuple[Indices, Indices]:
    """Lines of the table about each row's record and its file, -1 where there is none."""
    place = {key: line for line, key in enumerate(table.keys)}
    names = [str(name) for name in store.source_names]
    of_source = [place.get(name, place.get(Path(name).name, -1)) for name in names]
    keys = pa.array(table.keys, pa.string())
    found: Any = pc.fill_null(pc.index_in(store.ids, value_set=keys), -1)
    by_record = found.to_numpy().astype(np.int64)
    by_source = np.array(of_source, dtype=np.int64)[store.source_codes]
    return by_record, by_source


def _in_several_files(by_record: Indices, source_codes: NDArray[np.int32]) -> int:
    """Count the lines whose record is in more than one file."""
    known = by_record >= 0
    pairs = np.unique(np.stack([by_record[known], source_codes[known]]), axis=1)
    _, files = np.unique(pairs[0], return_counts=True)
    return int((files > 1).sum())
