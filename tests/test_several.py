"""Several processes against one: the same rows, the same losses, the same files."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from kvae.config import override
from kvae.model import KmerVAE
from kvae.training.processes import Processes
from kvae.training.sharing import share
from kvae.training.split import split_rows
from one_of_several import with_constants
from short_kmers import profile_run, profile_store
from small import PSEUDOCOUNT, MemoryStore, small_model, small_run
from training_runs import checkpoint, lines, run

HERE = Path(__file__).parent


def several(
    output: Path, *, size: int = 2, code: int = 0, **wanted: Any
) -> subprocess.CompletedProcess[str]:
    """Run `one_of_several` in several processes."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    argument = json.dumps({"output": str(output), **wanted})
    done = subprocess.run(
        [*launcher, "--nproc-per-node", str(size), str(HERE / "one_of_several.py"), argument],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error::FutureWarning:kvae"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode != 0) == (code != 0), done.stderr
    return done


def assert_same_losses(one: Path, other: Path) -> None:
    """Losses and all other metrics, of training and of validation, within rounding."""
    assert [record["epoch"] for record in lines(one)] == [r["epoch"] for r in lines(other)]
    for a, b in zip(lines(one), lines(other), strict=True):
        for part in ("train", "validation"):
            assert b[part] == pytest.approx(a[part], rel=1e-4, abs=1e-7)
            assert b[part]["loss"] == pytest.approx(a[part]["loss"], rel=1e-5)


@pytest.mark.parametrize(
    ("size", "changes"),
    [
        # Every random number and optional term that there is, parts of unequal size.
        (
            2,
            {
                "epochs": 3,
                "batch_size": 15,
                "encoder.input_dropout": 0.2,
                "loss.cosine_weight": 1.0,
                "loss.zero_penalty": 1.0,
            },
        ),
        # Batches with fewer rows than there are processes. Normalised, two rows are +1 and
        # -1 whatever they were: there are hardly any gradients, so hardly any steps.
        (3, {"epochs": 1, "batch_size": 2, "lr": 1e-7}),
    ],
)
def test_several_processes_are_as_good_as_one(
    store: MemoryStore, tmp_path: Path, size: int, changes: dict[str, Any]
) -> None:
    run(store, tmp_path / "one", config=override(small_run(), changes))
    seen = tmp_path / "seen"
    seen.mkdir()
    several(tmp_path / "several", size=size, changes=changes, seen=str(seen))
    assert_same_losses(tmp_path / "one", tmp_path / "several")
    for name in ("config.json", "split.json"):
        contents = [(tmp_path / run_ / name).read_bytes() for run_ in ("one", "several")]
        assert contents[0] == contents[1]
    facts = json.loads((tmp_path / "several" / "environment.json").read_text())
    assert facts["processes"] == size
    assert checkpoint(tmp_path / "one")[0].keys() == checkpoint(tmp_path / "several")[0].keys()
    assert len(list((tmp_path / "several" / "tensorboard").iterdir())) == 1

    # Every row was read once for the baselines and once in every epoch.
    logs = [json.loads(path.read_text()) for path in sorted(seen.iterdir())]
    assert len(logs) == size
    counts = Counter(row for log in logs for rows in log for row in rows)
    assert counts == {row: changes["epochs"] + 1 for row in range(len(store))}
    shares = [sum(map(len, log)) for log in logs]
    assert max(shares) < 0.7 * sum(shares)
    assert len(split_rows(store, 0.1, seed=0).train) % 2 == 1


def test_what_has_no_gradient_stays_where_it_is(store: MemoryStore, tmp_path: Path) -> None:
    """Biases before BatchNorm, and weights of inputs that are the same in all rows."""
    changes = {"epochs": 6, "batch_size": 15, "weight_decay": 0.0}
    alike = {"0": math.log(8000.0)} | {str(i): math.log(PSEUDOCOUNT) for i in range(1, 25)}
    config = override(small_run(), changes)
    run(with_constants(store, alike), tmp_path / "one", config=config)
    several(tmp_path / "several", changes=changes, alike=alike)
    assert_same_losses(tmp_path / "one", tmp_path / "several")
    torch.manual_seed(config.training.seed)
    fresh = KmerVAE(config.model, store.layout)
    trained = KmerVAE.load(tmp_path / "one" / "model.safetensors", layout=store.layout)
    before, after = fresh.state_dict(), trained.state_dict()
    layer = "encoder.branches.7-mers.0"
    assert torch.equal(after[f"{layer}.bias"], before[f"{layer}.bias"])
    moved_I = (after[f"{layer}.weight"] != before[f"{layer}.weight"]).any(dim=0)
    # The branch sees GC and length behind its k-mers.
    assert moved_I.nonzero()[:, 0].tolist() == [*range(24, 96), 96]


def test_a_run_of_several_stops_together_and_goes_on_in_any_number(
    store: MemoryStore, tmp_path: Path
) -> None:
    run(store, tmp_path / "whole", epochs=3)
    folder = tmp_path / "run"
    # Only the second process is told to stop, after its scan and within an epoch.
    done = several(folder, changes={"epochs": 3}, stop=[1, 10])
    assert done.stderr.count("--resume goes on from there") == 2
    (file,) = (folder / "checkpoints").iterdir()
    assert "-step-" in file.name
    several(folder, changes={"epochs": 2}, resume=True)
    assert len(lines(folder)) == 2
    run(store, folder, epochs=3, resume=True)
    assert_same_losses(tmp_path / "whole", folder)


def test_halves_and_their_noise_are_those_of_one_process(tmp_path: Path) -> None:
    changes = {
        "epochs": 2,
        "batch_size": 9,
        "contrast_weight": 0.0,
        "schedule": "cosine",
        "encoder.noise": 0.3,
        "encoder.dropout": 0.2,
    }
    run(profile_store(), tmp_path / "one", config=profile_run(**changes))
    several(tmp_path / "several", profile=True, changes=changes)
    assert_same_losses(tmp_path / "one", tmp_path / "several")


def test_each_process_contrasts_the_rows_it_has(tmp_path: Path) -> None:
    changes = {"epochs": 2, "batch_size": 12, "positives": "source", "per_class": 3}
    several(tmp_path / "run", profile=True, changes=changes)
    for record in lines(tmp_path / "run"):
        for part in ("train", "validation"):
            assert all(math.isfinite(value) for value in record[part].values())
            assert record[part]["contrast"] > 0.0
    # One process goes on with what two have begun.
    config = profile_run(**changes)
    run(profile_store(), tmp_path / "run", config=config, epochs=3, resume=True)
    assert len(lines(tmp_path / "run")) == 3


def test_what_is_wrong_for_one_process_stops_all(tmp_path: Path) -> None:
    done = several(tmp_path / "bad", code=1, spoil=1)
    # Both write to one stream at the same time: a line of one may begin within the other's.
    assert done.stderr.count("features are not finite") == 2
    assert not (tmp_path / "bad").exists()
    done = several(tmp_path / "nan", code=1, changes={"lr": 1e30})
    assert done.stderr.count("the loss became") == 2


def test_the_parts_of_a_batch_are_all_of_it() -> None:
    for size in (1, 2, 3, 7):
        for n in (0, 1, 2, 5, 16, 17):
            parts = [list(range(n))[Processes(rank, size).part(n)] for rank in range(size)]
            assert [i for part in parts for i in part] == list(range(n))
            assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_one_process_keeps_its_layers(store: MemoryStore) -> None:
    model = KmerVAE(small_model(), store.layout)
    share(model, Processes())
    kinds = {type(m) for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.Dropout)}
    assert kinds == {nn.BatchNorm1d, nn.Dropout}


def test_the_loss_of_a_batch_is_that_of_its_parts(store: MemoryStore) -> None:
    """Where the parts know how much there is in all: presence differs between them."""
    model = KmerVAE(small_model(), store.layout).eval()
    x_BF = torch.from_numpy(store.data[:9])
    noise_BL = torch.randn(9, 12)
    whole = model.elbo(x_BF, noise_BL=noise_BL)
    counts: list[torch.Tensor] = []

    def note(count: torch.Tensor) -> torch.Tensor:
        counts.append(count)
        return count

    for part in (slice(0, 2), slice(2, 9)):
        model.elbo(x_BF[part], noise_BL=noise_BL[part], pool=note)
    total = counts[0] + counts[1]
    losses = [
        model.elbo(x_BF[part], noise_BL=noise_BL[part], pool=lambda _: total).loss
        for part in (slice(0, 2), slice(2, 9))
    ]
    assert torch.stack(losses).sum().item() == pytest.approx(whole.loss.item(), rel=1e-6)
