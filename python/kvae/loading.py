"""From rows to batches on the device that computes."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from queue import SimpleQueue

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kvae.device_rows import DeviceRows, PackedSequences
from kvae.divided_rows import DividedRows
from kvae.halves import Halves
from kvae.row_sources import Indices, RowSource
from kvae.store import FeatureStore


@dataclass(frozen=True)
class Batch:
    """Rows on the training device.

    Attributes
    ----------
    rows
        Their numbers in the source.
    x
        Their features, shape (rows, fields), of `kvae.halves.Halves` twice as many.
        On the CPU they are valid only until the next batch is asked for.
    """

    rows: Indices
    x: Tensor


class _Slot:
    """A host buffer for one batch, page-locked where the device is CUDA."""

    def __init__(self, n_rows: int, n_fields: int, device: torch.device) -> None:
        self._device = device
        self.tensor = torch.empty(n_rows, n_fields, pin_memory=device.type == "cuda")
        self.array: NDArray[np.float32] = self.tensor.numpy()
        self._copied: torch.cuda.Event | None = None
        if device.type == "cuda":
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]

    def to_device(self, n_rows: int) -> Tensor:
        x_BF = self.tensor[:n_rows]
        if self._copied is None:
            return x_BF.to(self._device)
        x_BF = x_BF.to(self._device, non_blocking=True)
        self._copied.record(torch.cuda.current_stream(self._device))
        return x_BF

    def wait(self) -> None:
        """Block until the device has its copy, so that the buffer may be reused."""
        if self._copied is not None:
            self._copied.synchronize()


class BatchLoader:
    """Gathers batches on a background thread, a few ahead of the consumer.

    The sequences of a packed store stay on an accelerator that has room for
    them, and rows are computed there.

    Parameters
    ----------
    source
        Where the rows come from; only the background thread reads from it.
    device
        Where batches go.
    depth
        Batches gathered ahead.
    resident
        Whether the sequences are kept on the device; where omitted, if they are
        packed and fit.
    """

    def __init__(
        self,
        source: RowSource,
        device: torch.device,
        *,
        depth: int = 2,
        resident: bool | None = None,
    ) -> None:
        self._source = source
        self._device = device
        self._depth = depth
        self._rows_each = 2 if isinstance(source, Halves) else 1
        self._slots: list[_Slot] = []
        self._resident: DeviceRows | None = None
        # Rows of several processes are counted from the first of all.
        self._first, stored = 0, source
        if isinstance(source, DividedRows):
            self._first, stored = source.first, source.store
        if isinstance(stored, FeatureStore) and stored.kind == "packed":
            if resident is None:
                resident = _has_room(device, stored.packed.n_bytes)
            if resident:
                sequences = PackedSequences.of(stored.packed, device)
                self._resident = DeviceRows(sequences, source.layout)

    def __call__(self, batches: Sequence[Indices]) -> Iterator[Batch]:
        """Yield the given batches in order."""
        if self._resident is None:
            yield from self._gathered(batches)
            return
        for rows in batches:
            indices = torch.from_numpy(rows - self._first).to(self._device, non_blocking=True)
            yield Batch(rows, self._resident(indices))

    def _gathered(self, batches: Sequence[Indices]) -> Iterator[Batch]:
        """Batches whose rows come from the host."""
        free: SimpleQueue[_Slot | None] = SimpleQueue()
        ready: SimpleQueue[_Slot | BaseException] = SimpleQueue()
        rows_each = self._rows_each
        for slot in self._buffers(max(map(len, batches), default=0) * rows_each):
            free.put(slot)

        def gather() -> None:
            try:
                for rows in batches:
                    slot = free.get()
                    if slot is None:
                        return
                    self._source.rows(rows, out=slot.array[: len(rows) * rows_each])
                    ready.put(slot)
            except BaseException as error:  # noqa: BLE001 - handed on
                # Whatever went wrong belongs to the consumer, not to this thread.
                ready.put(error)

        thread = threading.Thread(target=gather, name="kvae-gather", daemon=True)
        thread.start()
        try:
            for rows in batches:
                item = ready.get()
                if isinstance(item, BaseException):
                    raise item
                yield Batch(rows, item.to_device(len(rows) * rows_each))
                item.wait()
                free.put(item)
        finally:
            free.put(None)
            thread.join()

    def _buffers(self, n_rows: int) -> list[_Slot]:
        """Host buffers, kept from one pass to the next: fresh pages are slow."""
        if not self._slots or len(self._slots[0].tensor) < n_rows:
            n_fields = self._source.layout.n_fields
            # One more than are ahead: the one the consumer works on.
            self._slots = [_Slot(n_rows, n_fields, self._device) for _ in range(self._depth + 1)]
        return self._slots


def _has_room(device: torch.device, n_bytes: int) -> bool:
    """Whether an accelerator can keep so much beside a model and its batches."""
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return n_bytes < free // 2
