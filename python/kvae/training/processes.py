"""The processes that train one model together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

import numpy as np
import pyarrow as pa
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from kvae.errors import KvaeError

# What torchrun, and any launcher like it, tells a process.
_LAUNCHED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# How long one may fetch what the others have.
_DAY = timedelta(days=1)
_MESSAGE_BYTES = 1 << 28


class Processes:
    """All processes of a run, seen from one of them.

    Every batch is divided among them, and what is summed over a batch is summed
    over them. Each draws the random numbers of the whole batch and uses those of
    its own rows, so several compute what one would.

    Parameters
    ----------
    rank, size
        Number of this process, counted from 0, and of all.
    patient
        The same processes, where one may keep the others waiting for a day.

    Attributes
    ----------
    batch_rows
        Rows of the batch at hand, those of all processes together.
    rows_each
        Rows that each of them is in the model: two where it comes in halves, all first
        halves before all second ones.
    starts
        First row of every process and the number of all rows, where each can read its own
        rows only; None where all can read all.
    """

    def __init__(
        self, rank: int = 0, size: int = 1, patient: dist.ProcessGroup | None = None
    ) -> None:
        self.rank = rank
        self.size = size
        self.starts: tuple[int, ...] | None = None
        self._patient = patient
        self._batch_part = slice(0, 0)
        self.batch_rows = 0
        self.rows_each = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes and reports."""
        return self.rank == 0

    @property
    def are_several(self) -> bool:
        """Whether there are others."""
        return self.size > 1

    def part(self, n: int) -> slice:
        """Which of n things are this process's: each is exactly one's."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def own(self, rows: NDArray[np.int64]) -> slice:
        """Which of some rows, in ascending order, are this process's: each is exactly one's."""
        if self.starts is None:
            return self.part(len(rows))
        first, last = np.searchsorted(rows, self.starts[self.rank : self.rank + 2])
        return slice(int(first), int(last))

    def begin(self, rows: NDArray[np.int64]) -> None:
        """Turn to a batch, of some rows in ascending order."""
        self.batch_rows = len(rows)
        self._batch_part = self.own(rows)

    @property
    def batch_part(self) -> slice:
        """Which of the rows of the batch at hand are this process's."""
        return self._batch_part

    def add(self, tensor: Tensor) -> Tensor:
        """Sum over the processes; the tensor itself becomes the sum."""
        if self.are_several:
            dist.all_reduce(tensor)
        return tensor

    def add_all(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Sum over the processes of each of several tensors of one kind, in one message."""
        if not self.are_several:
            return dict(tensors)
        flat = self.add(torch.cat([tensor.reshape(-1) for tensor in tensors.values()]))
        parts = torch.split(flat, [tensor.numel() for tensor in tensors.values()])
        return {
            name: part.view_as(tensor)
            for (name, tensor), part in zip(tensors.items(), parts, strict=True)
        }

    def most(self, tensor: Tensor) -> Tensor:
        """Largest of every number over the processes; the tensor itself becomes that."""
        if self.are_several:
            dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return tensor

    def largest(self, *numbers: int) -> list[int]:
        """Largest of every number over the processes."""
        if not self.are_several:
            return list(numbers)
        # On the CPU, so that an accelerator need not finish what it is at.
        all_numbers = torch.tensor(numbers)
        dist.all_reduce(all_numbers, dist.ReduceOp.MAX)
        return [int(number) for number in all_numbers]

    def wait_for_all(self) -> None:
        """Return when all have come here."""
        self.largest(0)

    def meet(self) -> None:
        """Return when all have come here, be it after hours."""
        if self.are_several:
            dist.all_reduce(torch.zeros(1), group=self._patient)

    def gather(self, content: pa.Buffer) -> list[pa.Buffer]:
        """Give all the bytes of every process, in the order of their ranks."""
        if not self.are_several:
            return [content]
        sizes = torch.zeros(self.size, dtype=torch.int64)
        sizes[self.rank] = content.size
        dist.all_reduce(sizes, group=self._patient)
        found = []
        for rank, size in enumerate(sizes.tolist()):
            bytes_B = torch.empty(size, dtype=torch.uint8)
            if rank == self.rank:
                bytes_B.numpy()[:] = np.frombuffer(content, dtype=np.uint8)
            for piece in torch.split(bytes_B, _MESSAGE_BYTES):
                dist.broadcast(piece, rank, group=self._patient)
            found.append(pa.py_buffer(bytes_B.numpy()))
        return found

    def first_says(self, make: Callable[[], str]) -> str:
        """Let the first process make a text that all get.

        Raises
        ------
        KvaeError
            In all of them, where the first one raises it.
        """
        if not self.are_several:
            return make()
        said = b""
        if self.is_first:
            try:
                said = b"+" + make().encode()
            except KvaeError as error:
                said = b"-" + str(error).encode()
        (length,) = self.largest(len(said))
        text_B = torch.zeros(length, dtype=torch.uint8)
        if self.is_first:
            text_B = torch.frombuffer(bytearray(said), dtype=torch.uint8)
        dist.broadcast(text_B, 0)
        said = text_B.numpy().tobytes()
        if said.startswith(b"-"):
            raise KvaeError(said[1:].decode())
        return said[1:].decode()


def local_device(name: str) -> str:
    """Device of this process by name: one GPU each, where there are several processes.

    Raises
    ------
    KvaeError
        Where several processes cannot share what is asked for.
    """
    if not _are_launched():
        return name
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise KvaeError(f"several processes train on cpu or cuda, one GPU each, not on {name}")
    return name if name == "cpu" else f"cuda:{os.environ.get('LOCAL_RANK', '0')}"


def leads() -> bool:
    """Whether this process is to speak for all of its run."""
    return not _are_launched() or os.environ["RANK"] == "0"


def processes_here() -> int:
    """Count the processes of this run that share this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if _are_launched() else 1


@contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """Join the other processes, where a launcher such as torchrun started several.

    Yields
    ------
    Processes
        All of them, or this one alone.

    Raises
    ------
    KvaeError
        Where the others cannot be reached, or one of them stops.
    """
    if not _are_launched():
        yield Processes()
        return
    ours = not dist.is_initialized()
    try:
        if ours:
            if device.type == "cuda":
                torch.cuda.set_device(device)
            dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
        patient = dist.new_group(backend="gloo", timeout=_DAY)
        assert isinstance(patient, dist.ProcessGroup)
        yield Processes(dist.get_rank(), dist.get_world_size(), patient)
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            raise KvaeError("another process of this run has stopped: see its message") from error
        raise
    finally:
        if ours and dist.is_initialized():
            dist.destroy_process_group()


def _are_launched() -> bool:
    launched = all(name in os.environ for name in _LAUNCHED)
    return launched and int(os.environ["WORLD_SIZE"]) > 1
