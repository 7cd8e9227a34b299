"""Runs a command again and again, each time with another allocation of the Rust half failing.

Started by `test_scarce_memory` with the library of ``scarce.c`` preloaded:
``python scarce_driver.py SCENARIO FOLDER BYTES LASTING RUNS``. Every run is a process of its
own, as it may end; so many are made at most, evenly spread. Prints a line of JSON per run.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from kvae import _core
from scenarios import SCENARIOS
from sequences import listing

PATIENCE = 120.0
STUCK = 98


def extension() -> tuple[int, int]:
    """Addresses of the extension module's code."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, rights, *_, path = line.split(maxsplit=5)
        if "x" in rights and path == _core.__file__:
            start, end = addresses.split("-")
            return int(start, 16), int(end, 16)
    raise AssertionError("the extension module is not there")


class Allocations:
    """The preloaded library."""

    def __init__(self, least: int, lasting: bool) -> None:
        self._library = ctypes.CDLL(None)
        self._library.kvae_asked.restype = ctypes.c_long
        self._code = [ctypes.c_size_t(address) for address in extension()]
        self._least, self._lasting = ctypes.c_size_t(least), int(lasting)

    def fail(self, n: int) -> None:
        """Make the nth one from now on fail; none where it is 0."""
        self._library.kvae_scarce(ctypes.c_long(n), self._lasting, *self._code, self._least)

    @property
    def asked(self) -> int:
        """How many there were since."""
        return int(self._library.kvae_asked())


def in_a_process(act: Callable[[], int]) -> tuple[int, str]:
    """Exit code (that of a shell where a signal ended it) and what was told."""
    with tempfile.TemporaryFile() as told:
        child = os.fork()
        if not child:
            os.dup2(told.fileno(), 2)
            code = 99
            try:
                code = act()
            finally:
                sys.stderr.flush()
                os._exit(code)
        end = time.monotonic() + PATIENCE
        while not (ended := os.waitpid(child, os.WNOHANG))[0]:
            if time.monotonic() > end:
                os.kill(child, 9)
                os.waitpid(child, 0)
                return STUCK, ""
            time.sleep(0.002)
        told.seek(0)
        code = os.waitstatus_to_exitcode(ended[1])
        return code if code >= 0 else 128 - code, told.read().decode()


def sweep(name: str, folder: Path, least: int, lasting: bool, runs: int) -> None:
    scenario = SCENARIOS[name](folder)
    allocations = Allocations(least, lasting)
    asked = mmap.mmap(-1, 8)

    def act(n: int) -> int:
        allocations.fail(n)
        code = scenario.act()
        asked[:] = allocations.asked.to_bytes(8, "little")
        return code

    scenario.prepare()
    assert scenario.act() == 0
    scenario.learn()
    scenario.prepare()
    code, told = in_a_process(lambda: act(0))
    assert code == 0, told
    total = int.from_bytes(asked[:], "little")
    step = max(1, total // runs)
    for n in range(1, total + 1, step):
        scenario.prepare()
        before = set(listing(folder))
        asked[:] = bytes(8)
        code, told = in_a_process(lambda n=n: act(n))  # type: ignore[misc]
        if 0 < int.from_bytes(asked[:], "little") < n:
            # Threads need not ask for as much every time.
            continue
        left = sorted(path for path in set(listing(folder)) - before if path.endswith(".tmp"))
        line = {"n": n, "of": total, "code": code, "told": told, "left": left}
        print(json.dumps(line | {"state": scenario.state()}), flush=True)


if __name__ == "__main__":
    scenario_name, where, *numbers = sys.argv[1:]
    bytes_at_least, is_lasting, at_most = map(int, numbers)
    sweep(scenario_name, Path(where), bytes_at_least, bool(is_lasting), at_most)
    os._exit(0)
