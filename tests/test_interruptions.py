"""Ctrl-C and SIGTERM are what the program ends for, whatever libraries make of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from subprocess import PIPE
from typing import NoReturn

import numpy as np
import pytest

from kvae import cli
from kvae.cli import stopping
from kvae.errors import KvaeError
from kvae.interruptions import kept_interruptions
from kvae.nearest import GraphIndex, unit_rows

SIGNALS = [signal.SIGINT, signal.SIGTERM]
on_unix = pytest.mark.skipif(sys.platform == "win32", reason="nobody watches signals there")


def terminate(number: int, frame: object) -> NoReturn:
    sys.exit(128 + number)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """A terminal's handlers, and those of before at the end."""
    former = {number: signal.getsignal(number) for number in SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, terminate)
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


def hide(number: signal.Signals, kind: type[Exception]) -> None:
    """Do as a library does that makes an error of its own of an interruption."""
    try:
        os.kill(os.getpid(), number)
        signal.pause()
    except BaseException:  # noqa: BLE001 - what is tested
        raise kind("Operation has been terminated") from None


def reaction(number: signal.Signals) -> type[BaseException]:
    return KeyboardInterrupt if number == signal.SIGINT else SystemExit


@pytest.mark.parametrize("number", SIGNALS)
def test_an_interruption_is_told_from_an_error(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(reaction(number)) as end, kept_interruptions():
        hide(number, RuntimeError)
    assert getattr(end.value, "code", 143) == 143
    assert signal.getsignal(number) is before
    with pytest.raises(RuntimeError, match="of its own"), kept_interruptions():
        raise RuntimeError("of its own")


@pytest.mark.parametrize("number", SIGNALS)
def test_an_ignored_signal_stays_ignored(number: signal.Signals) -> None:
    signal.signal(number, signal.SIG_IGN)
    with kept_interruptions():
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) == signal.SIG_IGN


def test_other_threads_have_no_handlers_to_keep() -> None:
    done = []

    def act() -> None:
        with kept_interruptions():
            done.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=act)
    thread.start()
    thread.join()
    assert done == [signal.default_int_handler]


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("what", ["build", "search"])
def test_a_graph_of_neighbours_can_be_interrupted(number: signal.Signals, what: str) -> None:
    vectors = unit_rows(np.random.default_rng(0).normal(size=(19_000, 48)).astype(np.float32))
    graph = GraphIndex.build(vectors[:2_000], 1)

    def compute() -> None:
        threading.Timer(0.1, os.kill, (os.getpid(), number)).start()
        while True:
            if what == "build":
                GraphIndex.build(vectors, 1)
            else:
                graph.nearest(vectors, 10)

    with pytest.raises(reaction(number)):
        compute()


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize(
    "kind", [KeyboardInterrupt, RuntimeError, AttributeError, KvaeError, OSError, MemoryError]
)
def test_the_program_says_that_it_was_stopped(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
    kind: type[Exception],
) -> None:
    def run(**_: object) -> None:
        hide(number, kind)

    monkeypatch.setattr(cli, "speak_utf8", lambda: None)
    monkeypatch.setattr(cli, "_program_for", lambda _: run)
    before = [signal.getsignal(each) for each in (*SIGNALS, signal.SIGALRM)]
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 128 + number
    assert [signal.getsignal(each) for each in (*SIGNALS, signal.SIGALRM)] == before
    how = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
    assert capsys.readouterr().err == f"kvae: {how[number]}\n"


def test_what_was_done_when_the_signal_came_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(**_: object) -> None:
        with suppress(RuntimeError):
            hide(signal.SIGTERM, RuntimeError)
        sys.exit(0)

    monkeypatch.setattr(cli, "speak_utf8", lambda: None)
    monkeypatch.setattr(cli, "_program_for", lambda _: run)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0


@pytest.mark.parametrize("number", SIGNALS)
def test_an_interruption_that_was_dropped_comes_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    class Dropping:
        def __del__(self) -> None:
            # Python tells of what is raised here, and goes on.
            os.kill(os.getpid(), number)
            signal.pause()

    cleaned = []

    def run(**_: object) -> None:
        Dropping()
        try:
            time.sleep(20)
        finally:
            time.sleep(0.3)
            cleaned.append(True)

    monkeypatch.setattr(stopping, "_PATIENCE", 0.05)
    monkeypatch.setattr(cli, "speak_utf8", lambda: None)
    monkeypatch.setattr(cli, "_program_for", lambda _: run)
    start = time.monotonic()
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 128 + number
    assert time.monotonic() - start < 15
    assert cleaned
    assert "Exception ignored" not in capsys.readouterr().err


# Computes without end, and without Python hearing of anything meanwhile.
DEAF = """
import collections, itertools, signal, sys
from kvae.atomic import atomic_folder, atomic_output
from kvae.cli import stopping

kind, stopping._DEAF_SECONDS, stopping._PATIENCE = sys.argv[1], *map(float, sys.argv[2:])
if kind == "ignoring":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
with stopping.stoppable(), atomic_output("out.arrow") as file, atomic_folder("folder") as folder:
    file.write_text("half")
    (folder / "part").write_text("half")
    print("ready", flush=True)
    if kind != "hearing":
        collections.deque(itertools.repeat(0), 0)
    try:
        signal.pause()
    finally:
        print("cleaning", flush=True)
        sys.stdin.read()
"""


def deaf_program(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", DEAF, *arguments]
    program = subprocess.Popen(command, cwd=folder, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True)
    assert program.stdout is not None
    assert program.stdout.readline() == "ready\n"
    # It has begun to compute by now, or will have been told before.
    time.sleep(0.3)
    return program


@pytest.mark.parametrize("number", SIGNALS)
@on_unix
def test_a_program_that_does_not_hear_ends_nevertheless(
    tmp_path: Path, number: signal.Signals
) -> None:
    program = deaf_program(tmp_path, "deaf", "0.5", "0.2")
    program.send_signal(number)
    _, said = program.communicate(timeout=60)
    assert program.returncode == 128 + number
    word = "interrupted" if number == signal.SIGINT else "terminated"
    assert said == f"kvae: {word}\n"
    assert not list(tmp_path.iterdir())


@on_unix
def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    program = deaf_program(tmp_path, "deaf", "600", "0.2")
    program.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert program.poll() is None
    program.send_signal(signal.SIGTERM)
    _, said = program.communicate(timeout=60)
    assert (program.returncode, said) == (143, "kvae: terminated\n")
    assert not list(tmp_path.iterdir())


@on_unix
def test_a_program_that_hears_may_take_its_time(tmp_path: Path) -> None:
    program = deaf_program(tmp_path, "hearing", "2", "60")
    program.send_signal(signal.SIGTERM)
    assert program.stdout is not None
    assert program.stdout.readline() == "cleaning\n"
    # Longer than it would be waited for.
    time.sleep(3)
    assert program.poll() is None
    _, said = program.communicate("", timeout=60)
    assert (program.returncode, said) == (143, "kvae: terminated\n")
    assert not list(tmp_path.iterdir())


@on_unix
def test_a_program_that_ignores_ctrl_c_goes_on(tmp_path: Path) -> None:
    program = deaf_program(tmp_path, "ignoring", "0.2", "0.1")
    program.send_signal(signal.SIGINT)
    time.sleep(0.8)
    assert program.poll() is None
    program.send_signal(signal.SIGTERM)
    assert program.wait(timeout=60) == 143
    program.communicate()


@on_unix
def test_signals_of_children_are_theirs() -> None:
    code = """
import os, signal, time
from kvae.system import watched_signals
with watched_signals(0.2, 0.1):
    child = os.fork()
    if child == 0:
        assert signal.set_wakeup_fd(-1) == -1
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert signal.set_wakeup_fd(-1) != -1
print("done")
"""
    # Newer Pythons warn of forks where there are other threads.
    command = [sys.executable, "-W", "ignore", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("done\n", "")
