"""What kvae finds on this machine, and what is in its way."""

from __future__ import annotations

from kvae.checkup.run import Checkup, doctor

__all__ = ["Checkup", "doctor"]
