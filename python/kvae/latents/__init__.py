"""Latent files: one row per feature row, in the format that the suffix names."""

from __future__ import annotations

from kvae.latents.reading import Latents, is_latent_name, read_latents
from kvae.latents.schema import LATENT_FORMAT, latent_schema
from kvae.latents.writing import latent_format

__all__ = [
    "LATENT_FORMAT",
    "Latents",
    "is_latent_name",
    "latent_format",
    "latent_schema",
    "read_latents",
]
