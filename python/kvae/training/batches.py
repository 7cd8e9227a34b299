"""The order of an epoch: which rows make which batch."""

from __future__ import annotations

import numpy as np

from kvae.row_sources import Indices


def shuffled(rows: Indices, seed: int, epoch: int) -> Indices:
    """Order of an epoch: depends on the seed and the epoch and nothing else."""
    return np.random.default_rng([seed, epoch]).permutation(rows)


# Rows that follow each other in storage, and how many such blocks are mixed: with log rows
# 137 MB that are read in one go, and 1.1 GB that the system may keep.
BLOCK_ROWS, MIXED_BLOCKS = 4096, 8


def shuffled_blocks(
    rows: Indices,
    seed: int,
    epoch: int,
    *,
    block_rows: int = BLOCK_ROWS,
    mixed_blocks: int = MIXED_BLOCKS,
) -> Indices:
    """Order of an epoch that reads storage in long pieces.

    Blocks of rows that follow each other are put in random order, and the rows of a few
    blocks at a time are shuffled. Every row comes once; rows that are near each other in
    storage are more often in one batch than chance would have it.

    Parameters
    ----------
    rows
        Rows to train on.
    seed, epoch
        Decide the order, and nothing else does.
    block_rows, mixed_blocks
        Rows of a block, and blocks whose rows are shuffled together.
    """
    draw = np.random.default_rng([seed, epoch])
    ordered = np.sort(rows)
    blocks = [ordered[at : at + block_rows] for at in range(0, len(ordered), block_rows)]
    order = draw.permutation(len(blocks))
    pools = [order[at : at + mixed_blocks] for at in range(0, len(order), mixed_blocks)]
    mixed = [draw.permutation(np.concatenate([blocks[i] for i in pool])) for pool in pools]
    return np.concatenate(mixed)


def split_batches(rows: Indices, batch_size: int) -> list[Indices]:
    """Cut rows into batches whose sizes differ by at most one.

    No batch has a single row (BatchNorm has no variance there), so a batch may
    have one row more than ``batch_size``. Within a batch the rows are sorted,
    which reads storage in one direction and changes nothing else.
    """
    n_batches = max(1, min(-(-len(rows) // batch_size), len(rows) // 2))
    return [np.sort(part) for part in np.array_split(rows, n_batches)]
