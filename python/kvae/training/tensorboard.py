"""Training curves for TensorBoard."""

from __future__ import annotations

import io
import itertools
import os
import socket
import time
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from kvae.epoch_progress import EpochRecord
from kvae.errors import KvaeError

# Files of one process and second are told apart.
_NUMBERS = itertools.count()


class Curves:
    """Writes the figures of every epoch as TensorBoard scalars.

    The usual writer has a thread of its own, which ends in a traceback where the disk is
    full; a few lines per epoch need none.

    Parameters
    ----------
    folder
        Where the event files go.
    after_epoch
        Epochs beyond this one, left behind by an interrupted run, are hidden.

    Raises
    ------
    KvaeError
        Where the file cannot be written, then and later.
    """

    def __init__(self, folder: Path, after_epoch: int) -> None:
        name = f"{int(time.time()):010}.{socket.gethostname()}.{os.getpid()}.{next(_NUMBERS)}"
        self._path = folder / f"events.out.tfevents.{name}"
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise KvaeError(f"{folder}: cannot be made: {error.strerror}") from error
        first = after_epoch + 1
        self._write(
            Event(step=first, file_version="brain.Event:2"),
            Event(step=first, session_log=SessionLog(status=SessionLog.START)),
        )

    def add(self, record: EpochRecord) -> None:
        """Add the figures of an epoch: one chart per figure, one curve per part."""
        figures = {
            f"{name}/{part}": value
            for part, scores in (("train", record.train), ("validation", record.validation))
            for name, value in scores.items()
        }
        figures["lr"] = record.lr
        figures["rows_per_second"] = record.rows_per_second
        figures["samples_per_parameter"] = record.samples_per_parameter
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in figures.items()]
        self._write(Event(step=record.epoch, summary=Summary(value=values)))

    def _write(self, *events: Event) -> None:
        records = io.BytesIO()
        writer = RecordWriter(records)
        for event in events:
            event.wall_time = time.time()
            writer.write(event.SerializeToString())
        try:
            with self._path.open("ab") as file:
                file.write(records.getvalue())
        except OSError as error:
            raise KvaeError(f"{self._path}: cannot be written: {error.strerror}") from error
