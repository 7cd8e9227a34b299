"""Curves for TensorBoard."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from torch.utils.tensorboard import SummaryWriter

from kvae.epoch_progress import EpochRecord


class Curves:
    """Writes the figures of every epoch as TensorBoard scalars.

    Parameters
    ----------
    folder
        Where the event files go.
    after_epoch
        Epochs beyond this one, left behind by an interrupted run, are hidden.
    """

    def __init__(self, folder: Path, after_epoch: int) -> None:
        self._writer: Any = SummaryWriter(str(folder), purge_step=after_epoch + 1)

    def __enter__(self) -> Self:
        """Return the writer itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Flush and close the event file."""
        self._writer.close()

    def add(self, record: EpochRecord) -> None:
        """Add the figures of an epoch: one chart per figure, one curve per part."""
        for part, scores in (("train", record.train), ("validation", record.validation)):
            for name, value in scores.items():
                self._writer.add_scalar(f"{name}/{part}", value, record.epoch)
        self._writer.add_scalar("lr", record.lr, record.epoch)
        self._writer.add_scalar("rows_per_second", record.rows_per_second, record.epoch)
        self._writer.add_scalar("samples_per_parameter", record.samples_per_parameter, record.epoch)
        self._writer.flush()
