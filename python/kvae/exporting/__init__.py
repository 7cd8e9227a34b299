"""Features, latents and encoders in the formats of other programs."""

from __future__ import annotations

from kvae.exporting.run import Exported, export

__all__ = ["Exported", "export"]
