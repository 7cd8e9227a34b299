"""What torch can compute on."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

__all__ = ["device_facts"]


def device_facts() -> dict[str, Any]:
    """Devices, the one that a run would take, and how it would compute there.

    ``error`` says why torch cannot be used, where it cannot.
    """
    facts: dict[str, Any] = {
        "driver": _driver(),
        "cuda_build": None,
        "hip_build": None,
        "cuda": [],
        "mps": False,
        "run": None,
        "error": None,
    }
    try:
        import torch

        from kvae.device import resolve_device
        from kvae.training.precision import resolve_precision
    except (ImportError, OSError) as error:
        return facts | {"error": " ".join(str(error).split())}
    facts["cuda_build"] = torch.version.cuda
    facts["hip_build"] = torch.version.hip
    facts["mps"] = torch.backends.mps.is_available()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        if torch.cuda.is_available():
            facts["cuda"] = [_describe(torch, i) for i in range(torch.cuda.device_count())]
    facts["warnings"] = [" ".join(str(each.message).split()) for each in said]
    device = resolve_device("auto")
    facts["run"] = {
        "device": str(device),
        "precision": resolve_precision("auto", device).name,
        "compile": device.type == "cuda",
        "computes": _computes(torch, device),
    }
    return facts


def _describe(torch: Any, index: int) -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(index)
    free, total = torch.cuda.mem_get_info(index)
    return {
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "memory": total,
        "free": free,
    }


def _computes(torch: Any, device: Any) -> bool:
    """Whether a small product comes out right."""
    try:
        ones = torch.ones(64, 64, device=device)
        return bool(((ones @ ones) == 64.0).all())
    except RuntimeError:
        return False


def _driver() -> str | None:
    """Version of the NVIDIA driver, ``unknown`` if only its tool is there, None without."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "unknown" if shutil.which("nvidia-smi") else None
    words = text.splitlines()[0].split() if text else []
    return next((word for word in words if word[:1].isdigit() and "." in word), "unknown")
