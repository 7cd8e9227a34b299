"""The model: encoder, latent, decoder, losses and model files."""

from __future__ import annotations

from kvae.model.decoder import Decoded
from kvae.model.losses import Elbo
from kvae.model.posterior import Latent
from kvae.model.targets import Target
from kvae.model.vae import KmerVAE

__all__ = ["Decoded", "Elbo", "KmerVAE", "Latent", "Target"]
