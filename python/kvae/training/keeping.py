"""When a run's state is stored, and how a run stops without losing any."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from kvae.model import KmerVAE
from kvae.model.mixing import mixed
from kvae.run_folder import RunFolder
from kvae.training.checkpoint import (
    Best,
    RunState,
    plateau_state,
    save_checkpoint,
    scaler_state,
)
from kvae.training.stops import StopSignals
from kvae.training.trainer import Trainer

LOGGER = logging.getLogger(__name__)


class TrainingInterrupted(KeyboardInterrupt):
    """Training was asked to stop; the message says how to go on.

    Attributes
    ----------
    signal
        The signal that asked for it.
    """

    def __init__(self, message: str, number: signal.Signals = signal.SIGINT) -> None:
        super().__init__(message)
        self.signal = number

    @property
    def exit_code(self) -> int:
        """What a process that stops for it exits with."""
        return 128 + self.signal


class Keeper:
    """Writes checkpoints after every epoch, within long ones, and before a stop.

    Parameters
    ----------
    folder
        The run's files.
    trainer
        Whose state is stored.
    data
        Identifies the rows, see `RunState`.
    minutes
        Age of the last checkpoint at which the next is due; 0 for none within
        an epoch.
    state
        What the run was resumed from.
    initial, share
        The model that it started from, and how much of it those keep that are written.

    Attributes
    ----------
    state
        What the newest checkpoint holds, None before the first.
    """

    def __init__(
        self,
        folder: RunFolder,
        trainer: Trainer,
        data: str,
        minutes: float,
        state: RunState | None,
        initial: KmerVAE | None = None,
        share: float = 0.0,
    ) -> None:
        self.state = state
        self._initial = initial
        self._share = share
        self._folder = folder
        self._trainer = trainer
        self._processes = trainer.processes
        self._data = data
        self._seconds = 60.0 * minutes
        self._written = time.monotonic()
        self._signals = StopSignals()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take signals as requests to stop at the next `boundary`.

        Raises
        ------
        TrainingInterrupted
            In place of a KeyboardInterrupt, which a second signal or the
            receiver of the progress may raise.
        """
        try:
            with self._signals:
                yield
        except TrainingInterrupted:
            raise
        except KeyboardInterrupt:
            raise self._interruption(signal.SIGINT) from None

    def boundary(self) -> None:
        """Store and stop where that is asked for, store where it is due.

        Called between two steps, and between two batches of a validation.
        """
        is_due = 0.0 < self._seconds <= time.monotonic() - self._written
        # Whichever process is told to stop, all do, and all store the same state.
        number, due = self._processes.largest(self._signals.received or 0, is_due)
        if number or due:
            self._store_within_epoch()
        if number:
            # A launcher stops the others as soon as one has left, so all stay until the
            # first has written.
            self._processes.wait_for_all()
            raise self._interruption(signal.Signals(number))

    def epoch_done(self, epoch: int, loss: float) -> None:
        """Store a finished epoch. The checkpoint comes last: it makes the rest count."""
        best = self._best
        if best is None or loss < best.loss:
            best = Best(epoch=epoch, loss=loss)
            if self._processes.is_first:
                self._write_model(epoch=epoch, validation_loss=loss)
        self._store(epoch, best)

    def _write_model(self, **facts: float) -> None:
        model = self._trainer.model
        if self._initial is not None:
            model = mixed(self._initial, model, self._share)
            facts["init_share"] = self._share
        model.save(self._folder.model, **facts)

    def _store_within_epoch(self) -> None:
        if self.state is None or self.state.step < self._trainer.step:
            finished = self.state.epoch if self.state else 0
            self._store(finished, self._best)

    @property
    def _best(self) -> Best | None:
        return self.state.best if self.state else None

    def _store(self, epoch: int, best: Best | None) -> None:
        trainer = self._trainer
        sums = trainer.sums_so_far()
        self.state = RunState(
            epoch=epoch,
            position=trainer.position,
            step=trainer.step,
            best=best,
            lrs=tuple(group["lr"] for group in trainer.optimizer.param_groups),
            plateau=plateau_state(trainer.scheduler),
            scaler=scaler_state(trainer.scaler),
            data=self._data,
        )
        save_checkpoint(
            self._folder.checkpoints,
            self.state,
            trainer.model,
            trainer.optimizer,
            sums,
            trainer.device,
            write=self._processes.is_first,
        )
        self._written = time.monotonic()
        LOGGER.info("checkpoint %s: %s", self.state.file_name, self.state)

    def _interruption(self, number: signal.Signals) -> TrainingInterrupted:
        how = "terminated" if number == signal.SIGTERM else "interrupted"
        kept = self.state or "0 finished epoch(s)"
        return TrainingInterrupted(
            f"{how}; {self._folder.path} holds {kept}: the same command with --resume "
            "goes on from there",
            number,
        )
