"""Which genomes are of the same species, by their names and by the k-mers they share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

K = 21
# One hash in so many is kept; a piece of 200 kb keeps 2,000.
SCALE = 100
SAME_SPECIES = 0.95

_CODES = np.full(256, 255, np.uint8)
for _letters in (b"ACGT", b"acgt"):
    _CODES[list(_letters)] = np.arange(4)


def sketch(sequences: list[bytes]) -> NDArray[np.uint64]:
    """Hashes of a hundredth of all canonical 21-mers, ascending, each once."""
    found = [np.empty(0, np.uint64)]
    for sequence in sequences:
        codes = _CODES[np.frombuffer(sequence, np.uint8)]
        n = len(codes) - K + 1
        if n < 1:
            continue
        is_gap = codes == 255
        codes = np.where(is_gap, 0, codes).astype(np.uint64)
        forward, reverse = np.zeros(n, np.uint64), np.zeros(n, np.uint64)
        for i in range(K):
            forward = (forward << np.uint64(2)) | codes[i : i + n]
            reverse |= (np.uint64(3) - codes[i : i + n]) << np.uint64(2 * i)
        gaps = np.concatenate([[0], np.cumsum(is_gap)])
        words = np.minimum(forward, reverse)[gaps[K:] == gaps[:-K]]
        found.append(_kept(words))
    return np.unique(np.concatenate(found))


def _kept(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scramble integers and keep those that fall into the first hundredth."""
    with np.errstate(over="ignore"):
        for factor in (0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93):
            words = words * np.uint64(factor)
            words ^= words >> np.uint64(32)
    return words[words < np.uint64(2**64 // SCALE)]


def identity(piece: NDArray[np.uint64], genome: NDArray[np.uint64]) -> float:
    """Nucleotide identity of a piece to a genome, by the share of its k-mers found there."""
    if len(piece) == 0:
        return 0.0
    shared = np.intersect1d(piece, genome, assume_unique=True)
    return float((len(shared) / len(piece)) ** (1.0 / K))


def species_name(organism: str) -> str:
    """Name of the species: the first two words, with those behind it where it has none."""
    words = organism.lower().replace("candidatus ", "").split()
    return " ".join(words[:4] if "sp." in words[:3] else words[:2])
