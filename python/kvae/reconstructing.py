"""What a model reconstructs of rows."""

from __future__ import annotations

from collections.abc import Callable
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
from kvae.model.refining import refined
from kvae.model.tilting import PRIOR, PRIOR_OF_SOURCE, WORD, tilted
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


def reconstruct(
    model: KmerVAE,
    features: Features,
    *,
    tilt: bool = False,
    refine: bool = False,
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
    possible = model.config.output_space == "profile" and WORD in layout.ks and k > WORD
    if (tilt or refine) and not possible:
        raise KvaeError(
            f"{'tilt moves' if tilt else 'refine looks for'} profiles by {WORD}-mers: the model "
            f"has to decode profiles, and its features to have {WORD}-mers"
        )
    kmers = layout.kmers(k)
    shape = (len(source), layout.block(model.config.decoder.sparse.block).size)
    presence, value = np.empty(shape, np.float32), np.empty(shape, np.float32)
    batches = row_batches(model, source, batch_size, progress or Progress(), "reconstructing")
    # Not before: the model may be refined with, or trained later.
    with torch_threads(threads), evaluating(model), torch.inference_mode():
        for batch in batches:
            latent = model.inference(batch.x)
            counts = _counts(batch.x, layout, k) if refine else None
            mean_BL = latent.mean if counts is None else refined(_profile(model), latent, counts)
            decoded = model.generative(mean_BL)
            if tilt or refine:
                counts_BW = _counts(batch.x, layout, WORD)
                prior = PRIOR if tilt else PRIOR_OF_SOURCE
                decoded = replace(decoded, value=tilted(decoded.value, counts_BW, k=k, prior=prior))
            n_windows_B1 = model.read_target.n_windows(batch.x)
            chance_BK, frequency_BK = _of(decoded, n_windows_B1, layout.pseudocount)
            check_finite(source, batch, chance_BK, frequency_BK)
            rows = slice(int(batch.rows[0]), int(batch.rows[-1]) + 1)
            presence[rows], value[rows] = chance_BK.cpu().numpy(), frequency_BK.cpu().numpy()
    return Reconstructed(kmers, presence, value)


def _profile(model: KmerVAE) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return what turns latents into profiles."""
    return lambda z_BL: model.generative(z_BL).value


def _counts(x_BF: torch.Tensor, layout: Layout, k: int) -> torch.Tensor:
    """Recover the counts of k-mers from rows, shape (rows, k-mers)."""
    block, length = layout.block(f"{k}-mers").slice, layout.block("length").slice
    frequency_BK = (x_BF[:, block].exp() - layout.pseudocount).clamp(min=0.0)
    return frequency_BK * (x_BF[:, length].exp() - (k - 1)).clamp(min=1.0)


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
