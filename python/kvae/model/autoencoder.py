"""Autoencoder of the 7-mers alone, whose decoder a `pretrained` readout takes over."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor, nn

from kvae.errors import KvaeError
from kvae.model.files import read_tensors, write_tensors
from kvae.model.layers import find_block, hidden_stack, random_row

if TYPE_CHECKING:
    import torch

    from kvae.config import AutoencoderConfig
    from kvae.layout import Layout

AUTOENCODER_FORMAT = "kvae-kmers-1"


class KmerAutoencoder(nn.Module):
    """Log frequencies of a block to a short code and back.

    The code is a hidden layer like any other, the way back a linear one: that is
    all that the model which takes it over has to reach.
    """

    reference: Tensor

    def __init__(self, config: AutoencoderConfig, layout: Layout) -> None:
        super().__init__()
        self.config = config
        self.layout = layout
        block = find_block(layout, config.block)
        self.fields = block.slice
        self.encode = hidden_stack((block.size, config.code), config)
        self.expand = nn.Linear(config.code, block.size)
        nn.init.constant_(self.expand.bias, -math.log(block.size))
        absent = math.log(layout.pseudocount)
        reference_F = random_row(layout, absent)[block.slice]
        self.register_buffer("reference", reference_F, persistent=False)

    def forward(self, log_BK: Tensor) -> Tensor:
        """Map log frequencies (rows, k-mers) to what the code keeps of them."""
        return cast(Tensor, self.expand(self.encode(log_BK - self.reference)))


def save_autoencoder(
    weights: dict[str, Tensor], model: KmerAutoencoder, path: Path, facts: dict[str, Any]
) -> None:
    """Write an autoencoder's weights to one safetensors file, atomically."""
    header = {
        "format": AUTOENCODER_FORMAT,
        "config": model.config.model_dump_json(),
        "layout": model.layout.fingerprint,
        "facts": json.dumps(facts),
    }
    write_tensors(path, weights, header)


def read_expansion(path: Path, layout: Layout, block: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Read weight and bias of an autoencoder's way back.

    Raises
    ------
    KvaeError
        Where the file is missing, damaged, or of another layout or block.
    """
    from kvae.config import AutoencoderConfig, parse_config
    from kvae.model.files import check_layout, restore

    tensors, header = read_tensors(path, AUTOENCODER_FORMAT)
    check_layout(header.get("layout", "none"), layout, str(path))
    config = parse_config(AutoencoderConfig, header.get("config", ""), str(path))
    if config.block != block:
        raise KvaeError(f"{path}: was trained on {config.block}, {block} expected")
    model = KmerAutoencoder(config, layout)
    restore(model, tensors, path, assign=False)
    return model.expand.weight.detach(), model.expand.bias.detach()
