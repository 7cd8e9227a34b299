"""What predictors that know no row learn from others."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kvae.evaluation.chains import markov_profile
from kvae.evaluation.compositions import batches, read_compositions
from kvae.evaluation.presence import THRESHOLDS, largest_absent
from kvae.evaluation.profiles import PSEUDOCOUNT, Background, pooled
from kvae.progress import Progress
from kvae.row_sources import Indices
from kvae.store import FeatureStore

__all__ = ["learn_background", "pool_genomes"]


def learn_background(
    store: FeatureStore, rows: Indices, device: torch.device, progress: Progress
) -> Background:
    """Learn from rows what the predictors that know no row start from."""
    total = torch.zeros(store.layout.block("7-mers").size, dtype=torch.float64, device=device)
    expected = torch.zeros_like(total)
    sums = torch.zeros(store.layout.n_fields, dtype=torch.float64, device=device)
    present = {name: torch.zeros_like(total) for name in THRESHOLDS}
    progress.begin("background", len(rows))
    for part in batches(rows):
        batch = read_compositions(store, part, device)
        n_B = batch.n
        total += batch.counts[7].sum(dim=0)
        expected += (markov_profile(batch.counts[4], 3) * n_B[:, None]).sum(dim=0)
        sums += batch.x.double().sum(dim=0)
        for name, threshold in THRESHOLDS.items():
            most_B1 = largest_absent(n_B, threshold)[:, None]
            present[name] += (batch.counts[7] > most_B1).sum(dim=0)
        progress.advance(len(part))
    return Background(
        mean=pooled(total),
        correction=(total + PSEUDOCOUNT) / (expected + PSEUDOCOUNT),
        present={name: count / len(rows) for name, count in present.items()},
        fields=sums / len(rows),
    )


def pool_genomes(
    store: FeatureStore,
    rows: Indices,
    genomes: NDArray[np.int64],
    device: torch.device,
    progress: Progress,
) -> Tensor:
    """Sum the 7-mers of each genome.

    Parameters
    ----------
    store, rows
        What to sum.
    genomes
        The genome of each of these rows, from 0, or -1 where it is not known.

    Returns
    -------
    Tensor of float32, shape (genomes, 8192)
        Exact up to 16 million of a k-mer.
    """
    size = store.layout.block("7-mers").size
    pools = torch.zeros(max(int(genomes.max()) + 1, 1), size, device=device)
    progress.begin("genomes", len(rows))
    start = 0
    for part in batches(rows):
        codes = torch.from_numpy(genomes[start : start + len(part)]).to(device)
        counts = torch.from_numpy(store.counts(part, 7).astype(np.float32)).to(device)
        known = codes >= 0
        pools.index_add_(0, codes[known], counts[known])
        start += len(part)
        progress.advance(len(part))
    return pools
