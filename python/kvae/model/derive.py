"""Frequencies of short k-mers from those of longer ones."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from kvae.errors import KvaeError
from kvae.layout import kmers

if TYPE_CHECKING:
    from kvae.layout import Block

_COMPLEMENT = str.maketrans("ACGT", "TGCA")


class DerivedBlock(nn.Module):
    """Sums of long k-mers' frequencies that give those of the short ones.

    Every long k-mer holds ``n = long - short + 1`` short ones, each with an nth
    of its frequency. In counts of one sequence this is exact but for its ends: a
    short k-mer within a run of bases lies in n long ones, the ith from an end
    only in i of them. So the n - 1 short k-mers at either end of each run count
    less than the others, 6 of 4,997 4-mers in a run of 5,000 bases.
    """

    weight: Tensor

    def __init__(self, long: Block, short: Block) -> None:
        super().__init__()
        for block in (long, short):
            if block.k is None or block.size != len(kmers(block.k)):
                raise KvaeError(f"{short.name} cannot be derived: {block.name} are not all k-mers")
        assert long.k is not None
        assert short.k is not None
        if short.k >= long.k:
            raise KvaeError(f"{short.name} cannot be derived from {long.name}: they are longer")
        # Fixed numbers, not weights: they stay out of model files.
        self.register_buffer("weight", shares(long.k, short.k), persistent=False)

    def forward(self, long_BK: Tensor) -> Tensor:
        """Map frequencies (rows, long k-mers) to frequencies (rows, short k-mers)."""
        return long_BK @ self.weight


class DerivedGC(nn.Module):
    """GC fraction of a sequence from the frequencies of its k-mers."""

    weight: Tensor

    def __init__(self, block: Block) -> None:
        super().__init__()
        if block.k is None or block.size != len(kmers(block.k)):
            raise KvaeError(f"GC cannot be derived: {block.name} are not all k-mers")
        self.register_buffer("weight", gc_of_kmers(block.k), persistent=False)

    def forward(self, frequency_BK: Tensor) -> Tensor:
        """Map frequencies (rows, k-mers) to GC fractions (rows, 1)."""
        return frequency_BK @ self.weight


# Kept for later models too, which may be trained: no tensors of inference mode.
@cache
@torch.inference_mode(False)
def gc_of_kmers(k: int) -> Tensor:
    """GC fraction of each canonical k-mer, shape (k-mers, 1)."""
    # On the CPU even where a model is built on the meta device.
    found = [[sum(map(kmer.count, "GC")) / k] for kmer in kmers(k)]
    return torch.tensor(found, device="cpu")


@cache
@torch.inference_mode(False)
def shares(long: int, short: int) -> Tensor:
    """Share of each canonical long k-mer that each short one has, (long, short) k-mers."""
    column = {kmer: i for i, kmer in enumerate(kmers(short))}
    n = long - short + 1
    # On the CPU even where a model is built on the meta device.
    weight = torch.zeros(len(kmers(long)), len(column), device="cpu")
    for row, kmer in enumerate(kmers(long)):
        for part in _windows(kmer, short):
            weight[row, column[min(part, reverse_complement(part))]] += 1.0 / n
    return weight


def reverse_complement(kmer: str) -> str:
    """Sequence of the other strand."""
    return kmer.translate(_COMPLEMENT)[::-1]


def _windows(sequence: str, k: int) -> Iterable[str]:
    return (sequence[i : i + k] for i in range(len(sequence) - k + 1))
