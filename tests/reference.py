"""What rows of features are, once more, in plain Python.

Written from the definitions and sharing no table with the package: sequences
are strings, k-mers are slices of them, and logarithms are double precision.
Slow, and meant to be.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

PSEUDOCOUNT = 1e-6
DEFAULT_KS = (7, 4, 3)
LEADING_KS = (7, 4, 3)
COMPLEMENT = {"A": "T", "C": "G", "G": "C", "T": "A"}


def normalize(sequence: str) -> str:
    """Upper-case bases, T for U, and N for every other letter."""
    upper = sequence.upper().replace("U", "T")
    return "".join(letter if letter in COMPLEMENT else "N" for letter in upper)


def reverse_complement(sequence: str) -> str:
    """Read the other strand; letters that are no bases stay what they are."""
    return "".join(COMPLEMENT.get(letter, letter) for letter in reversed(sequence))


@cache
def canonical(kmer: str) -> str:
    return min(kmer, reverse_complement(kmer))


@cache
def columns(k: int) -> tuple[str, ...]:
    """Canonical k-mers in lexicographic order."""
    every = map("".join, product("ACGT", repeat=k))
    return tuple(kmer for kmer in every if kmer == canonical(kmer))


def count(sequence: str, k: int) -> Counter[str]:
    """Canonical k-mers of the windows that hold bases only."""
    bases = normalize(sequence)
    windows = Counter(bases[i : i + k] for i in range(len(bases) - k + 1))
    counts: Counter[str] = Counter()
    for window, n in windows.items():
        if "N" not in window:
            counts[canonical(window)] += n
    return counts


def count_all(sequence: str, k: int) -> list[int]:
    """The counts of every column of a block."""
    counts = count(sequence, k)
    return [counts[kmer] for kmer in columns(k)]


def valid_windows(sequence: str, k: int) -> int:
    """Places where k bases stand in a row."""
    runs = normalize(sequence).split("N")
    return sum(max(len(run) - k + 1, 0) for run in runs)


def gc(sequence: str) -> float:
    counts = Counter(normalize(sequence))
    bases = sum(counts[base] for base in "ACGT")
    return (counts["G"] + counts["C"]) / bases if bases else 0.0


def order_ks(ks: Iterable[int]) -> tuple[list[int], list[int]]:
    """The k of the blocks before GC and of those after it."""
    chosen = set(ks)
    return [k for k in LEADING_KS if k in chosen], sorted(chosen - set(LEADING_KS))


def block(sequence: str, k: int) -> list[float]:
    counts = count(sequence, k)
    total = sum(counts.values())
    return [math.log((counts[kmer] / total if total else 0.0) + PSEUDOCOUNT) for kmer in columns(k)]


def row(sequence: str, ks: Iterable[int] = DEFAULT_KS) -> list[float]:
    """The fields of a row."""
    before, after = order_ks(ks)
    fields = [math.log(len(sequence))]
    for k in before:
        fields += block(sequence, k)
    fields.append(math.log(gc(sequence) + PSEUDOCOUNT))
    for k in after:
        fields += block(sequence, k)
    return fields


def windows(length: int, window: int = 5000) -> list[tuple[int, int]]:
    """Consecutive windows, the remainder joined to the last one."""
    if window == 0 or length < 2 * window:
        return [(0, length)]
    starts = range(0, length - window + 1, window)
    ends = [*starts[1:], length]
    return list(zip(starts, ends, strict=True))


def pack(sequence: str) -> bytes:
    """Two bits a base, the first in the lowest bits, other letters as A."""
    codes = ["ACGT".index(base.replace("N", "A")) for base in normalize(sequence)]
    fours = [codes[i : i + 4] for i in range(0, len(codes), 4)]
    return bytes(sum(code << (2 * i) for i, code in enumerate(four)) for four in fours)


def unpack(packed: bytes, invalid: Iterable[tuple[int, int]], length: int) -> str:
    """The inverse of `pack`, with N for other letters."""
    letters = ["ACGT"[packed[i // 4] >> (2 * (i % 4)) & 3] for i in range(length)]
    for start, n in invalid:
        letters[start : start + n] = "N" * n
    return "".join(letters)


def invalid(sequence: str) -> list[tuple[int, int]]:
    """Start and length of the runs of letters that are no bases."""
    runs: list[tuple[int, int]] = []
    for i, letter in enumerate(normalize(sequence)):
        if letter != "N":
            continue
        if runs and sum(runs[-1]) == i:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((i, 1))
    return runs


def parse_fasta(text: str) -> list[tuple[str, str]]:
    """Names and sequences of FASTA that has nothing odd about it."""
    records = []
    for record in text.split(">")[1:]:
        header, *lines = record.split("\n")
        records.append((header.split()[0], "".join(lines)))
    return records


@dataclass(frozen=True)
class Row:
    """A row and the letters it is made of."""

    id: str
    start: int
    end: int
    sequence: str


@dataclass
class Cut:
    """What becomes of the records of a file."""

    rows: list[Row]
    too_short: int = 0
    without_kmer: int = 0


def cut(
    records: Iterable[tuple[str, str]], window: int = 5000, min_length: int = 1000, k: int = 7
) -> Cut:
    """Cut records into rows; rows without a valid window of k bases are left out."""
    result = Cut([])
    for name, sequence in records:
        if len(sequence) < min_length:
            result.too_short += 1
            continue
        for start, end in windows(len(sequence), window):
            piece = sequence[start:end]
            if valid_windows(piece, k):
                result.rows.append(Row(name, start, end, piece))
            else:
                result.without_kmer += 1
    return result


def allowed_error(value: float) -> float:
    """Two units in the last place of a float32, or 2e-7 near zero."""
    if value == 0.0:
        return 2e-7
    # A float32 has 24 significant bits.
    unit = math.ldexp(1.0, math.frexp(value)[1] - 24)
    return max(2 * unit, 2e-7)


def wrong_fields(fields: Sequence[float], expected: Sequence[float]) -> Iterator[str]:
    """Describe the fields that are farther off than a row may be."""
    for i, (value, wanted) in enumerate(zip(fields, expected, strict=True)):
        if not abs(value - wanted) <= allowed_error(wanted):
            yield f"field {i} is {value} instead of {wanted}"
