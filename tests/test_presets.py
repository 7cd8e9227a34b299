"""The presets in full, on rows of real genomes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from kvae.model import KmerVAE
from kvae.presets import PRESETS, get_preset
from kvae.store import FeatureStore
from kvae.training.metrics import EpochSums
from kvae.training.options import configure
from kvae.training.trainer import parameter_groups


@pytest.fixture(scope="module")
def genome_rows(feature_file: Path) -> torch.Tensor:
    store = FeatureStore(feature_file)
    return torch.from_numpy(store.rows(np.arange(0, len(store), 2)))


def learns(preset: str, changes: dict[str, object], rows: torch.Tensor, steps: int = 8) -> None:
    config = configure(preset, changes=changes)
    torch.manual_seed(0)
    model = KmerVAE.from_preset(preset, **config.model.model_dump())
    optimizer = torch.optim.AdamW(parameter_groups(model, config.training), fused=True)
    losses = []
    for _ in range(steps):
        elbo = model.elbo(rows, config.loss)
        optimizer.zero_grad()
        torch.autograd.backward(elbo.loss)
        optimizer.step()
        losses.append(elbo.loss.item())
    assert np.isfinite(losses).all(), losses
    assert min(losses[-2:]) < 0.95 * losses[0], losses
    sums = EpochSums(config.loss, 1.0, model.read_target.n_target, 1e-6, at_thresholds=True)
    sums.update(elbo)
    assert all(np.isfinite(value) for value in sums.result().values())


@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_preset_learns_from_real_rows(preset: str, genome_rows: torch.Tensor) -> None:
    learns(preset, {}, genome_rows)


@pytest.mark.parametrize(("preset", "space"), [("slim", "linear"), ("dot", "log")])
def test_gated_designs_learn_in_both_spaces(
    preset: str, space: str, genome_rows: torch.Tensor
) -> None:
    assert get_preset(preset).model.output_space != space
    learns(preset, {"output_space": space}, genome_rows)
