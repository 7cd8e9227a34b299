"""Runs commands again and again in one process, each time with another system call failing.

Started by `test_faults` with the library of ``faults.c`` preloaded:
``python fault_driver.py SCENARIO FOLDER KINDS ERRNO STEP``. Prints a line of JSON per run.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from scenarios import SCENARIOS
from sequences import listing


class Faults:
    """The preloaded library."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)
        self._library.kvae_last.restype = ctypes.c_char_p

    @contextlib.contextmanager
    def at(self, n: int, error: int, kinds: int, shorten: bool = False) -> Iterator[None]:
        self._library.kvae_arm(ctypes.c_long(n), error, kinds, int(shorten))
        try:
            yield
        finally:
            self.hit = bool(self._library.kvae_hits())
            self.call = self._library.kvae_last().decode()
            self._library.kvae_arm(ctypes.c_long(0), 0, 0, 0)


def attempt(function: Callable[[], int]) -> tuple[int, str]:
    told = io.StringIO()
    with contextlib.redirect_stderr(told):
        try:
            code = function()
        except Exception as error:  # noqa: BLE001 - told
            return 99, f"{type(error).__name__}: {error}"
    return code, told.getvalue()


def sweep(name: str, folder: Path, kinds: int, error: int, step: int) -> None:
    scenario = SCENARIOS[name](folder)
    faults = Faults()
    scenario.prepare()
    code, told = attempt(scenario.act)
    assert code == 0, told
    scenario.learn()
    # Short reads and writes are no faults at all.
    scenario.prepare()
    with faults.at(0, 0, kinds, shorten=True):
        code, told = attempt(scenario.act)
    line: dict[str, Any] = {"n": 0, "call": "short", "code": code, "told": told, "left": []}
    print(json.dumps(line | {"state": scenario.state(), "after": 0}), flush=True)
    n = 1
    while True:
        scenario.prepare()
        before = set(listing(folder))
        with faults.at(n, error, kinds):
            code, told = attempt(scenario.act)
        if not faults.hit:
            break
        left = sorted(path for path in set(listing(folder)) - before if path.endswith(".tmp"))
        line = {"n": n, "call": faults.call, "code": code, "told": told, "left": left}
        after, complaint = attempt(scenario.go_on)
        line |= {"after": after, "complaint": complaint, "state": scenario.state()}
        print(json.dumps(line), flush=True)
        n += step


if __name__ == "__main__":
    scenario_name, where, *numbers = sys.argv[1:]
    sweep(scenario_name, Path(where), *map(int, numbers))
    os._exit(0)
