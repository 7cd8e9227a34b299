"""What to do when a device has too little memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn

from kvae.errors import KvaeError

ModuleT = TypeVar("ModuleT", bound=nn.Module)

# The smallest batch that batch normalisation can use.
_SMALLEST = 2
# Share of the room that is planned with: allocators leave gaps.
_PLANNED = 0.9


@contextmanager
def memory_advice(batch_size: int, model: nn.Module, device: torch.device) -> Iterator[None]:
    """Turn an allocation that fails into a line of advice.

    Parameters
    ----------
    batch_size
        Rows per step.
    model
        The model that is trained.
    device
        Where it is.

    Raises
    ------
    KvaeError
        With a batch size that would fit.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        fits = batch_size // 2
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            fits = batch_that_fits(
                batch_size,
                fixed=_bytes_of(model),
                peak=torch.cuda.max_memory_allocated(device),
                room=free + torch.cuda.memory_reserved(device),
            )
        told = f"{device} has too little memory for this model in batches of {batch_size} rows"
        if fits < _SMALLEST:
            raise KvaeError(f"{told}: choose a smaller model or another --device") from None
        raise KvaeError(f"{told}: start again with --batch-size {fits}") from None


def is_out_of_memory(error: RuntimeError) -> bool:
    """Tell whether an allocation failed; a CPU has no exception of its own for it."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate" in str(error)


def moved_to(model: ModuleT, device: torch.device) -> ModuleT:
    """Move a model to a device.

    Raises
    ------
    KvaeError
        Where the device has too little memory for it.
    """
    try:
        return model.to(device)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        weights = sum(p.numel() * p.element_size() for p in model.parameters()) / 1e6
        raise KvaeError(
            f"{device} has too little memory for a model of {weights:,.0f} MB: choose a smaller"
            " model or another --device"
        ) from None


def batch_that_fits(batch_size: int, *, fixed: int, peak: int, room: int) -> int:
    """Estimate the number of rows for which the memory would have been enough.

    Parameters
    ----------
    batch_size
        Rows for which it was not.
    fixed
        Bytes that do not depend on it.
    peak
        Most bytes in use before the allocation that failed: the whole need is more,
        so at most half of the rows can be promised.
    room
        Bytes that could be had.
    """
    per_row = max(peak - fixed, 1) / batch_size
    return max(0, min(batch_size // 2, int((_PLANNED * room - fixed) / per_row)))


def _bytes_of(model: nn.Module) -> int:
    """Bytes of the weights, their gradients and their two moments, and of the buffers."""
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    return 4 * weights + sum(b.numel() * b.element_size() for b in model.buffers())
