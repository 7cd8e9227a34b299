"""Processors, memory and folders, as the operating system tells of them."""

from __future__ import annotations

import mmap
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from kvae import _core
from kvae.errors import KvaeError
from kvae.system import memory

__all__ = ["folder_facts", "memory_facts", "processor_facts", "simd_facts"]

BACKENDS = ("scalar", "avx2", "avx512")
# Variables that decide how many threads libraries start, or which instructions are used.
VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
_OVERRIDE = "KVAE_SIMD"
_BLOCK = 4096
# One count of every backend, in a process of its own: instructions that a machine says it
# has and has not end a process.
_COUNT = """
from kvae import _core
counts = _core.count_kmers(["ACGTTGCAAC" * 500], 7, 1, None)
print(_core.backend(), int(counts.sum()), int((counts > 0).sum()))
"""


def processor_facts() -> dict[str, Any]:
    """Name and number of CPUs, and how many of them this process may use."""
    cpus = os.cpu_count() or 1
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cpus
    return {
        "name": _processor_name(),
        "cpus": cpus,
        "affinity": affinity,
        "cgroup": _cpu_quota(),
        "threads": _core.available_threads(),
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def _processor_name() -> str:
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cpu_quota() -> float | None:
    """CPUs that a control group leaves, None where it sets no limit."""
    for line in _lines(Path("/sys/fs/cgroup/cpu.max")):
        quota, _, period = line.partition(" ")
        return None if quota == "max" else int(quota) / int(period)
    folder = Path("/sys/fs/cgroup/cpu")
    quotas = _lines(folder / "cpu.cfs_quota_us")
    periods = _lines(folder / "cpu.cfs_period_us")
    if quotas and periods and int(quotas[0]) > 0:
        return int(quotas[0]) / int(periods[0])
    return None


def simd_facts() -> dict[str, Any]:
    """Which instructions the kernels use, and which of them work here."""
    facts: dict[str, Any] = {"forced": os.environ.get(_OVERRIDE) or None}
    try:
        facts["active"] = _core.backend()
    except KvaeError as error:
        facts["active"], facts["error"] = None, str(error)
    counts = {name: _count_with(name) for name in BACKENDS}
    facts["available"] = [name for name, count in counts.items() if count is not None]
    facts["agree"] = len({count for count in counts.values() if count is not None}) == 1
    return facts


def _count_with(backend: str) -> str | None:
    """Count with a backend in another process; what it says, None where it cannot."""
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = os.environ | {_OVERRIDE: backend, "PYTHONPATH": paths}
    try:
        result = subprocess.run(
            [sys.executable, "-c", _COUNT],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    name, _, counts = result.stdout.strip().partition(" ")
    return counts if result.returncode == 0 and name == backend else None


def memory_facts() -> dict[str, Any]:
    """Memory of the machine and what is left of it, and the control group's limit, in bytes."""
    facts: dict[str, Any] = {"total": None, "available": None, "cgroup": None}
    names = {"MemTotal:": "total", "MemAvailable:": "available"}
    for line in _lines(Path("/proc/meminfo")):
        name, *rest = line.split()
        if name in names:
            facts[names[name]] = int(rest[0]) * 1024
    if facts["total"] is None and (found := memory()):
        facts["total"], facts["available"] = found
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        for line in _lines(Path(path)):
            # Without a limit version 1 gives a number that no machine has.
            if line.isdecimal() and int(line) < (facts["total"] or 1 << 60):
                facts["cgroup"] = int(line)
    return facts


def folder_facts(folder: Path) -> dict[str, Any]:
    """Free space of a folder in bytes, and how files can be written in it."""
    facts: dict[str, Any] = {"path": str(folder.resolve()), "free": None}
    if not folder.is_dir():
        return facts | {"writable": False, "direct": False}
    facts["free"] = shutil.disk_usage(folder).free
    try:
        with tempfile.NamedTemporaryFile(prefix=".kvae.", suffix=".tmp", dir=folder) as file:
            return facts | {"writable": True, "direct": _writes_directly(file.name)}
    except OSError:
        return facts | {"writable": False, "direct": False}


def _writes_directly(path: str) -> bool:
    """Whether a file can be written past the page cache, as feature files are."""
    if not hasattr(os, "O_DIRECT"):
        return False
    try:
        handle = os.open(path, os.O_WRONLY | os.O_DIRECT)
    except OSError:
        return False
    try:
        # Memory that is mapped begins at a page, which is what the device wants.
        with mmap.mmap(-1, _BLOCK) as block:
            return os.write(handle, block) == _BLOCK
    except OSError:
        return False
    finally:
        os.close(handle)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
