"""The sequences of every cluster, a FASTA file each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kvae.atomic import atomic_folder
from kvae.clustering.contigs import Contigs
from kvae.clustering.writing import cluster_name
from kvae.errors import KvaeError
from kvae.progress import Progress
from kvae.records import read_records

__all__ = ["check_bins", "write_bins"]

_LINE = 80
# Text of bins held before it is written: files are opened anew for every piece, since
# there may be more bins than a process may have files open.
_HELD = 64_000_000


def check_bins(folder: str | Path, *, force: bool = False) -> Path:
    """Make sure that bins may be written to a folder, before any work is done.

    Raises
    ------
    KvaeError
        If the folder around it is missing, or it is there already: with `force` only
        a folder of nothing but FASTA files is replaced.
    """
    path = Path(folder)
    if not path.parent.is_dir():
        raise KvaeError(f"{path}: the folder {path.parent} does not exist: create it first")
    if not path.exists():
        return path
    if not path.is_dir():
        raise KvaeError(f"{path}: is not a folder: name another one with --bins")
    if any(path.iterdir()) and not force:
        raise KvaeError(f"{path}: exists already: give --force to replace it, or another --bins")
    if any(child.suffix != ".fna" or not child.is_file() for child in path.iterdir()):
        raise KvaeError(f"{path}: holds something else than bins: name another one with --bins")
    return path


def write_bins(
    contigs: Contigs,
    codes: NDArray[np.int64],
    folder: str | Path,
    *,
    sequences: str | Path | None = None,
    min_bases: int = 0,
    force: bool = False,
    progress: Progress | None = None,
) -> int:
    """Write the contigs of every cluster to ``CLUSTER.fna``.

    Headers are kept whole, behind the contig's name in the table of clusters where
    records of several files share theirs; sequences keep their letters, 80 in a line.

    Parameters
    ----------
    contigs, codes
        Contigs, and the cluster of each of them, -1 for none.
    folder
        Where to write; it appears when all bins are whole.
    sequences
        Folder to look for the source files in, or the file itself where there is one.
    min_bases
        Clusters with fewer bases get no file.
    force
        Replace a folder of bins.
    progress
        Told how many contigs are written.

    Returns
    -------
    int
        Number of bins.

    Raises
    ------
    KvaeError
        If a source file or a contig in it is missing, or the folder may not be
        written to.
    """
    target = check_bins(folder, force=force)
    inside = codes >= 0
    bases = np.bincount(codes[inside], weights=contigs.lengths[inside])
    chosen = inside.copy()
    chosen[inside] = (bases >= min_bases)[codes[inside]]
    wanted: dict[int, dict[str, tuple[str, int]]] = defaultdict(dict)
    names = contigs.names()
    for i in np.flatnonzero(chosen).tolist():
        wanted[int(contigs.source_codes[i])][contigs.ids[i]] = names[i], int(codes[i])
    paths = {code: _find(contigs.source_names[code], sequences) for code in sorted(wanted)}
    progress = progress or Progress()
    progress.begin("contigs into bins", int(chosen.sum()))
    with atomic_folder(target) as temporary:
        writer = _Bins(temporary)
        for code, path in paths.items():
            _copy(path, wanted[code], writer, progress)
        writer.flush()
    return int((bases >= min_bases).sum())


def _find(source: str, sequences: str | Path | None) -> Path:
    """Path of a source file now."""
    if sequences is None:
        candidates = [Path(source)]
    elif Path(sequences).is_dir():
        candidates = [Path(sequences, source), Path(sequences, Path(source).name)]
    else:
        candidates = [Path(sequences)]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise KvaeError(
        f"{candidates[-1]}: no such file, and the sequences of bins are read from it: say where"
        " it is with --sequences"
    )


def _copy(
    path: Path, wanted: Mapping[str, tuple[str, int]], writer: _Bins, progress: Progress
) -> None:
    missing = set(wanted)
    for record in read_records(path):
        if record.id not in wanted:
            continue
        name, code = wanted[record.id]
        header = record.header if name == record.id else f"{name} {record.header}"
        writer.add(code, header, record.sequence)
        if record.id in missing:
            missing.remove(record.id)
            progress.advance(1)
    if missing:
        raise KvaeError(
            f"{path}: has no record {min(missing)}, which the latents are of: say where the"
            " sequences are with --sequences"
        )


class _Bins:
    """Collects the text of bins, and appends it to their files in large pieces."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._texts: dict[int, list[str]] = defaultdict(list)
        self._held = 0

    def add(self, code: int, header: str, sequence: str) -> None:
        lines = (sequence[i : i + _LINE] for i in range(0, len(sequence), _LINE))
        text = "\n".join((f">{header}", *lines, ""))
        self._texts[code].append(text)
        self._held += len(text)
        if self._held >= _HELD:
            self.flush()

    def flush(self) -> None:
        for code, texts in self._texts.items():
            path = self._folder / f"{cluster_name(code)}.fna"
            with path.open("a", encoding="utf-8", newline="\n") as file:
                file.writelines(texts)
        self._texts.clear()
        self._held = 0
