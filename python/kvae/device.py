"""Where torch computes: devices and threads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from kvae import _core
from kvae.errors import KvaeError


def resolve_device(name: str) -> torch.device:
    """Turn a device name into a device that exists here.

    Parameters
    ----------
    name
        ``auto`` (CUDA, else MPS, else CPU), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Raises
    ------
    KvaeError
        For an unknown name, and for a device asked for by name that is missing.
    """
    has_mps = torch.backends.mps.is_available()
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if has_mps else "cpu")
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", name):
        raise KvaeError(f"unknown device {name!r}: use auto, cpu, cuda, cuda:N or mps")
    device = torch.device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        index = 0 if device.index is None else device.index
        if index >= count:
            found = f"only {count} CUDA device(s)" if count else "no CUDA device"
            raise KvaeError(f"device {name!r} is not there: torch sees {found}")
        return torch.device("cuda", index)
    if device.type == "mps" and not has_mps:
        raise KvaeError("device 'mps' is not there: torch sees no Apple GPU")
    return device


@contextmanager
def torch_threads(threads: int | None) -> Iterator[int]:
    """Let torch use a number of threads, all that are available where None.

    Yields the number; the caller's setting returns at the end.

    Raises
    ------
    KvaeError
        For fewer than one thread.
    """
    if threads is not None and threads < 1:
        raise KvaeError(f"threads must be at least 1, got {threads}")
    before = torch.get_num_threads()
    wanted = threads or _core.available_threads()
    torch.set_num_threads(wanted)
    try:
        yield wanted
    finally:
        torch.set_num_threads(before)
