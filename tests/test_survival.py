"""Runs that are stopped, killed or fail at any step, and what they go on with."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from kvae.config import RunConfig
from kvae.epoch_progress import TrainProgress
from kvae.errors import KvaeError
from kvae.training import stops
from kvae.training.run import TrainingInterrupted
from small import MemoryStore, small_run
from training_runs import Finished, assert_same_run, checkpoint, lines, run

EPOCHS = 3
CONFIG = small_run(epochs=EPOCHS)


class At(TrainProgress):
    """Does something once, after a number of batches of training and validation."""

    def __init__(self, batch: int, action: Callable[[], None]) -> None:
        self.batches = 0
        self._batch = batch
        self._action = action
        self._counts = False

    def begin(self, label: str, rows: int) -> None:
        self._counts = label != "reading"

    def advance(self, rows: int) -> None:
        self.batches += self._counts
        if self._counts and self.batches == self._batch:
            self._action()


def send(number: signal.Signals) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


def fail() -> None:
    raise RuntimeError("out of luck")


@pytest.fixture(scope="module")
def whole(store: MemoryStore, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A run that nothing happened to, and how many batches it had."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    count = At(0, fail)
    run(store, folder, config=CONFIG, progress=count)
    return folder, count.batches


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_stopped_after_any_batch_goes_on_to_the_same_end(
    store: MemoryStore, whole: tuple[Path, int], tmp_path: Path, number: signal.Signals
) -> None:
    expected, n_batches = whole
    first = 1 if number == signal.SIGINT else 2
    for batch in range(first, n_batches, 2):
        folder = tmp_path / str(batch)
        with pytest.raises(TrainingInterrupted, match=r"--resume goes on") as caught:
            run(store, folder, config=CONFIG, progress=At(batch, send(number)))
        assert caught.value.exit_code == 128 + number
        (file,) = (folder / "checkpoints").iterdir()
        assert "-step-" in file.name
        run(store, folder, config=CONFIG, resume=True)
        assert_same_run(folder, expected)


def test_a_run_that_fails_after_any_batch_goes_on_from_its_last_checkpoint(
    store: MemoryStore, whole: tuple[Path, int], tmp_path: Path
) -> None:
    expected, n_batches = whole
    # Due at once: a checkpoint after every step.
    often = CONFIG.model_copy(
        update={"training": CONFIG.training.model_copy(update={"checkpoint_minutes": 1e-9})}
    )
    for batch in range(1, n_batches + 1, 3):
        folder = tmp_path / str(batch)
        with pytest.raises(RuntimeError, match="out of luck"):
            run(store, folder, config=often, progress=At(batch, fail))
        step = json.loads(checkpoint(folder)[1]["state"])["step"]
        assert step > 0
        # How often is not part of what a run is.
        run(store, folder, config=CONFIG, resume=True)
        assert_same_run(folder, expected)


def test_a_run_stopped_again_and_again_comes_to_the_same_end(
    store: MemoryStore, whole: tuple[Path, int], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    stopped = 0
    while True:
        try:
            run(store, folder, config=CONFIG, resume=True, progress=At(4, send(signal.SIGTERM)))
        except TrainingInterrupted:
            stopped += 1
        else:
            break
    assert stopped >= 4
    assert_same_run(folder, whole[0])


def test_the_message_says_how_far_the_run_has_come(store: MemoryStore, tmp_path: Path) -> None:
    with pytest.raises(TrainingInterrupted, match=r"^interrupted; .* holds 0 finished epoch\(s\)"):
        run(store, tmp_path / "a", config=CONFIG, progress=At(2, send(signal.SIGINT)))
    with pytest.raises(TrainingInterrupted, match=r"^terminated; .* 3 step\(s\) of the next"):
        run(store, tmp_path / "b", config=CONFIG, progress=At(2, send(signal.SIGTERM)))
    assert not (tmp_path / "a" / "model.safetensors").exists()


def test_a_second_signal_stops_at_once(
    store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    # Within a moment it counts as the same one.
    monkeypatch.setattr(stops, "_ECHO_SECONDS", 1e6)
    with pytest.raises(TrainingInterrupted, match="3 step"):
        run(store, tmp_path / "echo", config=CONFIG, progress=At(2, twice))
    monkeypatch.setattr(stops, "_ECHO_SECONDS", 0.0)
    with pytest.raises(TrainingInterrupted, match=r"holds 0 finished epoch\(s\):"):
        run(store, tmp_path / "twice", config=CONFIG, progress=At(2, twice))


def test_signals_are_left_as_they_were(store: MemoryStore, tmp_path: Path) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        run(store, tmp_path / "run", config=CONFIG, progress=At(2, send(signal.SIGTERM)))
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_checkpoints_of_finished_epochs_alone_are_enough(
    store: MemoryStore, finished: Finished, tmp_path: Path
) -> None:
    """As written before there were any within an epoch."""
    run(store, tmp_path / "run", epochs=2)
    (path,) = (tmp_path / "run" / "checkpoints").iterdir()
    tensors, header = checkpoint(tmp_path / "run")
    state = json.loads(header["state"])
    assert state.pop("position") == 0
    save_file(tensors, path, metadata=header | {"state": json.dumps(state)})
    run(store, tmp_path / "run", epochs=6, resume=True)
    assert_same_run(tmp_path / "run", finished.folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sums.rows": None}, "sums do not fit"),
        ({"sums.rows": torch.tensor(float("nan"), dtype=torch.float64)}, "rows is not finite"),
        ({"sums.rows": torch.tensor(3.0)}, "rows is not finite in double"),
    ],
)
def test_sums_that_do_not_fit_are_refused(
    store: MemoryStore, tmp_path: Path, change: dict[str, torch.Tensor | None], message: str
) -> None:
    folder = tmp_path / "run"
    with pytest.raises(TrainingInterrupted):
        run(store, folder, config=CONFIG, progress=At(3, send(signal.SIGINT)))
    (path,) = (folder / "checkpoints").iterdir()
    tensors, header = checkpoint(folder)
    for name, value in change.items():
        if value is None:
            tensors = {key: t for key, t in tensors.items() if not key.startswith("sums.")}
        else:
            tensors[name] = value
    save_file(tensors, path, metadata=header)
    with pytest.raises(KvaeError, match=message):
        run(store, folder, config=CONFIG, resume=True)


def test_nothing_that_is_not_finite_is_stored(store: MemoryStore, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run(store, folder, epochs=1)
    before, best = checkpoint(folder)[1], (folder / "model.safetensors").read_bytes()
    config = json.loads((folder / "config.json").read_text())
    config["training"] |= {"lr": 1e30, "epochs": 3, "checkpoint_minutes": 1e-9}
    (folder / "config.json").write_text(json.dumps(config))
    # The rates are the checkpoint's, so they are changed there.
    (path,) = (folder / "checkpoints").iterdir()
    tensors, header = checkpoint(folder)
    state = json.loads(header["state"])
    state["lrs"] = [1e30 for _ in state["lrs"]]
    save_file(tensors, path, metadata=header | {"state": json.dumps(state)})
    with pytest.raises(KvaeError, match=r"(loss became .* in step|no longer finite after step) \d"):
        run(store, folder, config=RunConfig.model_validate(config), resume=True)
    kept, after = checkpoint(folder)
    assert all(torch.isfinite(t).all() for name, t in kept.items() if t.is_floating_point())
    assert json.loads(after["state"])["step"] >= json.loads(before["state"])["step"]
    assert (folder / "model.safetensors").read_bytes() == best


NARROW = shlex.split(
    "--preset dot --set latent=4 "
    "--set encoder.branches.7-mers.hidden=[8] --set encoder.shared=[8] "
    "--set decoder.shared=[8] --set value_hidden=[8] --set gate_hidden=[8] --set embedding=4 "
    "--device cpu --threads 1 --batch-size 2 --epochs 3 --seed 3"
)


# The program, which stops once, as with Ctrl-Z, just before it has a checkpoint within its last
# epoch. Signals that are sent to it then come at a time that no load of the machine decides.
STOPPED_ONCE = """
import os, signal, sys
from kvae.cli import main

has_stopped = False


def stop_once(event, arguments):
    global has_stopped
    if event == "os.rename" and "epoch-000002-step-" in str(arguments[1]) and not has_stopped:
        has_stopped = True
        os.kill(os.getpid(), signal.SIGSTOP)


sys.addaudithook(stop_once)
sys.argv[0] = "kvae"
main()
"""


def start(
    features: Path, folder: Path, *arguments: str, program: tuple[str, str] = ("-m", "kvae")
) -> subprocess.Popen[str]:
    command = [sys.executable, *program, "train", str(features), "-o", str(folder)]
    return subprocess.Popen([*command, *NARROW, *arguments], stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def whole_process(feature_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processes") / "run"
    with start(feature_file, folder) as process:
        assert process.wait(timeout=300) == 0
    return folder


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_process_that_is_stopped_goes_on(
    feature_file: Path, whole_process: Path, tmp_path: Path, number: signal.Signals
) -> None:
    folder = tmp_path / "run"
    often = ("--set", "checkpoint_minutes=1e-9")
    with start(feature_file, folder, *often, program=("-c", STOPPED_ONCE)) as process:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)
        code = process.wait(timeout=300)
        assert process.stderr is not None
        told = process.stderr.read()
    if number == signal.SIGKILL:
        assert code == -signal.SIGKILL
    else:
        assert code == 128 + number
        assert "--resume goes on from there" in told.splitlines()[-1]
        assert "Traceback" not in told
        assert not list(folder.rglob(".kvae.*.tmp"))
    assert len(lines(folder)) < 3
    with start(feature_file, folder, "--resume") as process:
        assert process.wait(timeout=300) == 0
    assert_same_run(folder, whole_process)
