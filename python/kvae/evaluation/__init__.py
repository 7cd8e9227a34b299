"""A model's latent and reconstruction, examined beside baselines."""

from __future__ import annotations

from kvae.evaluation.outcome import Evaluation
from kvae.evaluation.run import evaluate

__all__ = ["Evaluation", "evaluate"]
