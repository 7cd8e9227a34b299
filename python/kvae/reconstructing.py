"""What a model reconstructs of rows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from kvae import defaults
from kvae.device import torch_threads
from kvae.encoding import check_finite, evaluating, open_model_and_rows, row_batches
from kvae.errors import KvaeError
from kvae.layout import Layout
from kvae.model import KmerVAE
from kvae.model.decoder import Decoded
from kvae.model.tilting import WORD, tilted
from kvae.progress import Progress
from kvae.row_sources import Features

__all__ = ["Reconstructed", "reconstruct"]


@dataclass(frozen=True)
class Reconstructed:
    """The k-mers of rows, as a model decodes them from the rows' latents.

    Attributes
    ----------
    kmers
        The k-mers of the columns, those of the model's largest block.
    presence
        Probability that a k-mer occurs in the row, float32, shape (rows, k-mers). It is
        the gate's where a design has one of its own, else 1 - exp(-n p) of a k-mer of
        frequency p in a row with places for n.
    value
        Frequency of a k-mer in the row, float32, shape (rows, k-mers): if it occurs
        (designs with a gate of their own), else on average. In the preset ``kvae`` each
        row sums to 1.
    """

    kmers: list[str]
    presence: NDArray[np.float32]
    value: NDArray[np.float32]


@torch.inference_mode()
def reconstruct(
    model: KmerVAE,
    features: Features,
    *,
    tilt: bool = False,
    batch_size: int = defaults.ENCODE_BATCH_SIZE,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Reconstructed:
    """Encode rows and decode the means of their latents, see `KmerVAE.reconstruct`."""
    if batch_size < 1:
        raise KvaeError(f"batch size must be at least 1, got {batch_size}")
    model, source = open_model_and_rows(model, features, device="auto", threads=threads)
    layout = model.layout
    k = model.read_target.k
    if tilt and (model.config.output_space != "profile" or WORD not in layout.ks or k <= WORD):
        raise KvaeError(
            f"tilt moves profiles towards {WORD}-mers: the model has to decode profiles, and its "
            f"features to have {WORD}-mers"
        )
    kmers = layout.kmers(k)
    shape = (len(source), layout.block(model.config.decoder.sparse.block).size)
    presence, value = np.empty(shape, np.float32), np.empty(shape, np.float32)
    batches = row_batches(model, source, batch_size, progress or Progress(), "reconstructing")
    with torch_threads(threads), evaluating(model):
        for batch in batches:
            decoded = model.generative(model.inference(batch.x).mean)
            if tilt:
                decoded = replace(decoded, value=_tilted(decoded.value, batch.x, layout, k))
            n_windows_B1 = model.read_target.n_windows(batch.x)
            chance_BK, frequency_BK = _of(decoded, n_windows_B1, layout.pseudocount)
            check_finite(source, batch, chance_BK, frequency_BK)
            rows = slice(int(batch.rows[0]), int(batch.rows[-1]) + 1)
            presence[rows], value[rows] = chance_BK.cpu().numpy(), frequency_BK.cpu().numpy()
    return Reconstructed(kmers, presence, value)


def _tilted(profile_BK: torch.Tensor, x_BF: torch.Tensor, layout: Layout, k: int) -> torch.Tensor:
    """Tilt profiles by the short k-mers of rows."""
    words, length = layout.block(f"{WORD}-mers").slice, layout.block("length").slice
    frequency_BW = (x_BF[:, words].exp() - layout.pseudocount).clamp(min=0.0)
    n_B1 = (x_BF[:, length].exp() - (WORD - 1)).clamp(min=1.0)
    return tilted(profile_BK, frequency_BW * n_B1, k=k)


def _of(
    decoded: Decoded, n_windows_B1: torch.Tensor, pseudocount: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Presence and frequency of k-mers, each of shape (rows, k-mers)."""
    value_BK = decoded.value
    if decoded.space == "log":
        # No frequency is above 1, and nothing above it may overflow.
        value_BK = (value_BK.clamp(max=0.0).exp() - pseudocount).relu()
    if decoded.space == "profile" or decoded.gate_logit is None:
        return -torch.expm1(-n_windows_B1 * value_BK), value_BK
    return torch.sigmoid(decoded.gate_logit), value_BK
