"""What predictors without a model reach on the same split.

Scores mean little by themselves: a gate accuracy of 97 % is nothing where 97 %
of the k-mers are absent. Every figure with a trivial predictor has that
predictor's score beside it: a class or a constant learned on the training rows.

One pass over the rows gathers the sums for all of them, and finds rows that
are not finite before they reach the model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kvae.errors import KvaeError
from kvae.halves import Halves
from kvae.loading import BatchLoader
from kvae.model.decoder import LEAST_FREQUENCY
from kvae.model.losses import dense_name
from kvae.model.targets import Target, TargetReader
from kvae.row_sources import Indices, RowSource, describe_row
from kvae.training.metrics import OUTPUT_THRESHOLDS

if TYPE_CHECKING:
    from kvae.training.processes import Processes
    from kvae.training.split import Split

Array = NDArray[np.float64]
_SCAN_ROWS = 512


@dataclass(frozen=True)
class PartSums:
    """Sums over the rows of one part of the split.

    Attributes
    ----------
    n_rows
        Rows summed over.
    present
        Rows in which each 7-mer is present.
    present_value
        Sum and sum of squares of the values of the present 7-mers.
    above
        7-mers above each of `kvae.training.metrics.OUTPUT_THRESHOLDS`, all rows
        together.
    groups
        Per group (``mse7``, ``mse4``, ...) the sums and sums of squares of every
        field, shape (2, fields).
    """

    n_rows: int
    present: Array
    present_value: Array
    above: Array
    groups: dict[str, Array]


def constant_scores(
    train: PartSums, scored: PartSums, floor: float, *, are_frequencies: bool = False
) -> dict[str, float]:
    """Scores of constant predictors learned on ``train``, on the rows of ``scored``.

    Parameters
    ----------
    train, scored
        Sums of the two parts; they may be the same.
    floor
        Smallest probability that a rate is taken for, so that a k-mer never seen
        in training costs a finite cross-entropy.
    are_frequencies
        Whether the values of the 7-mers are frequencies, so that their mean is a
        profile.

    Returns
    -------
    dict
        ``gateAcc_majority`` (the more frequent class of the scored rows),
        ``gateAcc_per_kmer_majority``, ``BCE_per_kmer`` (each k-mer's presence
        rate), ``outAcc@<threshold>_majority``, ``valMSE_constant`` and
        ``<group>_constant``; of frequencies also ``nats_constant``, those of the mean
        profile.
    """
    cells = scored.n_rows * len(scored.present)
    rate = scored.present.sum() / cells
    rate_K = train.present / train.n_rows
    absent_K = scored.n_rows - scored.present
    hits_K = np.where(rate_K > 0.5, scored.present, absent_K)
    p_K = rate_K.clip(floor, 1.0 - floor)
    bce = -(scored.present * np.log(p_K) + absent_K * np.log1p(-p_K)).sum() / cells
    scores = {
        "gateAcc_majority": float(max(rate, 1.0 - rate)),
        "gateAcc_per_kmer_majority": float(hits_K.sum() / cells),
        "BCE_per_kmer": float(bce),
    }
    for name, n_above in zip(OUTPUT_THRESHOLDS, scored.above, strict=True):
        scores[f"outAcc@{name}_majority"] = float(max(n_above, cells - n_above) / cells)
    n_train, n_scored = train.present.sum(), scored.present.sum()
    mean = train.present_value[0] / max(n_train, 1.0)
    error = _squared_error(scored.present_value, n_scored, mean)
    scores["valMSE_constant"] = float(error / max(n_scored, 1.0))
    for name, sums in scored.groups.items():
        means = train.groups[name][0] / train.n_rows
        errors = _squared_error(sums, scored.n_rows, means)
        scores[f"{name}_constant"] = float(errors.mean() / scored.n_rows)
    if are_frequencies:
        profile_K = (train.groups["mse7"][0] / train.n_rows).clip(min=LEAST_FREQUENCY)
        found_K = scored.groups["mse7"][0] / scored.n_rows
        scores["nats_constant"] = float(-(found_K * np.log(profile_K)).sum())
    return scores


def _squared_error(sums: Array, n: float, constant: Array | float) -> Array:
    """Sum of (x - constant)^2 from the sum and the sum of squares of n numbers x."""
    error: Array = np.asarray(sums[1] - 2.0 * constant * sums[0] + n * np.square(constant))
    return error.clip(min=0.0)


def scan(
    source: RowSource,
    split: Split,
    read_target: TargetReader,
    device: torch.device,
    processes: Processes,
    advance: Callable[[int], None],
) -> dict[str, dict[str, float]]:
    """Read every row once; baselines of both parts.

    Parameters
    ----------
    source, split
        The rows and which of them train.
    read_target
        Defines presence and output space.
    device
        Where to compute.
    processes
        Each reads a part of the rows.
    advance
        Called with the number of rows after each batch.

    Returns
    -------
    dict
        `constant_scores` under ``train`` and ``validation``.

    Raises
    ------
    KvaeError
        At the first row with features that are not finite.
    """
    loader = BatchLoader(source, device)
    sums = [
        _sum_rows(source, rows, read_target, loader, processes, advance)
        for rows in (split.train, split.validation)
    ]
    floor = 0.5 / len(split.train)
    linear = read_target.is_linear
    return {
        "train": constant_scores(sums[0], sums[0], floor, are_frequencies=linear),
        "validation": constant_scores(sums[0], sums[1], floor, are_frequencies=linear),
    }


def _sum_rows(
    source: RowSource,
    rows: Indices,
    read_target: TargetReader,
    loader: BatchLoader,
    processes: Processes,
    advance: Callable[[int], None],
) -> PartSums:
    """Sum over some rows, of which each process reads a part."""
    nothing_BF = torch.empty(0, source.layout.n_fields)
    total = {name: value.double() for name, value in _batch_sums(read_target(nothing_BF)).items()}
    ours = rows[processes.own(rows)]
    bad_row = -1
    for batch in loader(np.array_split(ours, -(-len(ours) // _SCAN_ROWS)) if len(ours) else []):
        finite_B = torch.isfinite(batch.x).all(dim=1)
        if not finite_B.all():
            bad_row = int(batch.rows[int(torch.argmin(finite_B.int())) % len(batch.rows)])
            break
        for name, value in _batch_sums(read_target(batch.x)).items():
            total[name] += value.cpu().double()
        advance(len(batch.rows))
    # All stop where one has to.
    (bad_row,) = processes.largest(bad_row)
    if bad_row >= 0:
        raise KvaeError(f"{describe_row(source, bad_row)}: features are not finite")
    sums = {name: value.numpy() for name, value in processes.add_all(total).items()}
    present_K, present_value = sums.pop("present"), sums.pop("value")
    above = sums.pop("above")
    n_rows = len(rows) * (2 if isinstance(source, Halves) else 1)
    return PartSums(n_rows, present_K, present_value, above, sums)


def _batch_sums(target: Target) -> dict[str, Tensor]:
    value_BK = target.value
    present_BK = target.present.float()
    on_present_BK = value_BK * present_BK
    sums = {
        "present": present_BK.sum(dim=0),
        "value": torch.stack([on_present_BK.sum(), (on_present_BK * value_BK).sum()]),
        "above": torch.stack([(target.frequency > t).sum() for t in OUTPUT_THRESHOLDS.values()]),
        "mse7": _moments(value_BK),
    }
    sums |= {dense_name(name): _moments(log_BK) for name, log_BK in target.dense.items()}
    sums["mse_gc"] = _moments(target.gc)
    return sums


def _moments(x_BK: Tensor) -> Tensor:
    """Sum and sum of squares of every column, in double precision where there is one."""
    if x_BK.device.type != "mps":
        x_BK = x_BK.double()
    return torch.stack([x_BK.sum(dim=0), x_BK.square().sum(dim=0)])
