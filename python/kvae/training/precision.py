"""The numbers that the hidden layers of a step are computed in.

Whatever they are, weights, optimizer, batch statistics, the outputs of encoder
and decoder, logarithms and the loss are float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from kvae.errors import KvaeError

_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Precision:
    """A precision on a device.

    Attributes
    ----------
    name
        ``fp32``, ``tf32`` (float32 with products rounded to 11 bits), ``bf16`` or
        ``fp16``.
    device
        Kind of device.
    """

    name: str
    device: str

    def autocast(self) -> torch.autocast:
        """Make a context in which layers compute in half precision, if that is asked for."""
        half = _HALF.get(self.name)
        available = torch.amp.is_autocast_available(self.device)
        device = self.device if available else "cpu"
        return torch.autocast(device, dtype=half, enabled=half is not None)

    def scaler(self) -> torch.amp.GradScaler:
        """Make what keeps small gradients from vanishing in fp16; it does nothing otherwise."""
        return torch.amp.GradScaler(self.device, enabled=self.name == "fp16")

    @contextmanager
    def products(self) -> Iterator[None]:
        """Let CUDA round the factors of float32 products, or not; undone at the end.

        With bf16 and fp16 these are the products that are too delicate for half
        precision, not for this.
        """
        cudnn = torch.backends.cudnn
        before = torch.get_float32_matmul_precision(), cudnn.allow_tf32
        rounded = self.device == "cuda" and self.name != "fp32"
        torch.set_float32_matmul_precision("high" if rounded else "highest")
        cudnn.allow_tf32 = rounded
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before[0])
            cudnn.allow_tf32 = before[1]


def resolve_precision(name: str, device: torch.device) -> Precision:
    """Turn a name into a precision that the device has.

    Parameters
    ----------
    name
        ``auto`` is bf16 on CUDA devices that compute in it, tf32 on others, and
        fp32 everywhere else.
    device
        Where to compute.

    Raises
    ------
    KvaeError
        Where the device cannot compute in it.
    """
    kind = device.type
    if name == "auto":
        name = "fp32"
        if kind == "cuda":
            with torch.cuda.device(device):
                native = torch.cuda.is_bf16_supported(including_emulation=False)
            name = "bf16" if native else "tf32"
    able = {"cuda": ("fp32", "tf32", "bf16", "fp16"), "cpu": ("fp32", "bf16")}.get(kind, ("fp32",))
    if name not in able:
        raise KvaeError(
            f"precision {name} is not for {device}: there it can be {' or '.join(able)}"
        )
    return Precision(name, kind)
