"""Last layers of the 7-mer decoder: from a hidden vector to one number per k-mer.

One module per kind; importing them here ties them to their configurations.
"""

from __future__ import annotations

from kvae.model.readout.conv import Upsampling
from kvae.model.readout.dot import DotProduct
from kvae.model.readout.grouped import Grouped
from kvae.model.readout.linear import Dense, LowRank
from kvae.model.readout.pretrained import Pretrained
from kvae.model.readout.registry import build_readout, readout

__all__ = [
    "Dense",
    "DotProduct",
    "Grouped",
    "LowRank",
    "Pretrained",
    "Upsampling",
    "build_readout",
    "readout",
]
