"""Training: split, batches, metrics, loop, checkpoints."""

from __future__ import annotations

from kvae.training.run import TrainingInterrupted, TrainResult, train

__all__ = ["TrainResult", "TrainingInterrupted", "train"]
