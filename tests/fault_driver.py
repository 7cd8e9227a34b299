"""Runs commands again and again in one process, each time with another system call failing.

Started by `test_faults` with the library of ``faults.c`` preloaded:
``python fault_driver.py SCENARIO FOLDER KINDS ERRNO STEP``. Prints a line of JSON per run.
"""

from __future__ import annotations

import contextlib
import ctypes
import gzip
import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kvae.cli import main
from kvae.errors import KvaeError
from sequences import fasta, listing, random_sequence, write

OLD = b"precious"


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


class Scenario:
    """Something to do in a folder, and the file it is to make."""

    output = "out.arrow"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def prepare(self) -> None:
        """Make the folder as it is before."""

    def act(self) -> int:
        """Do it; the exit code."""
        raise NotImplementedError

    def go_on(self) -> int:
        """Do what a user would do next, without faults."""
        return 0

    def state(self) -> str:
        """What is in the output: ``old``, ``new`` or something else."""
        content = (self.folder / self.output).read_bytes()
        return "old" if content == OLD else "new" if content == self.expected else "broken"

    def learn(self) -> None:
        """Keep what comes out where nothing fails."""
        self.expected = (self.folder / self.output).read_bytes()


def command(*arguments: str) -> int:
    sys.argv = ["kvae", *arguments]
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0


class Featurize(Scenario):
    """Two files, one compressed, to a feature file that is there already."""

    options: tuple[str, ...] = ()

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        text = fasta([("b", random_sequence(1_500, 2)), ("c", "ACGTN" * 300)])
        write(folder / "in/a.fa", fasta([("a", random_sequence(2_000, 1))]))
        write(folder / "in/b.fa.gz", gzip.compress(text))

    def prepare(self) -> None:
        (self.folder / self.output).write_bytes(OLD)

    def act(self) -> int:
        output = str(self.folder / self.output)
        where = str(self.folder / "in")
        options = ["--k", "3", "--window", "100", "-t", "2", "--force", "-q", "-o", output]
        return command("featurize", where, *options, *self.options)


class Encode(Scenario):
    """The pretrained model on a small file."""

    output = "latent.arrow"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        write(folder / "a.fa", fasta([("a", random_sequence(12_000, 1))]))
        self.input = "a.fa"

    def prepare(self) -> None:
        (self.folder / self.output).write_bytes(OLD)

    def act(self) -> int:
        output = str(self.folder / self.output)
        options = ["--device", "cpu", "-t", "1", "--force", "-q", "-o", output]
        return command("encode", "--pretrained", str(self.folder / self.input), *options)


class EncodeFeatures(Encode):
    """The same from a feature file, as a table."""

    output = "latent.tsv.gz"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.input = "feats.arrow"
        path = str(folder / self.input)
        assert command("featurize", str(folder / "a.fa"), "-q", "-o", path) == 0


class Train(Scenario):
    """A short run, and what --resume makes of it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        from small import make_layout, make_store, small_run

        self.store = make_store(make_layout(96, 20, 8), [9, 8, 10, 7])
        self.config = small_run(epochs=2)
        self.whole = folder.with_name("whole")

    def prepare(self) -> None:
        shutil.rmtree(self.folder / "run", ignore_errors=True)

    def _run(self, **options: Any) -> int:
        from training_runs import run

        try:
            run(self.store, self.folder / "run", config=self.config, **options)
        except KvaeError as error:
            print(f"kvae: error: {error}", file=sys.stderr)
            return 1
        return 0

    def act(self) -> int:
        return self._run()

    def go_on(self) -> int:
        return self._run(resume=True)

    def learn(self) -> None:
        shutil.copytree(self.folder / "run", self.whole)

    def state(self) -> str:
        from training_runs import assert_same_run

        # The folder may not have been flushed when the older one was to go.
        *older, _ = sorted((self.folder / "run/checkpoints").iterdir())
        for path in older:
            path.unlink()
        try:
            assert_same_run(self.folder / "run", self.whole)
        except AssertionError:
            return "broken"
        return "new"


class FeaturizePacked(Featurize):
    """The same, of sequences only, on one thread."""

    options = ("--store", "packed", "-t", "1")


SCENARIOS: dict[str, Callable[[Path], Scenario]] = {
    "featurize": Featurize,
    "featurize packed": FeaturizePacked,
    "encode": Encode,
    "encode features": EncodeFeatures,
    "train": Train,
}


def attempt(function: Callable[[], int]) -> tuple[int, str]:
    told = io.StringIO()
    with contextlib.redirect_stderr(told):
        try:
            code = function()
        except Exception as error:
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
