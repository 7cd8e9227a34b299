"""Kills commands at random moments, each in a process forked for it, and looks at what is left.

Started by `test_kills`: ``python kill_driver.py SCENARIO FOLDER SIGNAL TIMES``. Prints a line
of JSON per kill.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
import warnings
from pathlib import Path
from typing import NoReturn

from fault_driver import attempt
from scenarios import SCENARIOS, Featurize, Merge, Scenario
from sequences import fasta, listing, random_sequence, write


class FeaturizeMore(Featurize):
    """Enough to be killed in the middle of."""

    options = ("--store", "log", "-t", "2")

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        for i in range(40):
            write(folder / f"in/{i}.fa", fasta([(f"r{i}", random_sequence(250_000, i))]))


class MergeMore(Merge):
    """The same, of shards that take longer."""

    n_letters = 3_000_000


SCENARIOS |= {"featurize more": FeaturizeMore, "merge more": MergeMore}


def terminate(number: int, frame: object) -> NoReturn:
    """Leave as the program does."""
    sys.exit(128 + number)


def child(scenario: Scenario, told: Path) -> int:
    """Do it in a process of its own, which has a terminal's signal handlers."""
    # A signal waits until the child has its own handlers, and is then the command's.
    signals = {signal.SIGINT, signal.SIGTERM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return pid
    handle = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, terminate)
    code = 99
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
        code = scenario.act()
    except KeyboardInterrupt as interruption:
        code = getattr(interruption, "exit_code", 130)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 99
    except BaseException as error:  # noqa: BLE001 - told
        print(f"Traceback: {error!r}", file=sys.stderr)
    finally:
        sys.stderr.flush()
        os._exit(code)


def kill(name: str, folder: Path, number: int, times: int) -> None:
    scenario = SCENARIOS[name](folder)
    told = folder.with_name("told")
    rng = random.Random(f"{name} {number}")
    # Once here, so that the children spend their time on what matters.
    scenario.prepare()
    code, complaint = attempt(scenario.act)
    assert code == 0, complaint
    seconds = []
    for _ in range(3):
        scenario.prepare()
        start = time.monotonic()
        _, status = os.waitpid(child(scenario, told), 0)
        seconds.append(time.monotonic() - start)
        assert status == 0, told.read_text()
    scenario.learn()
    for _ in range(times):
        scenario.prepare()
        before = set(listing(folder))
        pid = child(scenario, told)
        time.sleep(rng.uniform(0.0, 1.1 * min(seconds)))
        os.kill(pid, number)
        _, status = os.waitpid(pid, 0)
        left = [path for path in set(listing(folder)) - before if path.endswith(".tmp")]
        line = {"code": os.waitstatus_to_exitcode(status), "told": told.read_text(), "left": left}
        after, complaint = attempt(scenario.go_on)
        line |= {"after": after, "complaint": complaint, "state": scenario.state()}
        remaining = [path for path in listing(folder) if path.endswith(".tmp")]
        line["remaining"] = remaining if name == "train" else []
        for path in left:
            if (folder / path).is_dir():
                shutil.rmtree(folder / path)
            else:
                (folder / path).unlink(missing_ok=True)
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    # The children start no thread before they fork, nor does this process.
    warnings.simplefilter("ignore", DeprecationWarning)
    scenario_name, where, number, times = sys.argv[1:]
    kill(scenario_name, Path(where), int(number), int(times))
    os._exit(0)
