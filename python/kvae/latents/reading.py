"""Latents from files, whatever format they were written in."""

from __future__ import annotations

import gzip
import json
import re
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from kvae.errors import KvaeError, refused
from kvae.formats import by_suffix
from kvae.h5ad import read_facts, read_frame
from kvae.latents.schema import LATENT_KEY, LOGVAR_KEY
from kvae.latents.sums import SUM, sum_of_batch
from kvae.optional import require
from kvae.remote import local_files, told_of
from kvae.remote.uris import RemotePath, as_path

__all__ = ["Latents", "is_latent_name", "read_latents"]

_PLACE = ("start", "end", "length")
_TEXT = ("id", "source")

# What Arrow, numpy, zipfile and gzip raise for damaged files is not one family:
# NotImplementedError and RuntimeError are zipfile's, for compression and encryption it
# does not know, MemoryError and OverflowError come with sizes that are made up.
_DAMAGE = (
    pa.ArrowException,
    OSError,
    EOFError,
    zlib.error,
    zipfile.BadZipFile,
    ValueError,
    TypeError,
    LookupError,
    SystemError,
    RuntimeError,
    MemoryError,
    OverflowError,
    SyntaxError,
    tokenize.TokenError,
    AttributeError,
)


@dataclass(frozen=True)
class Latents:
    """Latent vectors, and what each of them is of.

    Attributes
    ----------
    path
        The file they are from.
    ids
        Record of every row (an Arrow array of strings).
    source_names
        Input files.
    source_codes
        Index into `source_names` of every row, int32.
    start, end
        Place of every row in its record, in bases from 0, half-open; uint64.
    length
        Bases of every row, uint64.
    vectors
        Float32 of shape (rows, latent units).
    logvar
        Logarithms of the posterior variances, of the same shape, None where the
        file has none.
    facts
        What the file says of itself: ``model`` (a fingerprint), ``run``,
        ``layout``.
    """

    path: Path
    ids: Any
    source_names: Sequence[str]
    source_codes: NDArray[np.int32]
    start: NDArray[np.uint64]
    end: NDArray[np.uint64]
    length: NDArray[np.uint64]
    vectors: NDArray[np.float32]
    logvar: NDArray[np.float32] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.vectors)

    @property
    def n_latent(self) -> int:
        """Numbers per vector."""
        return int(self.vectors.shape[1])

    def describe(self, row: int) -> str:
        """Name a row for a message: file, number and record."""
        return f"{self.path}: row {row} (record {self.ids[row]})"


def read_latents(path: str | Path) -> Latents:
    """Read a file that `kvae.encode` wrote; a URI's is fetched first.

    Memory is that of the vectors and names.

    Raises
    ------
    KvaeError
        For a file that is missing, damaged or not one of latents, and for vectors
        that are not finite.
    """
    if isinstance(name := as_path(path), RemotePath):
        by_suffix(name, _READERS)
        (copy,), origins = local_files([path])
        with told_of(origins):
            return replace(read_latents(copy), path=name)
    path = name
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        why = (error.strerror or "cannot be read").lower()
        raise KvaeError(f"{path}: {why}: latents are made with kvae encode") from error
    reader = by_suffix(path, _READERS)
    try:
        latents = reader(path)
    except KvaeError:
        raise
    except _DAMAGE as error:
        if reason := refused(error):
            raise KvaeError(f"{path}: {reason}") from error
        raise KvaeError(f"{path}: is damaged, or no file of latents: encode again") from error
    _check(latents)
    return latents


def is_latent_name(path: str | Path) -> bool:
    """Whether a file's name ends as one of a latent file does."""
    return Path(path).name.lower().endswith(tuple(_READERS))


def _check(latents: Latents) -> None:
    if len(latents) == 0 or latents.n_latent == 0:
        raise _empty(latents.path)
    finite = np.isfinite(latents.vectors).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        raise KvaeError(f"{latents.describe(row)}: latent not finite: encode again")


def _empty(path: Path) -> KvaeError:
    return KvaeError(f"{path}: has no latents: encode again")


def _arrow(path: Path) -> Latents:
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        facts = (reader.schema.metadata or {}).get(b"kvae", b"")
        batches = []
        last = reader.num_record_batches - 1
        for number in range(last + 1):
            batch, metadata = reader.get_batch_with_custom_metadata(number)
            batch.validate(full=True)
            # A file that another tool has written anew has no sums, and is read as it is.
            stated = (metadata or {}).get(SUM.encode())
            if stated is not None:
                found = sum_of_batch(batch, facts, number, is_last=number == last)
                if stated != found.encode():
                    raise KvaeError(f"{path}: is damaged (checksums differ): encode again")
            batches.append(batch)
        return _from_table(path, pa.Table.from_batches(batches, reader.schema))


def _parquet(path: Path) -> Latents:
    table = pyarrow.parquet.read_table(path, page_checksum_verification=True)
    table.validate(full=True)
    return _from_table(path, table)


def _table(path: Path) -> Latents:
    opener = gzip.open if path.name.lower().endswith(".gz") else open
    with opener(path, "rb") as file:
        header = file.readline().decode().rstrip("\r\n").split("\t")
    types: dict[str, Any] = dict.fromkeys(header, pa.float32())
    types |= dict.fromkeys(_PLACE, pa.uint64()) | dict.fromkeys(_TEXT, pa.string())
    table = pyarrow.csv.read_csv(
        path,
        parse_options=pyarrow.csv.ParseOptions(delimiter="\t", quote_char=False),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=types, strings_can_be_null=False, null_values=[]
        ),
    )
    columns = {name: table.column(name) for name in table.column_names}
    matrices = {}
    for name, prefix in (("latent", "z"), ("logvar", "logvar")):
        pattern = re.compile(rf"{prefix}\d+")
        parts = [column for key, column in columns.items() if pattern.fullmatch(key)]
        if parts:
            matrices[name] = np.stack([part.to_numpy() for part in parts], axis=1)
    return _assemble(path, columns, matrices, {})


def _npz(path: Path) -> Latents:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        facts = json.loads(str(archive["kvae"]))
        columns = {name: pa.chunked_array([archive[name]]) for name in (*_TEXT, *_PLACE)}
        matrices = {name: archive[name] for name in ("latent", "logvar") if name in archive}
    return _assemble(path, columns, matrices, facts)


def _h5ad(path: Path) -> Latents:
    h5py = require("h5py", "anndata", "an .h5ad file")
    with h5py.File(path, "r") as file:
        if LATENT_KEY not in file:
            raise KvaeError(
                f"{path}: is not a file of latents (no {LATENT_KEY}): make one with kvae encode"
            )
        matrices = {"latent": file[LATENT_KEY][:]}
        if LOGVAR_KEY in file:
            matrices["logvar"] = file[LOGVAR_KEY][:]
        found = read_frame(file["obs"])
        facts = read_facts(file["uns/kvae"]) if "uns/kvae" in file else {}
    columns = {name: pa.chunked_array([found[name]]) for name in (*_TEXT, *_PLACE)}
    return _assemble(path, columns, matrices, facts)


def _from_table(path: Path, table: pa.Table) -> Latents:
    """Take the columns by their names; files that other tools have rewritten will do."""
    missing = {*_TEXT, *_PLACE, "latent"} - {*table.column_names}
    if missing:
        raise KvaeError(
            f"{path}: is not a file of latents (no column {min(missing)}): make one with"
            " kvae encode"
        )
    if table.num_rows == 0:
        raise _empty(path)
    text = (table.schema.metadata or {}).get(b"kvae")
    columns = {name: table.column(name) for name in (*_TEXT, *_PLACE)}
    matrices = {
        name: _matrix(table.column(name))
        for name in ("latent", "logvar")
        if name in table.column_names
    }
    return _assemble(path, columns, matrices, {} if text is None else json.loads(text))


def _matrix(column: Any) -> NDArray[np.float32]:
    """Gather lists of one length into one matrix, the only copy there is."""
    widths = pc.unique(pc.list_value_length(column)).to_pylist()
    if len(column) and (len(widths) != 1 or widths[0] is None):
        raise ValueError("vectors of different lengths")
    width = widths[0] if widths else 0
    out = np.empty((len(column), width), np.float32)
    row = 0
    for chunk in column.chunks:
        values = chunk.flatten()
        if values.null_count:
            raise ValueError("vectors with gaps")
        out[row : row + len(chunk)] = values.to_numpy().reshape(-1, width)
        row += len(chunk)
    return out


def _assemble(
    path: Path,
    columns: Mapping[str, Any],
    matrices: Mapping[str, NDArray[Any]],
    facts: Mapping[str, Any],
) -> Latents:
    n_rows = len(matrices["latent"])
    lengths = [*map(len, matrices.values()), *(len(columns[name]) for name in (*_TEXT, *_PLACE))]
    if set(lengths) != {n_rows} or any(columns[name].null_count for name in (*_TEXT, *_PLACE)):
        raise KvaeError(f"{path}: has columns of different lengths, or gaps: encode again")
    start, end, length = (columns[name].to_numpy().astype(np.uint64) for name in _PLACE)
    names, codes = _sources(columns["source"])
    logvar = matrices.get("logvar")
    return Latents(
        path,
        pc.cast(columns["id"], pa.string()),
        names,
        codes,
        start,
        end,
        length,
        np.ascontiguousarray(matrices["latent"], dtype=np.float32),
        None if logvar is None else np.ascontiguousarray(logvar, dtype=np.float32),
        {key: value for key, value in facts.items() if key != "format"},
    )


def _sources(column: Any) -> tuple[list[str], NDArray[np.int32]]:
    """Names of the sources and the code of every row; chunks may number them differently."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    whole = column.unify_dictionaries().combine_chunks()
    chunks = whole.chunks if isinstance(whole, pa.ChunkedArray) else [whole]
    codes = np.concatenate([chunk.indices.to_numpy() for chunk in chunks])
    return chunks[0].dictionary.to_pylist(), codes.astype(np.int32)


_READERS: dict[str, Callable[[Path], Latents]] = {
    ".arrow": _arrow,
    ".parquet": _parquet,
    ".npz": _npz,
    ".tsv": _table,
    ".tsv.gz": _table,
    ".h5ad": _h5ad,
}
