"""A plain VAE of 4-mers, as the composition part of VAMB is one.

A baseline: what a variational autoencoder makes of 136 numbers, without anything
that is special to this package.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kvae.progress import Progress

__all__ = ["composition_latents"]

STEPS = 1500
# VAMB's number of passes over the rows, which small data sets reach first.
_EPOCHS = 300
BATCH_ROWS = 256
_HIDDEN = 512
_LATENT = 32
_DROPOUT = 0.2
# VAMB weighs the divergence by 1 / (latent units * 200).
_BETA = 200.0
_LEARNING_RATE = 1e-3


class _CompositionVAE(nn.Module):
    def __init__(self, n_fields: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(*_layer(n_fields, _HIDDEN), *_layer(_HIDDEN, _HIDDEN))
        self.mean = nn.Linear(_HIDDEN, _LATENT)
        self.log_var = nn.Linear(_HIDDEN, _LATENT)
        self.decoder = nn.Sequential(
            *_layer(_LATENT, _HIDDEN), *_layer(_HIDDEN, _HIDDEN), nn.Linear(_HIDDEN, n_fields)
        )

    def loss(self, x_BF: Tensor) -> Tensor:
        hidden_BH = self.encoder(x_BF)
        mean_BL, log_var_BL = self.mean(hidden_BH), self.log_var(hidden_BH)
        noise_BL = torch.randn_like(mean_BL)
        decoded_BF = self.decoder(mean_BL + noise_BL * (0.5 * log_var_BL).exp())
        error = (decoded_BF - x_BF).square().mean()
        kl_B = 0.5 * (mean_BL.square() + log_var_BL.exp() - 1.0 - log_var_BL).sum(dim=1)
        loss: Tensor = error + kl_B.mean() / (_LATENT * _BETA)
        return loss


def _layer(n_in: int, n_out: int) -> tuple[nn.Module, ...]:
    return nn.Linear(n_in, n_out), nn.LeakyReLU(), nn.Dropout(_DROPOUT), nn.BatchNorm1d(n_out)


def composition_latents(
    vectors: NDArray[Any],
    seed: int = 0,
    *,
    steps: int = STEPS,
    device: torch.device | None = None,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Train on vectors, and encode the same vectors.

    Parameters
    ----------
    vectors
        Standardized 4-mer frequencies, shape (rows, 136).
    seed
        Decides initial weights, order, dropout and noise; torch's own state is left as
        it was.
    steps
        Of Adam, on batches of 256 rows; at most 300 passes over the rows.
    device
        Where to compute, the CPU where omitted.
    progress
        Told about every step.

    Returns
    -------
    ndarray of float32, shape (rows, 32)
        Means of the posterior.
    """
    device = device or torch.device("cpu")
    progress = progress or Progress()
    x = torch.from_numpy(np.ascontiguousarray(vectors, dtype=np.float32)).to(device)
    cuda = [device] if device.type == "cuda" else []
    size = min(BATCH_ROWS, len(x))
    steps = min(steps, _EPOCHS * (len(x) // size))
    progress.begin(f"4-mer VAE, steps of seed {seed}", steps)
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(seed)
        model = _CompositionVAE(x.shape[1]).to(device).train()
        optimizer = torch.optim.Adam(model.parameters(), lr=_LEARNING_RATE)
        done = 0
        while done < steps:
            order = torch.randperm(len(x)).to(device)
            for start in range(0, len(x) - size + 1, size):
                optimizer.zero_grad()
                model.loss(x[order[start : start + size]]).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                progress.advance(1)
                done += 1
                if done == steps:
                    break
    model.eval()
    with torch.inference_mode():
        latents: NDArray[np.float32] = model.mean(model.encoder(x)).cpu().numpy()
    return latents
