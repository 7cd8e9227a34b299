"""The same bits every time, on devices where that is not so by itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from kvae.errors import KvaeError

__all__ = ["deterministic"]


@contextmanager
def deterministic(asked: bool) -> Iterator[None]:
    """Allow only operations that give the same bits every time, if `asked`.

    On a CPU all that kvae uses are; on CUDA sums may come in another order otherwise.

    Raises
    ------
    KvaeError
        For an operation that the device has in no such form.
    """
    if not asked:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    # cuBLAS asks for this before its first product, and keeps to it from then on.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    try:
        yield
    except RuntimeError as error:
        if "deterministic" not in str(error):
            raise
        reason = str(error).split(". ", 1)[0]
        raise KvaeError(f"{reason}: leave --deterministic out, or use --device cpu") from error
    finally:
        torch.use_deterministic_algorithms(before)
