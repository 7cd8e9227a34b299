"""A run as one page: what was trained, how well, and where its latents lie."""

from __future__ import annotations

from kvae.reporting.run import Report, report

__all__ = ["Report", "report"]
