"""Markov chains of a row's own short k-mers, as profiles of its long ones.

Both strands are one text here: a chain is read off canonical counts, and gives a
k-mer and its reverse complement the same probability.
"""

from __future__ import annotations

from functools import cache
from itertools import product

import torch
from torch import Tensor

from kvae.layout import kmers

__all__ = ["markov_profile"]

_COMPLEMENT = str.maketrans("ACGT", "TGCA")
# Added to every word of a chain on either strand: half an observation.
PSEUDOCOUNT = 0.5


def markov_profile(counts_BW: Tensor, order: int, k: int = 7) -> Tensor:
    """Probabilities of canonical k-mers under the Markov chain of shorter words.

    A k-mer's probability is the product of those of its words of ``order + 1``
    letters, divided by those of their overlaps of ``order`` letters, normalised over
    all k-mers. Both come from the same counts, which half an observation of every
    word is added to.

    Parameters
    ----------
    counts_BW
        Counts of canonical words of ``order + 1`` letters, shape (rows, words), in the
        order of `kvae.kmers`.
    order
        Letters that the next one depends on.
    k
        Of the profile.

    Returns
    -------
    Tensor of float64, shape (rows, canonical k-mers)
        Each row sums to 1.
    """
    stranded, overlaps, words, inner, log_strands = (
        table.to(counts_BW.device) for table in _tables(order, k)
    )
    words_BD = counts_BW.to(stranded.dtype) @ stranded + PSEUDOCOUNT
    overlaps_BE = words_BD @ overlaps
    log_BK = words_BD.log() @ words - overlaps_BE.log() @ inner + log_strands
    return torch.softmax(log_BK, dim=1)


@cache
def _tables(order: int, k: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Constant matrices of a chain.

    Returns
    -------
    tuple of float64 tensors
        From canonical words to words of both strands, (canonical, D); from words to
        their overlaps, the mean of those at either end, (D, E); how often a word is in
        a k-mer, (D, K); how often an overlap is inside of one, (E, K); the logarithms
        of a k-mer's strands, (K,).
    """
    size = order + 1
    words = ["".join(letters) for letters in product("ACGT", repeat=size)]
    shorter = ["".join(letters) for letters in product("ACGT", repeat=order)]
    canonical = {word: i for i, word in enumerate(kmers(size))}
    place = {word: i for i, word in enumerate(words)}
    overlap = {word: i for i, word in enumerate(shorter)}
    long = kmers(k)
    stranded = torch.zeros(len(canonical), len(words), dtype=torch.float64)
    overlaps = torch.zeros(len(words), len(shorter), dtype=torch.float64)
    for word, i in place.items():
        other = _reverse(word)
        # A palindrome is counted once, and stands on both strands.
        stranded[canonical[min(word, other)], i] = 2.0 if word == other else 1.0
        overlaps[i, overlap[word[:-1]]] += 0.5
        overlaps[i, overlap[word[1:]]] += 0.5
    within = torch.zeros(len(words), len(long), dtype=torch.float64)
    inner = torch.zeros(len(shorter), len(long), dtype=torch.float64)
    for column, kmer in enumerate(long):
        for start in range(k - order):
            within[place[kmer[start : start + size]], column] += 1.0
        for start in range(1, k - order):
            inner[overlap[kmer[start : start + order]], column] += 1.0
    strands = [1.0 if kmer == _reverse(kmer) else 2.0 for kmer in long]
    log_strands = torch.tensor(strands, dtype=torch.float64).log()
    return stranded, overlaps, within, inner, log_strands


def _reverse(word: str) -> str:
    """Return the reverse complement."""
    return word.translate(_COMPLEMENT)[::-1]
