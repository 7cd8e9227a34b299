"""Readout that draws all k-mers as an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from kvae.config import ConvReadout
from kvae.errors import KvaeError
from kvae.layout import kmers
from kvae.model.derive import reverse_complement
from kvae.model.readout.registry import readout

if TYPE_CHECKING:
    from kvae.layout import Block


@readout(ConvReadout)
class Upsampling(nn.Module):
    """Transposed convolutions up to an image with one pixel per k-mer.

    The image is the chaos game representation: a k-mer's bases are the digits of
    its position, two bits each, one for the row and one for the column, the first
    base the most significant. Pixels of a common prefix form a square, and every
    doubling of the image resolves one base more. A canonical k-mer is the mean of
    its own pixel and that of its reverse complement, plus a bias of its own: what
    is alike in all rows need not be drawn.
    """

    pixels: Tensor

    def __init__(self, config: ConvReadout, n_in: int, block: Block, start: float) -> None:
        super().__init__()
        if block.k is None or block.size != len(kmers(block.k)):
            raise KvaeError(f"a conv readout needs all k-mers, but not all are in {block.name}")
        doublings = len(config.channels)
        if doublings > block.k:
            raise KvaeError(
                f"a conv readout of {block.name} can double its image {block.k} times, "
                f"not {doublings} times: give fewer channels"
            )
        self._side = 2 ** (block.k - doublings)
        self.seed = nn.Linear(n_in, config.channels[0] * self._side**2)
        layers: list[nn.Module] = []
        for n_from, n_to in zip(config.channels, (*config.channels[1:], 1), strict=True):
            layers += [
                nn.LeakyReLU(config.negative_slope),
                nn.ConvTranspose2d(n_from, n_to, kernel_size=4, stride=2, padding=1),
            ]
        self.upsample = nn.Sequential(*layers)
        self.bias = nn.Parameter(torch.full((block.size,), start))
        self.register_buffer("pixels", _pixels(block.k), persistent=False)

    def forward(self, h_BH: Tensor) -> Tensor:
        """Map hidden vectors (rows, ``n_in``) to outputs (rows, k-mers)."""
        seed_BCSS = self.seed(h_BH).unflatten(1, (-1, self._side, self._side))
        image_BP = self.upsample(seed_BCSS).flatten(1)
        forward_K, reverse_K = self.pixels
        both_BK = image_BP.index_select(1, forward_K) + image_BP.index_select(1, reverse_K)
        return cast(Tensor, 0.5 * both_BK + self.bias)


def _pixels(k: int) -> Tensor:
    """Pixels of every canonical k-mer and of its reverse complement, shape (2, k-mers)."""
    forward = [_pixel(kmer) for kmer in kmers(k)]
    reverse = [_pixel(reverse_complement(kmer)) for kmer in kmers(k)]
    return torch.tensor([forward, reverse], device="cpu")


def _pixel(kmer: str) -> int:
    """Position of a k-mer in its image, row by row."""
    row = column = 0
    for base in kmer:
        high, low = divmod("ACGT".index(base), 2)
        row, column = 2 * row + high, 2 * column + low
    return int(row * 2 ** len(kmer) + column)
