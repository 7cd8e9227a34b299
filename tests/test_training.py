"""Training runs: what they leave, what they refuse, what they survive."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import kvae
from kvae.config import TrainConfig
from kvae.errors import KvaeError
from kvae.layout import Layout
from kvae.model import KmerVAE
from kvae.model.layers import random_row
from kvae.model.readout import DotProduct
from kvae.training.run import train
from kvae.training.split import split_rows
from kvae.training.trainer import parameter_groups
from small import MemoryStore, branch_encoder, make_store, small_model, small_run
from training_runs import Finished, Record, assert_same_run, checkpoint, lines, run, untimed


def test_a_run_learns_and_leaves_its_files(finished: Finished, store: MemoryStore) -> None:
    folder, result, _ = finished
    records = lines(folder)
    losses = [record["train"]["loss"] for record in records]
    assert losses == sorted(losses, reverse=True)
    assert [record["epoch"] for record in records] == [1, 2, 3, 4, 5, 6]
    validation = [record["validation"]["loss"] for record in records]
    assert result.best_loss == min(validation)
    assert result.best_epoch == validation.index(min(validation)) + 1
    assert result.metrics == records[-1]
    assert {path.name for path in folder.iterdir()} == {
        "baselines.json",
        "checkpoints",
        "config.json",
        "data.json",
        "environment.json",
        "metrics.jsonl",
        "model.safetensors",
        "split.json",
        "tensorboard",
    }
    assert [path.name for path in (folder / "checkpoints").iterdir()] == [
        "epoch-000006.safetensors"
    ]
    assert next((folder / "tensorboard").iterdir()).name.startswith("events.out")
    config = json.loads((folder / "config.json").read_text())
    assert config["training"]["epochs"] == 6
    split = json.loads((folder / "split.json").read_text())
    assert split["unit"] == "source"
    assert split["train_rows"] + split["validation_rows"] == len(store)
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["threads"] == 1
    assert environment["packages"]["torch"]


def test_best_weights_reproduce_the_best_validation_loss(
    finished: Finished, store: MemoryStore
) -> None:
    folder, result, _ = finished
    model = KmerVAE.load(folder / "model.safetensors", layout=store.layout)
    split = split_rows(store, 0.1, seed=0)
    noise = torch.Generator().manual_seed(0x7A11)
    total = 0.0
    with torch.no_grad():
        x = torch.from_numpy(store.data[split.validation])
        elbo = model.elbo(x, small_run().loss, generator=noise)
        total = elbo.loss.item()
    # One batch holds the whole validation part, so the loss is that of the epoch.
    assert len(split.validation) <= 17
    assert total == pytest.approx(result.best_loss, rel=1e-5)


def test_epoch_line_speaks_the_terms_of_the_log(finished: Finished) -> None:
    _, _, progress = finished
    assert len(progress.lines) == 6
    for term in ("epoch 1/6 loss", "(val", "KL", "BCE", "gateAcc", "(majority", "per-k-mer"):
        assert term in progress.lines[0]
    for term in (
        "valMSE",
        "(constant",
        "4-mer",
        "3-mer",
        "GC",
        "active",
        "/12",
        "lr 0.005",
        "nz",
        "z",
    ):
        assert term in progress.lines[0]
    for term in ("avgPresent", "outMSE", "pres/abs", "nz", "z", "%nz", "rows/param"):
        assert term in progress.lines[0]
    assert any("rows to train" in message for message in progress.messages)


def test_metrics_carry_every_figure_with_its_baseline(finished: Finished) -> None:
    record = lines(finished[0])[0]
    names = {"loss", "reconstruction", "KL", "BCE", "valMSE", "mse7", "mse4", "mse3", "mse_gc"}
    names |= {"outMSE_present", "outMSE_absent", "gateAcc", "avgPresent", "nz", "z", "%nz"}
    names |= {"gateAcc_majority", "gateAcc_per_kmer_majority", "valMSE_constant"}
    names |= {"mse4_constant", "active_units"}
    thresholds = {f"outAcc@{t}" for t in ("1e-5", "2e-4", "5e-4")}
    assert thresholds | {f"{name}_majority" for name in thresholds} <= record["validation"].keys()
    for part in ("train", "validation"):
        assert names <= record[part].keys()
        assert all(math.isfinite(value) for value in record[part].values())
    assert record["samples_per_parameter"] == pytest.approx(
        finished[1].train_rows / finished[1].n_parameters
    )


def test_same_seed_same_run_other_seed_other_run(
    store: MemoryStore, finished: Finished, tmp_path: Path
) -> None:
    run(store, tmp_path / "same", epochs=6)
    assert_same_run(tmp_path / "same", finished[0])
    run(store, tmp_path / "other", seed=1)
    assert untimed(tmp_path / "other")[0] != untimed(finished[0])[0]


@pytest.mark.parametrize("sizes", [[1], [2], [1, 1]])
def test_too_few_rows_are_refused(layout: Layout, sizes: list[int], tmp_path: Path) -> None:
    store = make_store(layout, sizes, contig_rows=1)
    with pytest.raises(KvaeError, match="at least 2 and 1 are needed"):
        run(store, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_three_rows_are_enough(layout: Layout, tmp_path: Path) -> None:
    result = run(make_store(layout, [1, 1, 1]), tmp_path / "run")
    assert (result.train_rows, result.validation_rows) == (2, 1)
    assert math.isfinite(result.best_loss)


def test_an_existing_run_is_kept_unless_forced(
    store: MemoryStore, finished: Finished, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    run(store, folder)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(KvaeError, match=r"holds a run: give --resume .* --force"):
        run(store, folder)
    bad = store.data.copy()
    bad[3, 7] = np.nan
    before = checkpoint(folder)[1]
    with pytest.raises(KvaeError, match="not finite"):
        run(store.with_data(bad), folder, force=True)
    assert checkpoint(folder)[1] == before
    run(store, folder, force=True, epochs=6)
    assert (folder / "notes.txt").read_text() == "mine"
    assert_same_run(folder, finished[0])


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_that_is_no_run_is_never_replaced(
    store: MemoryStore, tmp_path: Path, force: bool
) -> None:
    folder = tmp_path / "precious"
    folder.mkdir()
    (folder / "thesis.tex").write_text("all of it")
    with pytest.raises(KvaeError, match="holds something else than a run"):
        run(store, folder, force=force)
    with pytest.raises(KvaeError, match="is not a folder"):
        run(store, folder / "thesis.tex", force=force)
    with pytest.raises(KvaeError, match="no such folder"):
        run(store, tmp_path / "missing" / "run", force=force)
    assert [path.name for path in folder.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_are_refused_with_their_row(
    store: MemoryStore, tmp_path: Path, value: float
) -> None:
    data = store.data.copy()
    data[31, 100] = value
    with pytest.raises(KvaeError, match=rf"row 31 \(record {store.names[31]}\)"):
        run(store.with_data(data), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_stops_with_step_and_rows(
    store: MemoryStore, tmp_path: Path
) -> None:
    with pytest.raises(KvaeError, match=r"loss became .* in step \d+ \(epoch \d\), on .*record"):
        run(store, tmp_path / "run", lr=1e30, epochs=3)


def test_contradicting_and_unknown_names_are_refused(store: MemoryStore, tmp_path: Path) -> None:
    output = tmp_path / "run"
    with pytest.raises(KvaeError, match="either a preset or a configuration"):
        run(store, output, preset="dot")
    with pytest.raises(KvaeError, match="either resume or force"):
        run(store, output, resume=True, force=True)
    with pytest.raises(KvaeError, match="unknown preset 'dto'"):
        train(store, output, preset="dto", device="cpu")
    with pytest.raises(KvaeError, match=r"training\.batch_size: Input should be greater"):
        run(store, output, batch_size=1)
    with pytest.raises(KvaeError, match="threads must be at least 1"):
        train(store, output, config=small_run(), device="cpu", threads=0)
    assert not output.exists()


def test_constant_columns_and_rows_train_without_nan(store: MemoryStore, tmp_path: Path) -> None:
    data = store.data.copy()
    data[:, 1:60] = math.log(1e-6)
    data[:, 0] = 8.5
    run(store.with_data(data), tmp_path / "columns")
    data[:] = data[0]
    run(store.with_data(data), tmp_path / "rows")
    for name in ("columns", "rows"):
        for record in lines(tmp_path / name):
            for part in ("train", "validation"):
                assert all(math.isfinite(value) for value in record[part].values())


def test_running_statistics_of_a_short_run_are_those_of_its_batches(
    store: MemoryStore, tmp_path: Path
) -> None:
    run(store, tmp_path / "run", epochs=1, batch_size=80, lr=1e-9)
    split = split_rows(store, 0.1, seed=0)
    model = KmerVAE.load(tmp_path / "run" / "model.safetensors", layout=store.layout)
    first = branch_encoder(model).branches["3-mers"]
    assert isinstance(first, nn.Sequential)
    x = torch.from_numpy(store.data[split.train]) - random_row(store.layout, math.log(1e-6))
    inputs = torch.cat([x[:, 117:125], x[:, 125:126], x[:, :1]], dim=1)
    expected = first[0](inputs).mean(dim=0)
    # A single step has seen every row, so its means are the running ones.
    torch.testing.assert_close(first[1].running_mean, expected, rtol=1e-3, atol=1e-3)


def test_values_learn_slowly_and_do_not_decay(layout: Layout) -> None:
    settings = TrainConfig(lr=0.01, value_lr_factor=0.5, weight_decay=0.25)
    for space, expected in (("linear", 0.005), ("log", 0.01)):
        model = KmerVAE(small_model(output_space=space), layout)
        seen: dict[int, tuple[float, float]] = {}
        for group in parameter_groups(model, settings):
            seen |= {id(p): (group["lr"], group["weight_decay"]) for p in group["params"]}
        assert len(seen) == len(list(model.parameters()))
        values = model.decoder.sparse.value_readout
        assert {seen[id(p)][0] for p in values.parameters()} == {expected}
        assert isinstance(values, DotProduct)
        assert seen[id(values.embedding)][1] == 0.0
        head = branch_encoder(model).mean
        assert seen[id(head.weight)] == (0.01, 0.25)
        assert seen[id(head.bias)] == (0.01, 0.0)


def test_training_leaves_the_callers_torch_alone(store: MemoryStore, tmp_path: Path) -> None:
    torch.manual_seed(5)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    run(store, tmp_path / "run")
    assert torch.equal(state, torch.get_rng_state())
    assert torch.get_num_threads() == threads


def test_a_model_without_a_gate_trains_too(store: MemoryStore, tmp_path: Path) -> None:
    config = small_run().model_copy(
        update={"model": small_model(**{"decoder.sparse.gate_hidden": None})}
    )
    progress = Record()
    run(store, tmp_path / "run", config=config, progress=progress)
    scores = lines(tmp_path / "run")[0]["validation"]
    assert "BCE" not in scores
    assert "BCE" not in progress.lines[0]
    # The values are the output, so they are right where the output is.
    assert scores["valMSE"] == pytest.approx(scores["outMSE_present"], rel=1e-6)
    assert 0.0 <= scores["gateAcc"] <= 1.0


def test_another_programs_folder_is_never_replaced(store: MemoryStore, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model": "bert"}')
    (tmp_path / "model.safetensors").write_text("weights")
    with pytest.raises(KvaeError, match="is not kvae's"):
        run(store, tmp_path, force=True)
    assert (tmp_path / "model.safetensors").read_text() == "weights"


def test_a_full_disk_is_reported_in_one_line(
    store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    run(store, tmp_path / "run")
    before = checkpoint(tmp_path / "run")[1]
    monkeypatch.setattr("kvae.model.files._write_tensors", fail)
    with pytest.raises(KvaeError, match=r"cannot be written: .*no space left"):
        run(store, tmp_path / "run", epochs=3, resume=True)
    assert checkpoint(tmp_path / "run")[1] == before


def test_curves_are_read_by_tensorboard(tmp_path: Path, store: MemoryStore) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tmp_path / "run"
    run(store, folder, config=small_run(epochs=2))
    run(store, folder, config=None, epochs=3, resume=True)
    curves = EventAccumulator(str(folder / "tensorboard"))
    curves.Reload()
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for part in ("train", "validation"):
        events = curves.Scalars(f"loss/{part}")
        assert [event.step for event in events] == [1, 2, 3]
        expected = [line[part]["loss"] for line in lines]
        assert [event.value for event in events] == pytest.approx(expected, rel=1e-6)
    assert len(curves.Scalars("lr")) == 3


def test_rows_without_a_block_of_the_model_are_named(tmp_path: Path) -> None:
    kvae.featurize(Path(__file__).parent / "data", tmp_path / "4mers.arrow", k=[4])
    with pytest.raises(KvaeError, match=r"4mers\.arrow: the model needs the block 7-mers.*--k"):
        train(tmp_path / "4mers.arrow", tmp_path / "run")
    assert not (tmp_path / "run").exists()
