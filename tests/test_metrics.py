"""Metrics and baselines against loops written from their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from hand_made import (
    FREQUENCY,
    PRESENT,
    Space,
    cells,
    hand_made_latent,
    hand_made_output,
    hand_made_rows,
    loop_parts,
    mean,
    output_of,
    reader,
)
from kvae.config import LossConfig
from kvae.epoch_progress import TrainProgress
from kvae.layout import Layout
from kvae.model.decoder import Decoded
from kvae.model.losses import negative_elbo, reconstruction_loss
from kvae.model.posterior import Latent
from kvae.model.targets import TargetReader
from kvae.training.baselines import scan
from kvae.training.metrics import EpochSums
from kvae.training.processes import Processes
from kvae.training.split import split_rows
from small import PSEUDOCOUNT, make_store, small_model


@pytest.mark.parametrize("space", ["linear", "log"])
@pytest.mark.parametrize("gated", [True, False])
def test_metrics_against_loops(space: Space, gated: bool) -> None:
    x, out, latent = hand_made_rows(), hand_made_output(space, gated), hand_made_latent()
    read_target = reader(space, threshold=2.5e-4)
    config = LossConfig(bce_weight=2.0, w7=1.5)
    sums = EpochSums(config, 0.5, 11, PSEUDOCOUNT, at_thresholds=True)
    # Two batches of unequal size: the result must be that of the rows together.
    for part in (slice(0, 1), slice(1, 3)):
        decoded = Decoded(
            out.value[part],
            None if out.gate_logit is None else out.gate_logit[part],
            {name: values[part] for name, values in out.dense.items()},
            out.gc[part],
            space,
            out.floor,
        )
        batch = Latent(latent.mean[part], latent.log_var[part])
        sums.update(negative_elbo(batch, decoded, read_target(x[part]), 11, config, 0.5))
    found = sums.result()

    parts = loop_parts(x, out, space)
    log_target = x[:, 1:6].double()
    target = torch.tensor(FREQUENCY) if space == "linear" else log_target
    output: dict[tuple[int, int], float] = {}
    out_frequency: dict[tuple[int, int], float] = {}
    log_output: dict[tuple[int, int], float] = {}
    for b, k in cells():
        value = output_of(out, space, b, k)
        output[b, k] = (value - target[b, k].item()) ** 2
        out_frequency[b, k] = value if space == "linear" else math.exp(value) - PSEUDOCOUNT
        log_value = math.log(value + PSEUDOCOUNT) if space == "linear" else value
        log_output[b, k] = (log_value - log_target[b, k].item()) ** 2
    present = [c for c in cells() if PRESENT[c[0]][c[1]]]
    absent = [c for c in cells() if not PRESENT[c[0]][c[1]]]
    nonzero = [c for c in cells() if log_target[c] > -10.0]
    zero = [c for c in cells() if log_target[c] <= -10.0]
    kl = latent.kl()
    expected = parts | {
        "reconstruction": reconstruction_loss(parts, 11, config),
        "loss": reconstruction_loss(parts, 11, config) + 0.5 * kl.sum().item() / 3,
        "KL": kl.sum().item() / 3,
        "beta": 0.5,
        "mse7": mean(output.values()),
        "outMSE_present": mean(output[c] for c in present),
        "outMSE_absent": mean(output[c] for c in absent),
        "avgPresent": len(present) / 3,
        "nz": mean(log_output[c] for c in nonzero),
        "z": mean(log_output[c] for c in zero),
        "%nz": 100.0 * len(nonzero) / 15,
        "active_units": 3.0,
        "active_units_0.1": float((kl.mean(0) > 0.1).sum()),
    }
    if out.gate_logit is not None:
        hits = [(out.gate_logit[b, k].item() > 0.0) == PRESENT[b][k] for b, k in cells()]
    else:
        hits = [(out_frequency[b, k] > 2.5e-4) == PRESENT[b][k] for b, k in cells()]
    expected["gateAcc"] = mean(hits)
    # The second threshold is a frequency of the rows, up to float32's rounding of it.
    frequency = read_target(x).frequency
    for threshold in ("1e-5", "2e-4", "5e-4"):
        cut = float(threshold)
        expected[f"outAcc@{threshold}"] = mean(
            (out_frequency[c] > cut) == (frequency[c].item() > cut) for c in cells()
        )
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=2e-4, abs=1e-12), name


def test_baselines_against_loops(layout: Layout) -> None:
    store = make_store(layout, [5, 4, 6, 3], seed=3)
    split = split_rows(store, 0.3, seed=1)
    config = small_model()
    read_target = TargetReader(config, layout)
    scores = scan(
        store, split, read_target, torch.device("cpu"), Processes(), TrainProgress().advance
    )
    frequency = np.exp(store.data[:, 1:97].astype(np.float64)) - PSEUDOCOUNT
    frequency[frequency < 0.0] = 0.0
    present = frequency > config.presence_threshold
    train, other = split.train, split.validation
    for part, rows in (("train", train), ("validation", other)):
        found = scores[part]
        share = present[rows].mean()
        assert found["gateAcc_majority"] == pytest.approx(max(share, 1.0 - share))
        for threshold in ("1e-5", "2e-4", "5e-4"):
            above = (frequency[rows] > float(threshold)).mean()
            majority = max(above, 1.0 - above)
            assert found[f"outAcc@{threshold}_majority"] == pytest.approx(majority)
        guess = present[train].mean(axis=0) > 0.5
        assert found["gateAcc_per_kmer_majority"] == pytest.approx((present[rows] == guess).mean())
        rate = present[train].mean(axis=0).clip(0.5 / len(train), 1.0 - 0.5 / len(train))
        bce = -np.where(present[rows], np.log(rate), np.log(1.0 - rate)).mean()
        assert found["BCE_per_kmer"] == pytest.approx(bce)
        constant = frequency[train][present[train]].mean()
        error = np.square(frequency[rows][present[rows]] - constant).mean()
        assert found["valMSE_constant"] == pytest.approx(error, rel=1e-4)
        blocks = {"mse4": slice(97, 117), "mse3": slice(117, 125), "mse_gc": slice(125, 126)}
        for name, block in blocks.items():
            x = store.data[:, block].astype(np.float64)
            error = np.square(x[rows] - x[train].mean(axis=0)).mean()
            assert found[f"{name}_constant"] == pytest.approx(error, rel=1e-6)
        error = np.square(frequency[rows] - frequency[train].mean(axis=0)).mean()
        assert found["mse7_constant"] == pytest.approx(error, rel=1e-4)
