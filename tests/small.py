"""A layout, rows and a model small enough to train in a second.

The model takes every width from the layout, so most tests run it on a layout
with the default one's blocks and a hundredth of its fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from kvae.config import EncoderConfig, ModelConfig, RunConfig, TrainConfig, override
from kvae.layout import Block, Layout
from kvae.model import KmerVAE
from kvae.model.encoder import Encoder
from kvae.presets import get_preset
from kvae.row_sources import Indices

Rows = NDArray[np.float32]

PSEUDOCOUNT = 1e-6


def make_layout(n7: int, n4: int, n3: int, fingerprint: str = "small-layout") -> Layout:
    """Make a layout with the default one's blocks, but of any width."""
    edges = np.cumsum([0, 1, n7, n4, n3, 1]).tolist()
    names = [("length", None), ("7-mers", 7), ("4-mers", 4), ("3-mers", 3), ("gc", None)]
    blocks = [
        Block(name, k, start, stop)
        for (name, k), start, stop in zip(names, edges[:-1], edges[1:], strict=True)
    ]
    return Layout(tuple(blocks), fingerprint, PSEUDOCOUNT)


@dataclass
class MemoryStore:
    """Rows in memory with the interface of `kvae.store.FeatureStore`."""

    data: Rows
    layout: Layout
    source_codes: NDArray[np.int32]
    source_names: list[str]
    names: list[str]
    path: str = "memory.arrow"

    def __len__(self) -> int:
        return len(self.data)

    @property
    def ids(self) -> Any:
        return pa.chunked_array([self.names])

    def rows(self, indices: Indices, out: Rows | None = None) -> Rows:
        if out is None:
            return self.data[indices]
        return np.take(self.data, indices, axis=0, out=out, mode="clip")

    def column(self, name: str) -> Any:
        n = len(self)
        length = np.rint(np.exp(self.data[:, 0])).astype(np.uint64)
        start = np.arange(n, dtype=np.uint64) * 5000
        values = {
            "id": pa.array(self.names),
            "start": pa.array(start),
            "end": pa.array(start + length),
            "length": pa.array(length),
        }
        # Several chunks, as a file of many record batches has.
        return pa.chunked_array([values[name][: n // 2], values[name][n // 2 :]])

    def with_data(self, data: Rows) -> MemoryStore:
        return replace(self, data=data)


def make_store(
    layout: Layout, sizes: Sequence[int], seed: int = 0, contig_rows: int = 3
) -> MemoryStore:
    """Rows of one source per size: every source has a composition of its own."""
    rng = np.random.default_rng(seed)
    rows: list[Rows] = []
    codes: list[int] = []
    names: list[str] = []
    for source, n_rows in enumerate(sizes):
        profiles = [rng.dirichlet(np.full(block.size, 0.5)) for block in layout.blocks[1:4]]
        gc = rng.uniform(0.3, 0.7)
        for row in range(n_rows):
            length = int(rng.integers(5_000, 10_000))
            fields = [np.log([length])]
            # As many draws as leave about half of the k-mers of the first block out.
            for profile, draws in zip(profiles, (layout.blocks[1].size, 3_000, 3_000), strict=True):
                frequency = rng.multinomial(draws, profile) / draws
                fields.append(np.log(frequency + PSEUDOCOUNT))
            fields.append(np.log([gc + rng.normal(0.0, 0.01) + PSEUDOCOUNT]))
            rows.append(np.concatenate(fields))
            codes.append(source)
            names.append(f"contig_{source}_{row // contig_rows}")
    return MemoryStore(
        np.array(rows, dtype=np.float32),
        layout,
        np.array(codes, dtype=np.int32),
        [f"genome_{source}.fna" for source in range(len(sizes))],
        names,
    )


def small_model(**changes: Any) -> ModelConfig:
    """Narrow the preset `dot` down to layers of 8 to 32 units."""
    narrow = {
        "encoder.branches": [
            {"block": "7-mers", "hidden": [32, 16]},
            {"block": "4-mers", "hidden": [16, 8]},
            {"block": "3-mers", "hidden": [8]},
        ],
        "encoder.shared": [32],
        "latent": 12,
        "decoder.shared": [32, 24],
        "decoder.sparse.value_hidden": [32],
        "decoder.sparse.gate_hidden": [16],
        "decoder.sparse.readout.embedding": 8,
        "decoder.dense": [
            {"block": "4-mers", "hidden": [8, 16]},
            {"block": "3-mers", "hidden": [8]},
        ],
    }
    return override(get_preset("dot").model, narrow | changes)


def branch_encoder(model: KmerVAE) -> Encoder:
    """The encoder of a model whose encoder has branches."""
    assert isinstance(model.encoder, Encoder)
    return model.encoder


def encoder_branches(config: RunConfig) -> dict[str, tuple[int, ...]]:
    """Hidden widths of the encoder's branches."""
    assert isinstance(config.model.encoder, EncoderConfig)
    return {branch.block: branch.hidden for branch in config.model.encoder.branches}


def model_rows(layout: Layout, n: int = 6, seed: int = 0) -> torch.Tensor:
    """Numbers in the range of log frequencies, without meaning."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, layout.n_fields, generator=generator) * 2.0 - 8.0


def small_run(**training: Any) -> RunConfig:
    settings = {"epochs": 2, "batch_size": 16, "lr": 5e-3} | training
    return RunConfig(
        model=small_model(), loss=get_preset("dot").loss, training=TrainConfig(**settings)
    )
