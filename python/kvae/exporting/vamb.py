"""The composition file of VAMB: 4-mer frequencies of records, projected."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kvae.atomic import atomic_output
from kvae.errors import KvaeError
from kvae.exporting.records import check_unique
from kvae.featurizing import count_kmers
from kvae.layout import kmers
from kvae.npz import NpzFile
from kvae.progress import Progress
from kvae.store import FeatureStore

__all__ = ["export_composition", "projection"]

_K = 4
_ROWS = 4096
_COMPLEMENT = str.maketrans("ACGT", "TGCA")
_SMALLEST = 1e-6


def projection() -> NDArray[np.float64]:
    """Map shares of canonical 4-mers to what is left of them, shape (136, 103).

    Of 256 frequencies of 4-mers only 103 numbers are free: they sum up to one, a 4-mer
    is as frequent as its reverse complement, and a 3-mer begins as many 4-mers as it
    ends, but for the ends of the sequence. VAMB keeps coordinates in that space. Its
    basis is one of many that are orthonormal; this one comes from the axes of the 4-mers
    in their order, so it is the same everywhere. The two differ by a rotation.
    """
    words = ["".join(letters) for letters in product("ACGT", repeat=_K)]
    place = {word: i for i, word in enumerate(words)}
    dependent = [np.ones(len(words))]
    for word in words:
        line = np.zeros(len(words))
        line[place[word]] += 1.0
        line[place[_reverse_complement(word)]] -= 1.0
        dependent.append(line)
    for word in ("".join(letters) for letters in product("ACGT", repeat=_K - 1)):
        line = np.zeros(len(words))
        for letter in "ACGT":
            line[place[word + letter]] += 1.0
            line[place[letter + word]] -= 1.0
        dependent.append(line)
    fixed = _orthonormal(np.array(dependent), np.empty((0, len(words))))
    free = _orthonormal(np.eye(len(words)), fixed)
    canonical = kmers(_K)
    expand = np.zeros((len(canonical), len(words)))
    for i, word in enumerate(canonical):
        expand[i, place[word]] += 0.5
        expand[i, place[_reverse_complement(word)]] += 0.5
    return expand @ free.T


def _reverse_complement(word: str) -> str:
    return word.translate(_COMPLEMENT)[::-1]


def _orthonormal(vectors: NDArray[np.float64], basis: NDArray[np.float64]) -> NDArray[np.float64]:
    """Make orthonormal vectors of what the given ones add to a basis, one by one."""
    found: list[NDArray[np.float64]] = []
    for vector in vectors:
        rest = vector
        # Twice, since once leaves rounding behind.
        for _ in range(2):
            for other in (basis, np.array(found).reshape(-1, vectors.shape[1])):
                rest = rest - (other @ rest) @ other
        length = float(np.linalg.norm(rest))
        if length > _SMALLEST:
            found.append(rest / length)
    return np.array(found)


@dataclass
class _Records:
    """Counts of 4-mers of the records so far; the last one may go on."""

    names: list[str] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    counts: list[NDArray[np.int64]] = field(default_factory=list)
    source: int = -1
    tail: bytes = b""

    def add(
        self,
        name: str,
        source: int,
        start: int,
        end: int,
        counts: NDArray[np.int64],
        letters: bytes,
    ) -> bytes:
        """Add a window; the letters around the border to the last one, if they touch."""
        border = b""
        goes_on = bool(self.names) and name == self.names[-1] and source == self.source
        if goes_on and start >= self.ends[-1]:
            if start == self.ends[-1]:
                border = self.tail + letters[: _K - 1]
            self.counts[-1] = self.counts[-1] + counts
            self.ends[-1] = end
        else:
            self.names.append(name)
            self.ends.append(end)
            self.counts.append(counts)
        self.source = source
        self.tail = letters[-(_K - 1) :]
        return border


def export_composition(
    store: FeatureStore, output: Path, *, force: bool, progress: Progress
) -> tuple[int, int]:
    """Write a composition, see `kvae.export`; the number of records and columns.

    4-mers across the border of two windows are counted where the file keeps sequences.

    Raises
    ------
    KvaeError
        Where there are no 4-mers, or two records have one name.
    """
    if _K not in store.layout.ks:
        raise KvaeError(f"{store.path}: has no 4-mers, of which VAMB's composition is made")
    records = _read(store, progress)
    check_unique(store.path, records.names)
    counts = np.array(records.counts, dtype=np.float64)
    matrix = counts / counts.sum(axis=1, keepdims=True) @ projection()
    lengths = np.array(records.ends, dtype=np.int64)
    if lengths.max() < 2**31:
        lengths = lengths.astype(np.int32)
    least = int(store.metadata.get("min_length", 0))
    with (
        atomic_output(output, force=force) as temporary,
        NpzFile(temporary, compressed=True) as npz,
    ):
        npz.put("matrix", matrix.astype(np.float32))
        # VAMB takes an array of Python strings and no other, and unpickles it.
        npz.put_objects("identifiers", np.array(records.names, dtype=object))
        npz.put("lengths", lengths)
        npz.put("mask", np.ones(len(lengths), dtype=bool))
        npz.put("minlength", np.array(min(least, int(lengths.min()))))
    return matrix.shape[0], matrix.shape[1]


def _read(store: FeatureStore, progress: Progress) -> _Records:
    records = _Records()
    progress.begin("exporting", len(store))
    for at in range(0, len(store), _ROWS):
        rows = np.arange(at, min(at + _ROWS, len(store)), dtype=np.int64)
        counts = store.counts(rows, _K).astype(np.int64)
        letters = store.sequences(rows) if store.has_sequences else [b""] * len(rows)
        place = [
            store.column(name).slice(at, len(rows)).to_pylist() for name in ("id", "start", "end")
        ]
        borders, of_record = [], []
        for i, (name, start, end) in enumerate(zip(*place, strict=True)):
            source = int(store.source_codes[at + i])
            border = records.add(name, source, start, end, counts[i], letters[i])
            if len(border) >= _K:
                borders.append(border)
                of_record.append(len(records.names) - 1)
        if borders:
            for record, more in zip(of_record, count_kmers(borders, _K), strict=True):
                records.counts[record] = records.counts[record] + more
        progress.advance(len(rows))
    return records
