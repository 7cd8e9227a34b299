"""What is in the way, in words that say what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["advice", "problems"]

_GB = 1e9
_LITTLE_SPACE = 5 * _GB
_LITTLE_MEMORY = 2 * _GB


def problems(facts: Mapping[str, Any]) -> Iterator[str]:
    """Say what keeps kvae from working."""
    simd, devices, packages = facts["simd"], facts["devices"], facts["packages"]
    if simd["active"] is None:
        yield f"{simd['error']}, or unset the variable"
    if not simd["available"]:
        yield "counting fails with every kind of instructions: install kvae again"
    elif not simd["agree"]:
        yield (
            "counts differ between kinds of instructions: set KVAE_SIMD=scalar, and report it "
            "with the output of kvae doctor --json"
        )
    if devices["error"]:
        yield f"torch cannot be loaded ({devices['error']}): install it again"
    elif not devices["run"]["computes"]:
        yield (
            f"torch computes wrongly, or not at all, on {devices['run']['device']}: use "
            "--device cpu, and look at the driver"
        )
    missing = [name for name, version in packages["required"].items() if version is None]
    if missing:
        yield f"missing packages: pip install {' '.join(missing)}"


def advice(facts: Mapping[str, Any]) -> Iterator[str]:
    """Say what works, but not as well as it could."""
    yield from _about_processors(facts)
    yield from _about_memory(facts)
    yield from _about_devices(facts["devices"])
    yield from _about_folder(facts["folder"])


def _about_processors(facts: Mapping[str, Any]) -> Iterator[str]:
    simd, cpu = facts["simd"], facts["processor"]
    if simd["forced"] and simd["active"] and simd["active"] != (simd["available"] or [""])[-1]:
        yield (
            f"KVAE_SIMD={simd['forced']} holds counting back: this machine also has "
            f"{simd['available'][-1]}"
        )
    elif simd["available"] == ["scalar"]:
        yield "this CPU has neither AVX2 nor AVX-512: counting works, but slower"
    if cpu["threads"] < cpu["cpus"]:
        reason = "its affinity" if cpu["affinity"] < cpu["cpus"] else "its control group"
        yield (
            f"{cpu['threads']} of {cpu['cpus']} CPUs may be used, which {reason} decides: ask for "
            "more when the job or container is started"
        )
    held = {name: value for name, value in cpu["variables"].items() if name.endswith("THREADS")}
    for name, value in held.items():
        if value != str(cpu["threads"]):
            yield f"{name}={value} is for other libraries: kvae's --threads decides for kvae"


def _about_memory(facts: Mapping[str, Any]) -> Iterator[str]:
    memory = facts["memory"]
    limit = min(filter(None, (memory["cgroup"], memory["available"])), default=None)
    if limit is not None and limit < _LITTLE_MEMORY:
        yield f"{limit / _GB:.1f} GB of memory are left: training needs about 2 GB"


def _about_devices(devices: Mapping[str, Any]) -> Iterator[str]:
    if devices["error"]:
        return
    if devices["cuda"]:
        return
    hidden = "CUDA_VISIBLE_DEVICES"
    if devices["cuda_build"] and devices["driver"] is None:
        yield (
            f"torch is built for CUDA {devices['cuda_build']}, and this machine has no NVIDIA "
            "driver: runs use the CPU (right where there is no GPU; otherwise install the driver)"
        )
    elif devices["cuda_build"]:
        yield (
            f"there is an NVIDIA driver ({devices['driver']}), but torch, built for CUDA "
            f"{devices['cuda_build']}, sees no device: the driver may be too old, or {hidden} "
            "hides it"
        )
    elif devices["driver"]:
        yield (
            f"there is an NVIDIA driver ({devices['driver']}), but torch is built for the CPU: "
            "install a build of torch for CUDA"
        )
    yield from devices["warnings"]


def _about_folder(folder: Mapping[str, Any]) -> Iterator[str]:
    if not folder["writable"]:
        yield f"{folder['path']}: cannot be written to: name outputs elsewhere with -o"
        return
    if folder["free"] < _LITTLE_SPACE:
        yield (
            f"{folder['path']}: {folder['free'] / _GB:.1f} GB free; features of a gigabase take "
            "7 GB, or 0.3 GB with --store packed"
        )
    if not folder["direct"]:
        yield (
            f"{folder['path']}: this file system cannot write past the page cache: feature files "
            "are written, but slower"
        )
