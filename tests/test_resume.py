"""Interruption and resumption: a run goes on as if nothing had been, or says why not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from kvae.epoch_progress import TrainProgress
from kvae.errors import KvaeError
from kvae.layout import Layout
from kvae.training.run import TrainingInterrupted, train
from sequences import listing
from small import MemoryStore, make_store, small_run
from training_runs import Finished, Record, StopIn, assert_same_run, checkpoint, lines, run


def test_a_resumed_run_equals_an_uninterrupted_one(
    store: MemoryStore, finished: Finished, tmp_path: Path
) -> None:
    run(store, tmp_path / "run", epochs=2)
    result = run(store, tmp_path / "run", epochs=6, resume=True)
    assert result.epochs == 6
    assert_same_run(tmp_path / "run", finished[0])


@pytest.mark.parametrize("epoch", [1, 4])
def test_an_interrupted_run_goes_on_where_it_was(
    store: MemoryStore, finished: Finished, tmp_path: Path, epoch: int
) -> None:
    folder = tmp_path / "run"
    with pytest.raises(TrainingInterrupted, match=rf"holds {epoch - 1} finished.*--resume"):
        run(store, folder, epochs=6, progress=StopIn(epoch))
    # What a killed run may leave: lines of epochs that no checkpoint has.
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"epoch": epoch, "train": {}}) + "\n" + '{"epoch": ')
    leftovers = [folder / ".kvae.x1.tmp", folder / "checkpoints" / ".kvae.y2.tmp"]
    for path in leftovers:
        path.write_text("half")
    run(store, folder, epochs=6, resume=True)
    assert_same_run(folder, finished[0])
    assert not any(path.exists() for path in leftovers)


def test_learning_rate_schedule_survives_a_resumption(store: MemoryStore, tmp_path: Path) -> None:
    config = small_run(patience=0, lr=0.05, factor=0.3)
    run(store, tmp_path / "whole", config=config, epochs=8)
    rates = [record["lr"] for record in lines(tmp_path / "whole")]
    assert rates[-1] < rates[0]
    run(store, tmp_path / "halves", config=config, epochs=4)
    run(store, tmp_path / "halves", config=config, epochs=8, resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "halves")


def test_resuming_a_finished_run_changes_nothing(store: MemoryStore, tmp_path: Path) -> None:
    run(store, tmp_path / "run")
    before = checkpoint(tmp_path / "run")
    progress = Record()
    result = run(store, tmp_path / "run", resume=True, progress=progress)
    assert result.epochs == 2
    assert any("all 2 epochs are done" in message for message in progress.messages)
    assert before[1] == checkpoint(tmp_path / "run")[1]


def test_resume_without_a_run_starts_one(store: MemoryStore, tmp_path: Path) -> None:
    progress = Record()
    assert run(store, tmp_path / "run", resume=True, progress=progress).epochs == 2
    assert any("no run to resume" in message for message in progress.messages)


@pytest.mark.parametrize(
    ("lost", "words"),
    [("checkpoints/*", "holds no checkpoint to go on from"), ("model.safetensors", "is missing")],
)
def test_what_a_run_has_done_is_not_thrown_away(
    store: MemoryStore, tmp_path: Path, lost: str, words: str
) -> None:
    folder = tmp_path / "run"
    run(store, folder)
    for path in folder.glob(lost):
        path.unlink()
    before = listing(folder)
    with pytest.raises(KvaeError, match=f"{words}.*--force to start over"):
        run(store, folder, epochs=4, resume=True)
    assert listing(folder) == before
    run(store, folder, force=True)


def test_a_resumed_run_keeps_its_configuration(
    store: MemoryStore, layout: Layout, tmp_path: Path
) -> None:
    run(store, tmp_path / "run")
    with pytest.raises(KvaeError, match=r"started with training\.lr 0\.005, not 0\.1"):
        train(store, tmp_path / "run", lr=0.1, resume=True, device="cpu")
    with pytest.raises(KvaeError, match=r"started with model\.latent 12, not 13"):
        train(store, tmp_path / "run", latent=13, resume=True, device="cpu")
    with pytest.raises(KvaeError, match="was trained on other rows"):
        run(make_store(layout, [9, 9, 9, 9]), tmp_path / "run", resume=True, epochs=3)


def test_a_failing_epoch_leaves_the_last_checkpoint(store: MemoryStore, tmp_path: Path) -> None:
    run(store, tmp_path / "run")
    before = checkpoint(tmp_path / "run")

    class Fail(TrainProgress):
        def advance(self, rows: int) -> None:
            raise KvaeError("no more")

    with pytest.raises(KvaeError, match="no more"):
        run(store, tmp_path / "run", epochs=3, resume=True, progress=Fail())
    assert checkpoint(tmp_path / "run")[1] == before[1]
    assert run(store, tmp_path / "run", epochs=3, resume=True).epochs == 3


def test_moments_of_what_is_no_longer_trained_are_dropped(
    store: MemoryStore, finished: Finished, tmp_path: Path
) -> None:
    """Checkpoints had some of the biases before BatchNorm, which have no gradient."""
    folder = tmp_path / "run"
    run(store, folder, epochs=3)
    (path,) = (folder / "checkpoints").iterdir()
    tensors, header = checkpoint(folder)
    bias = "decoder.shared.0.bias"
    assert not [name for name in tensors if name.startswith(f"optimizer.{bias}")]
    for key in ("exp_avg", "exp_avg_sq"):
        tensors[f"optimizer.{bias}.{key}"] = torch.ones_like(tensors[f"model.{bias}"])
    tensors[f"optimizer.{bias}.step"] = torch.tensor(5.0)
    save_file(tensors, path, metadata=header)
    run(store, folder, epochs=6, resume=True)
    assert_same_run(folder, finished[0])


def damage_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"format": 1, "model": 3}')


def unknown_key(folder: Path) -> None:
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace('"loss"', '"los": 1, "loss"', 1))


def newer_format(folder: Path) -> None:
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace('"format": 1', '"format": 2', 1))


def truncate_checkpoint(folder: Path) -> None:
    (path,) = (folder / "checkpoints").iterdir()
    path.write_bytes(path.read_bytes()[:-1000])


def forged_state(folder: Path) -> None:
    (path,) = (folder / "checkpoints").iterdir()
    tensors, header = checkpoint(folder)
    header["state"] = header["state"].replace('"epoch":2', '"epoch":-2', 1)
    save_file(tensors, path, metadata=header)


def missing_moment(folder: Path) -> None:
    (path,) = (folder / "checkpoints").iterdir()
    tensors, header = checkpoint(folder)
    del tensors["optimizer.encoder.mean.bias.exp_avg"]
    save_file(tensors, path, metadata=header)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_config, "config.json: model"),
        (unknown_key, "config.json: los: Extra inputs"),
        (newer_format, "config.json: format"),
        (truncate_checkpoint, "not a readable safetensors file"),
        (forged_state, "epoch: Input should be greater"),
        (missing_moment, "exp_avg of encoder.mean.bias does not fit"),
    ],
)
def test_a_damaged_run_is_refused_in_one_line(
    store: MemoryStore, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    folder = tmp_path / "run"
    run(store, folder)
    damage(folder)
    with pytest.raises(KvaeError, match=message) as caught:
        run(store, folder, epochs=3, resume=True)
    assert "\n" not in str(caught.value)
