"""The order of an epoch: which rows make which batch."""

from __future__ import annotations

import numpy as np

from kvae.loading import Indices


def shuffled(rows: Indices, seed: int, epoch: int) -> Indices:
    """Order of an epoch: depends on the seed and the epoch and nothing else."""
    return np.random.default_rng([seed, epoch]).permutation(rows)


def split_batches(rows: Indices, batch_size: int) -> list[Indices]:
    """Cut rows into batches whose sizes differ by at most one.

    No batch has a single row (BatchNorm has no variance there), so a batch may
    have one row more than ``batch_size``. Within a batch the rows are sorted,
    which reads storage in one direction and changes nothing else.
    """
    n_batches = max(1, min(-(-len(rows) // batch_size), len(rows) // 2))
    return [np.sort(part) for part in np.array_split(rows, n_batches)]
