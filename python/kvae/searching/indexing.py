"""An index of latents: a folder that is mapped into memory and searched.

``vectors.usearch`` holds the vectors and their links, ``rows.arrow`` what every row is
of, and ``index.json`` what both are from, with the size of each of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kvae import _core
from kvae.atomic import atomic_folder
from kvae.errors import KvaeError, refused
from kvae.latents import Latents, latent_schema, read_latents
from kvae.nearest import GraphIndex, Neighbours, nearest_of_all, unit_rows
from kvae.progress import Progress

__all__ = ["LatentIndex", "Reference", "WholeFile", "index", "open_reference", "rows_of"]

INDEX_FORMAT = "kvae-index-1"
_VECTORS, _ROWS, _FACTS = "vectors.usearch", "rows.arrow", "index.json"
_BATCH = 65_536


class Reference(Protocol):
    """Latents that can be searched."""

    path: Path
    rows: pa.Table
    facts: Mapping[str, Any]

    @property
    def n_latent(self) -> int:
        """Numbers per vector."""
        ...

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Vectors of some rows, of length 1."""
        ...

    def nearest(
        self, queries: NDArray[np.float32], n: int, progress: Progress | None = None
    ) -> Neighbours:
        """Rows and cosines of the nearest n of each query of length 1."""
        ...


class WholeFile:
    """All latents of a file, of which every one is compared with every query."""

    def __init__(self, latents: Latents) -> None:
        self.path = latents.path
        self.rows = rows_of(latents)
        self.facts = latents.facts
        self._unit = unit_rows(latents.vectors).astype(np.float32)

    @property
    def n_latent(self) -> int:
        """Numbers per vector."""
        return int(self._unit.shape[1])

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Vectors of some rows, of length 1."""
        found: NDArray[np.float32] = self._unit[rows]
        return found

    def nearest(
        self, queries: NDArray[np.float32], n: int, progress: Progress | None = None
    ) -> Neighbours:
        """Rows and cosines of the nearest n of each query of length 1."""
        return nearest_of_all(self._unit, queries, n, progress)


class LatentIndex:
    """An index that `kvae.index` wrote, mapped into memory.

    Parameters
    ----------
    path
        Its folder.
    threads
        To search with; all that are available where omitted.
    verify
        Hold the files against their checksums first, for which they are read once. Links of a
        damaged file lead anywhere.

    Raises
    ------
    KvaeError
        For a folder that holds no index, or a damaged one.
    """

    def __init__(
        self, path: str | Path, threads: int | None = None, *, verify: bool = True
    ) -> None:
        self.path = Path(path)
        self.files: tuple[Path, ...] = tuple(self.path / name for name in (_FACTS, _VECTORS, _ROWS))
        facts = self._read_facts()
        # Indexes of the first versions have none.
        sums = facts.get("checksums", {}) if verify else {}
        for name in (_VECTORS, _ROWS):
            if self._size(name) != facts["sizes"].get(name):
                raise KvaeError(f"{self.path / name}: is not whole: build the index again")
        try:
            for name in sums.keys() & {_VECTORS, _ROWS}:
                if _core.sum_of_file(self.path / name) != sums[name]:
                    raise KvaeError(f"{self.path / name}: is damaged: build the index again")
            self._graph = GraphIndex.open(self.path / _VECTORS, facts["latent"], threads)
            with pa.memory_map(str(self.path / _ROWS)) as source:
                self.rows = pa.ipc.open_file(source).read_all()
            self.rows.validate(full=True)
        except (pa.ArrowException, OSError, RuntimeError, ValueError) as error:
            if reason := refused(error):
                raise KvaeError(f"{self.path}: {reason}") from error
            raise KvaeError(f"{self.path}: is damaged: build the index again") from error
        if not len(self._graph) == len(self.rows) == facts["rows"]:
            raise KvaeError(f"{self.path}: holds parts of two indexes: build the index again")
        self.facts: Mapping[str, Any] = facts["facts"]

    def _read_facts(self) -> dict[str, Any]:
        path = self.path / _FACTS
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise KvaeError(
                f"{self.path}: is neither a latent file nor an index: make one with kvae index"
            ) from error
        except ValueError as error:
            raise KvaeError(f"{path}: is damaged: build the index again") from error
        types = {"format": str, "rows": int, "latent": int, "sizes": dict, "facts": dict}
        if (
            not isinstance(facts, dict)
            or any(not isinstance(facts.get(name), type_) for name, type_ in types.items())
            or not isinstance(facts.get("checksums", {}), dict)
        ):
            raise KvaeError(f"{path}: is damaged: build the index again")
        if facts["format"] != INDEX_FORMAT:
            raise KvaeError(
                f"{path}: is of format {facts['format']}, and this kvae reads {INDEX_FORMAT}:"
                " build the index again"
            )
        return facts

    def _size(self, name: str) -> int | None:
        path = self.path / name
        return path.stat().st_size if path.is_file() else None

    @property
    def n_latent(self) -> int:
        """Numbers per vector."""
        return self._graph.n_latent

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Vectors of some rows, of length 1, as the index keeps them: in half precision."""
        return self._graph.vectors(rows)

    def nearest(
        self, queries: NDArray[np.float32], n: int, progress: Progress | None = None
    ) -> Neighbours:
        """Rows and cosines of the nearest n of each query of length 1, nearly all of them."""
        return self._graph.nearest(queries, n, progress)


def index(
    latents: str | Path | Latents,
    output: str | Path,
    *,
    threads: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> LatentIndex:
    """Build an index of latents, to search many times or in many rows.

    Parameters
    ----------
    latents
        A file of `kvae.encode`, or what `kvae.latents.read_latents` made of one.
    output
        Folder to write; it appears when it is whole.
    threads
        CPU threads, all that are available where omitted. With one the same latents
        give the same index.
    force
        Replace an index.
    progress
        Told how many rows are linked.

    Returns
    -------
    LatentIndex
        Takes about 300 bytes a row, on disk.

    Raises
    ------
    KvaeError
        For a file that holds no latents, and an output that may not be written.
    """
    target = Path(output)
    _check_folder(target, force=force)
    if isinstance(latents, str | Path):
        latents = read_latents(latents)
    unit = unit_rows(latents.vectors).astype(np.float32)
    graph = GraphIndex.build(unit, threads, progress)
    with atomic_folder(target) as temporary:
        graph.save(temporary / _VECTORS)
        table = rows_of(latents)
        with pa.OSFile(str(temporary / _ROWS), "wb") as sink:  # noqa: SIM117 - closed in turn
            with pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table, max_chunksize=_BATCH)
        facts = {
            "format": INDEX_FORMAT,
            "rows": len(latents),
            "latent": latents.n_latent,
            "sizes": {name: (temporary / name).stat().st_size for name in (_VECTORS, _ROWS)},
            "checksums": {name: _core.sum_of_file(temporary / name) for name in (_VECTORS, _ROWS)},
            "facts": dict(latents.facts),
        }
        text = json.dumps(facts, indent=2, ensure_ascii=False)
        (temporary / _FACTS).write_text(text + "\n", encoding="utf-8", newline="\n")
    # Its sums have just been taken.
    return LatentIndex(target, threads, verify=False)


def _check_folder(path: Path, *, force: bool) -> None:
    """Refuse a place that holds something; with `force`, something else than an index."""
    if not path.parent.is_dir():
        raise KvaeError(f"{path}: the folder {path.parent} does not exist: create it first")
    if not path.exists():
        return
    if not path.is_dir():
        raise KvaeError(f"{path}: is not a folder: name another one with -o")
    content: Sequence[str] = [child.name for child in path.iterdir()]
    if content and not set(content) <= {_VECTORS, _ROWS, _FACTS}:
        raise KvaeError(f"{path}: holds something else than an index: name another one with -o")
    if content and not force:
        raise KvaeError(f"{path}: exists already: give --force to replace it, or another -o")


def open_reference(path: str | Path | Latents, threads: int | None = None) -> Reference:
    """Open what is searched: a latent file, or the folder of an index."""
    if isinstance(path, Latents):
        return WholeFile(path)
    if Path(path).is_dir():
        return LatentIndex(path, threads)
    return WholeFile(read_latents(path))


def rows_of(latents: Latents) -> pa.Table:
    """Tell what every row is of, without its vector."""
    schema = latent_schema(latents.n_latent, {}, with_logvar=False).remove_metadata()
    schema = schema.remove(schema.get_field_index("latent"))
    source = pa.DictionaryArray.from_arrays(
        pa.array(latents.source_codes), pa.array(latents.source_names, pa.string())
    )
    place = [pa.array(column) for column in (latents.start, latents.end, latents.length)]
    return pa.table([latents.ids, source, *place], schema=schema)
