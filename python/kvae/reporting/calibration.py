"""Does a 7-mer occur as often as the model says? On rows of a feature file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kvae.evaluation.background import pool_genomes
from kvae.evaluation.chains import markov_profile
from kvae.evaluation.presence import PresenceScore, PresenceSums, presence_probability
from kvae.evaluation.profiles import leave_one_out, pooled
from kvae.halves import halves_of
from kvae.loading import BatchLoader
from kvae.model import KmerVAE
from kvae.model.decoder import Decoded
from kvae.model.targets import Target
from kvae.progress import Progress
from kvae.reporting.reading import RunFacts
from kvae.row_sources import Indices, RowSource
from kvae.sampling import balanced_rows
from kvae.store import FeatureStore
from kvae.training.split import split_rows

__all__ = ["BINS", "Calibration", "CalibrationSums", "calibrate", "validation_rows"]

BINS = 20
# Rows that are predicted: eight million 7-mers, sixteen in halves.
ROWS = 1000
# Rows that the genomes' own compositions are summed from.
_POOL_ROWS = 20_000
_BATCH = 100


@dataclass(frozen=True)
class Calibration:
    """Predicted probabilities of presence beside what occurred.

    Attributes
    ----------
    rows
        Rows that were looked at.
    in_halves
        Whether each half of them was predicted from the other.
    are_held_out
        Whether they are rows that the run did not train on.
    threshold
        Frequency above which a 7-mer is present.
    counts
        7-mers of rows in each of `BINS` bins of predicted probability.
    predicted, observed
        Mean probability and share present of each bin, NaN where it is empty.
    error
        Mean distance between the two, over all 7-mers of rows.
    score
        Accuracy and cross-entropy of these probabilities.
    majority
        Accuracy of the more frequent class.
    limit
        Scores of the composition that stands for the truth; its ``expected_accuracy``
        is what sampling allows. None for models of other k-mers.
    truth
        What stands for it: ``genome`` for the other rows of each row's file,
        ``chain`` for a Markov chain of order 2 of what the model sees.
    """

    rows: int
    in_halves: bool
    are_held_out: bool
    threshold: float
    counts: NDArray[np.int64]
    predicted: NDArray[np.float64]
    observed: NDArray[np.float64]
    error: float
    score: PresenceScore
    majority: float
    limit: PresenceScore | None
    truth: str


class CalibrationSums:
    """Sums over 7-mers by their predicted probability."""

    def __init__(self) -> None:
        self.counts = np.zeros(BINS, np.int64)
        self._chance = np.zeros(BINS)
        self._present = np.zeros(BINS)

    def add(self, chance_BK: Tensor, present_BK: Tensor) -> None:
        """Add probabilities, and whether each came true."""
        chance_N = chance_BK.double().flatten()
        bin_N = (chance_N * BINS).long().clamp_(max=BINS - 1)
        self.counts += torch.bincount(bin_N, minlength=BINS).cpu().numpy()
        for sums, weight_N in ((self._chance, chance_N), (self._present, present_BK.flatten())):
            sums += torch.bincount(bin_N, weight_N.double(), minlength=BINS).cpu().numpy()

    @property
    def predicted(self) -> NDArray[np.float64]:
        """Mean probability of each bin, NaN where it is empty."""
        return self._per_bin(self._chance)

    @property
    def observed(self) -> NDArray[np.float64]:
        """Share of each bin that came true, NaN where it is empty."""
        return self._per_bin(self._present)

    @property
    def rate(self) -> float:
        """Share of all that came true."""
        return float(self._present.sum() / max(self.counts.sum(), 1))

    @property
    def error(self) -> float:
        """Mean distance of probability and share, weighed by counts."""
        return float(np.abs(self._chance - self._present).sum() / max(self.counts.sum(), 1))

    def _per_bin(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        with np.errstate(invalid="ignore"):
            share: NDArray[np.float64] = sums / self.counts
        return share


def validation_rows(run: RunFacts, store: RowSource) -> Indices | None:
    """Rows of a source that a run was validated on; None where it is not the run's own.

    They are drawn again as they were, and compared with what the run has recorded.
    """
    if run.config is None or not run.split:
        return None
    training = run.config.training
    if len(store) < 3:
        return None
    split = split_rows(store, training.validation, training.seed)
    recorded = (run.split.get("train_rows"), run.split.get("validation_rows"))
    if recorded != (len(split.train), len(split.validation)):
        return None
    return split.validation if split.held_out == run.split.get("held_out") else None


@torch.inference_mode()
def calibrate(
    run: RunFacts,
    model: KmerVAE,
    store: FeatureStore,
    seed: int,
    device: torch.device,
    progress: Progress,
) -> Calibration | None:
    """Hold a model's probabilities of presence against rows.

    They are computed from the mean of each row's latent, and of what the run was
    trained to predict: the row itself, or its other half. Rows that were held out are
    taken where they can be told.

    Returns
    -------
    Calibration or None
        None for a model that says nothing about presence.
    """
    if model.config.decoder.sparse.gate_hidden is None:
        return None
    held_out = validation_rows(run, store)
    candidates = np.arange(len(store), dtype=np.int64) if held_out is None else held_out
    rows = balanced_rows(store.source_codes, candidates, ROWS, seed)
    source: RowSource = halves_of(store, seed) if run.in_halves else store
    truth = None
    if model.config.decoder.sparse.block == "7-mers" and {7, 3} <= set(store.layout.ks):
        truth = _Truth(store, rows, seed, progress)
    sums, score, limit = CalibrationSums(), PresenceSums(), PresenceSums()
    progress.begin("calibration", len(rows))
    for batch in BatchLoader(source, device)(
        [rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH)]
    ):
        decoded: Decoded = model.generative(model.inference(batch.x).mean)
        wanted = batch.x.roll(len(batch.rows), 0) if run.in_halves else batch.x
        target: Target = model.read_target(wanted)
        logit_BK = decoded.presence_logit(target.n_windows)
        assert logit_BK is not None  # there is a gate
        chance_BK = torch.sigmoid(logit_BK.cpu().double()).clamp(1e-12, 1.0 - 1e-12)
        present_BK = target.present.cpu()
        sums.add(chance_BK, present_BK)
        score.add(chance_BK, present_BK)
        if truth is not None:
            n_B = target.n_windows[:, 0].cpu()
            profile_BK = truth(batch.rows, batch.x.cpu())
            threshold = model.config.presence_threshold
            limit.add(presence_probability(profile_BK, n_B, threshold), present_BK)
        progress.advance(len(batch.rows))
    return Calibration(
        rows=len(rows),
        in_halves=run.in_halves,
        are_held_out=held_out is not None,
        threshold=model.config.presence_threshold,
        counts=sums.counts,
        predicted=sums.predicted,
        observed=sums.observed,
        error=sums.error,
        score=score.score(),
        majority=max(sums.rate, 1.0 - sums.rate),
        limit=None if truth is None else limit.score(),
        truth="" if truth is None else truth.name,
    )


class _Truth:
    """The composition that a row is a draw from, as far as other rows tell."""

    def __init__(self, store: FeatureStore, rows: Indices, seed: int, progress: Progress) -> None:
        self._store = store
        self._layout = store.layout
        codes = store.source_codes
        sizes = np.bincount(codes)
        # A file is taken for a genome where there are several, as in an evaluation.
        self.name = "genome" if (sizes > 1).sum() > 1 else "chain"
        if self.name == "chain":
            return
        ours = np.unique(codes[rows])
        candidates = np.flatnonzero(np.isin(codes, ours)).astype(np.int64)
        pool = np.union1d(balanced_rows(codes, candidates, _POOL_ROWS, seed), rows)
        place = np.searchsorted(ours, codes)
        self._genomes = place.astype(np.int64)
        cpu = torch.device("cpu")
        self._pools = pool_genomes(store, pool, self._genomes[pool], cpu, progress)
        self._mean = pooled(self._pools.sum(dim=0))

    def __call__(self, rows: Indices, x_BF: Tensor) -> Tensor:
        """Profiles of rows; of halves, those of all first ones before the second ones."""
        if self.name == "genome":
            counts_BK = torch.from_numpy(self._store.counts(rows, 7).astype(np.float64))
            total_BK = self._pools[torch.from_numpy(self._genomes[rows])].double()
            profile_BK = leave_one_out(total_BK, counts_BK, self._mean)
            return profile_BK.repeat(len(x_BF) // len(rows), 1)
        length_B1 = x_BF[:, self._layout.block("length").slice].double().exp()
        share_BK = x_BF[:, self._layout.block("3-mers").slice].double().exp()
        counts_BK = (share_BK - self._layout.pseudocount).clamp(min=0.0) * (length_B1 - 2.0)
        return markov_profile(counts_BK, 2)
