"""Feature files, memory-mapped."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kvae import _core
from kvae.dividing import FewShardsError
from kvae.errors import KvaeError
from kvae.gathering import GATHERERS, Gatherer, PackedGatherer
from kvae.mapped_file import MappedFile, allow_open_files, check_readable
from kvae.progress import Progress
from kvae.remote import local_files, told_of
from kvae.remote.uris import as_path
from kvae.shards import Shard, ShardSet, check_files, find_manifests, has_shards
from kvae.stored_rows import matrix, sequences

__all__ = ["FeatureStore"]


class FeatureStore:
    """A feature file, or all shards of one, opened without reading it.

    The file is mapped into memory: opening takes the same time whatever its
    size, and rows are read from the disk when they are first used. Views that
    were handed out keep the file mapped.

    Parameters
    ----------
    path
        A file that `kvae.featurize` wrote; or the folder of all its shards, or their
        files, which together are read as the file that `kvae.merge` makes of them. Each
        may be a URI, such as ``s3://bucket/feats.arrow``.
    name
        What messages call it, and what its `path` says; the path where omitted.
    threads
        To gather rows with; all CPUs that this process may use, by default.
    verify
        Hold what is read against the checksums in the file, each part of it once.
        Files that kvae wrote before it wrote checksums are read as they are.
    cache
        Folder for copies of remote files, which are fetched once, before anything is
        read; see `kvae.remote.caching.cache_folder` for the one that is used otherwise.
    progress
        Told what is fetched.
    part
        Which of how many parts of the shards to open, like (1, 4), and to fetch of remote
        ones: the parts follow each other, and have about as many rows each. Rows are counted
        from the first of this part; sources are those of all.

    Attributes
    ----------
    path
        What messages call it.
    files
        What is read, the shards of a set one by one.
    metadata, layout
        What the file says of itself, and of its fields.
    starts
        Of every part the first row among the rows of all, and their number; None where all
        shards are open.

    Raises
    ------
    KvaeError
        If it is no such file, or damaged, or a shard is missing or of another set.
    FewShardsError
        If there are fewer shards with rows than parts.

    Examples
    --------
    >>> store = FeatureStore("feats.arrow")  # doctest: +SKIP
    >>> store.batch(0).shape  # doctest: +SKIP
    (512, 8362)
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        name: str | os.PathLike[str] | None = None,
        threads: int | None = None,
        verify: bool = True,
        cache: str | os.PathLike[str] | None = None,
        progress: Progress | None = None,
        part: tuple[int, int] | None = None,
    ) -> None:
        given = [path] if isinstance(path, str | os.PathLike) else list(path)
        self.path = as_path(name if name is not None else given[0] if given else "")
        self._shards: ShardSet | None = None
        self.starts: tuple[int, ...] | None = None

        def choose(manifests: Sequence[Path]) -> list[Path]:
            if len(manifests) == 1 and manifests[0].suffix == ".json":
                raise FewShardsError(f"{self.path}: is one shard")
            chosen = find_manifests(manifests).part(*part or (1, 1))
            return [shard.path for shard in chosen.shards]

        chooser = None if part is None else choose
        paths, self._copies = local_files(given, cache=cache, progress=progress, choose=chooser)
        origins = self._copies
        filled: list[Shard] = []
        if len(paths) != 1 or paths[0].suffix == ".json" or has_shards(paths[0]):
            with told_of(origins):
                self._shards = find_manifests(paths)
                shards = self._shards.shards
                if part is not None:
                    own = self._shards.part(*part)
                    shards, self.starts = own.shards, own.starts
                check_files(shards, verify=verify)
            filled = [shard for shard in shards if shard.rows]
            paths = [shard.path for shard in filled]
            allow_open_files(len(paths))
        elif part is not None:
            raise FewShardsError(f"{self.path}: is no set of shards")
        # Position of the first input of every file among all inputs.
        self._firsts = [shard.first_input for shard in filled]
        names = (
            [self.path]
            if self._shards is None
            else [origins.get(str(path.parent), path.parent) / path.name for path in paths]
        )
        self.files = tuple(names)
        if not paths:
            raise self._error("has no rows: featurize again")
        for one, called in zip(paths, names, strict=True):
            check_readable(one, called)
        # Opened now: the path may lead to another file later.
        with told_of(origins):
            self._file = _core.RowFile(paths, threads, verify)
        self._members = [MappedFile(*both) for both in zip(paths, names, strict=True)]
        first = self._members[0]
        self._schema, self.metadata, self.layout = first.schema, first.metadata, first.layout
        # Of every batch: the batch, its file, its number there, what addresses count from.
        self._batches = [batch for member in self._members for batch in member.batches]
        places = [(i, j) for i, file in enumerate(self._members) for j in range(len(file.batches))]
        self._places = places
        begins = [
            file.address - base for file, base in zip(self._members, self._file.bases, strict=True)
        ]
        self._origins = [begins[i] for i, _ in places]
        self._verifies = any(digest is not None for digest in self._file.digests)
        self._is_valid = [False] * len(self._batches)
        self._starts = np.cumsum([0, *(batch.num_rows for batch in self._batches)])
        if len(self) == 0:
            raise self._error("has no rows: featurize again")

    def _error(self, message: str) -> KvaeError:
        return KvaeError(f"{self.path}: {message}")

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Name the file where what is wrong with its rows is found without knowing it."""
        try:
            with told_of(self._copies):
                yield
        except KvaeError as error:
            if any(str(member.name) in str(error) for member in self._members):
                raise
            raise self._error(f"is damaged ({error}): featurize again") from error

    def _batch(self, i: int) -> Any:
        """Get a record batch; the first time, make sure that nothing in it points outside.

        Its large columns are verified by whoever reads them.
        """
        batch = self._batches[i]
        if not self._is_valid[i]:
            try:
                with told_of(self._copies):
                    self._file.verify_message(*self._places[i])
                batch.validate()
                # The contents of all columns but the large ones, which hold
                # nothing that could point anywhere.
                small = [
                    name
                    for name, column in zip(batch.schema.names, batch.columns, strict=True)
                    if not pa.types.is_fixed_size_list(column.type)
                ]
                for name in small:
                    self._verify(i, name, 2 if name == "sequence" else None)
                batch.select(small).validate(full=True)
            except pa.ArrowInvalid as error:
                detail = str(error).splitlines()[0]
                path = self._members[self._places[i][0]].name
                raise KvaeError(f"{path}: is damaged ({detail}): featurize again") from error
            self._is_valid[i] = True
        return batch

    def _verify(self, i: int, name: str, n_buffers: int | None = None) -> None:
        """Hold buffers of a batch's column against the file's checksums."""
        if not self._verifies:
            return
        for buffer in self._batches[i].column(name).buffers()[:n_buffers]:
            if buffer is not None and buffer.size:
                with told_of(self._copies):
                    self._file.verify(buffer.address - self._origins[i], buffer.size)

    def _large(self, i: int, *names: str) -> Any:
        """Get a record batch some of whose large columns will be read."""
        batch = self._batch(i)
        for name in names:
            self._verify(i, name)
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
        return matrix(self._large(i, "features"), "features")

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
        with self._named():
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
        return PackedGatherer(self._file, self.layout, batches, self._origins)

    @cached_property
    def _gatherer(self) -> Gatherer:
        """What reads rows: made when it is first needed, for it looks at all batches."""
        batches = [self._batch(i) for i in range(self.n_batches)]
        return GATHERERS[self.kind](self._file, self.layout, batches, self._origins)

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
        stored = self._members[0].stored
        names = stored.reads(k, has_sequences=self.has_sequences)
        for batch, here, positions in self._locate(indices, names):
            with self._named():
                out[here] = stored.counts(batch, positions, k)
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
        for batch, here, positions in self._locate(indices, ["sequence"]):
            with self._named():
                unpacked = sequences(batch, positions)
            for i, letters in zip(here.tolist(), unpacked, strict=True):
                found[i] = letters
        return found

    def _locate(
        self, indices: NDArray[np.int64], names: Sequence[str]
    ) -> Iterator[tuple[Any, NDArray[np.int64], NDArray[np.int64]]]:
        """Give each batch, which of `indices` it holds, and where it holds them.

        The named columns of the batch will be read.
        """
        indices = self._checked(indices)
        batches = np.searchsorted(self._starts, indices, side="right") - 1
        for batch in np.unique(batches):
            here = np.flatnonzero(batches == batch)
            yield self._large(int(batch), *names), here, indices[here] - self._starts[batch]

    def column(self, name: str) -> pa.ChunkedArray:
        """Get any column of the file, as Arrow, without a copy.

        Raises
        ------
        KeyError
            If the file has no such column.
        """
        if name not in self._schema.names:
            raise KeyError(name)
        columns = [self._large(i, name).column(name) for i in range(self.n_batches)]
        if name == "source" and self._shards is not None:
            # The inputs of one shard are numbered on from those before it.
            names = pa.array(self.source_names, pa.string())
            columns = [
                pa.DictionaryArray.from_arrays(pc.add(column.indices, pa.scalar(first)), names)
                for column, first in zip(columns, self._first_sources(), strict=True)
            ]
        return pa.chunked_array(columns, type=self._schema.field(name).type)

    def _first_sources(self) -> list[pa.Int32Scalar]:
        """Give the position of the first source of every batch's file."""
        if self._shards is None:
            return [pa.scalar(0, pa.int32())] * self.n_batches
        firsts = [pa.scalar(first, pa.int32()) for first in self._firsts]
        return [firsts[i] for i, _ in self._places]

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
        if self._shards is not None:
            return self._shards.source_names
        names: list[str] = self._batch(0).column("source").dictionary.to_pylist()
        return names
