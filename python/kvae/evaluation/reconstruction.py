"""How well rows are told from what a predictor keeps of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kvae.errors import KvaeError
from kvae.evaluation.compositions import (
    Composition,
    batches,
    halves,
    has_sequences,
    read_compositions,
)
from kvae.evaluation.noise import SamplingNoise
from kvae.evaluation.presence import (
    THRESHOLDS,
    PresenceSums,
    largest_absent,
    presence_probability,
)
from kvae.evaluation.profiles import (
    Background,
    Predictors,
    gate_profile,
    own_gate,
    profile_of,
)
from kvae.evaluation.scores import ProfileScore, Reconstruction, majority, summarise
from kvae.model import KmerVAE
from kvae.model.decoder import Decoded
from kvae.model.posterior import Latent
from kvae.model.refining import refined
from kvae.model.tilting import PRIOR_OF_SOURCE, tilted
from kvae.progress import Progress
from kvae.row_sources import Indices
from kvae.store import FeatureStore

__all__ = ["GATE", "MODEL", "REFINED", "TILTED", "score"]

MODEL, GATE, TILTED, REFINED = "model", "model_gate", "model_tilted", "model_refined"


@dataclass
class _Sums:
    """What is summed of one predictor: presence, and nats row by row."""

    presence: dict[str, PresenceSums] = field(
        default_factory=lambda: {name: PresenceSums() for name in THRESHOLDS}
    )
    own: list[NDArray[np.float64]] = field(default_factory=list)
    cross: list[NDArray[np.float64]] = field(default_factory=list)


@torch.inference_mode()
def score(
    model: KmerVAE,
    store: FeatureStore,
    rows: Indices,
    background: Background,
    *,
    learned_from: str = "evaluated",
    pools: Tensor | None = None,
    genomes: NDArray[np.int64] | None = None,
    device: torch.device,
    threads: int | None = None,
    progress: Progress | None = None,
) -> tuple[Reconstruction, NDArray[np.float32]]:
    """Score a model and the other predictors on rows, and return the latents too.

    Parameters
    ----------
    model
        In evaluation mode; computes where its weights are.
    store, rows
        What to score.
    background
        Of `kvae.evaluation.background.learn_background`.
    learned_from
        Which rows that was learned from, to be told.
    pools, genomes
        Of `kvae.evaluation.background.pool_genomes`, and the genome of each row. The
        pools contain the rows.
    device
        Where everything but the model computes.
    threads
        To count the k-mers of halves with.

    Returns
    -------
    reconstruction, latents
        The latents are the means, shape (rows, latent units).

    Raises
    ------
    KvaeError
        For features or model outputs that are not finite.
    """
    progress = progress or Progress()
    groups = np.full(len(rows), -1, np.int64) if genomes is None else genomes
    scorer = _Scorer(model, store, background, Predictors(background, pools), device)
    in_halves = has_sequences(store)
    latents = []
    halved: list[NDArray[np.int64]] = []
    progress.begin("reconstruction", len(rows))
    start = 0
    for part in batches(rows):
        codes_B = torch.from_numpy(groups[start : start + len(part)]).to(device)
        whole = read_compositions(store, part, device)
        latents.append(scorer.whole(whole, codes_B))
        if in_halves:
            first, second, kept = halves(store, part, device, threads)
            scorer.halves(first, second, whole.take(kept), codes_B[kept])
            halved.append(start + kept.cpu().numpy())
        start += len(part)
        progress.advance(len(part))
    sources = store.source_codes[rows].astype(np.int64)
    cross = sources[np.concatenate(halved)] if halved else sources[:0]
    return scorer.result(learned_from, sources, cross), np.concatenate(latents)


class _Scorer:
    """Sums over batches."""

    def __init__(
        self,
        model: KmerVAE,
        store: FeatureStore,
        background: Background,
        predictors: Predictors,
        device: torch.device,
    ) -> None:
        self._model = model
        self._layout = store.layout
        self._path = store.path
        self._background = background
        self._predictors = predictors
        self._device = device
        self._sums: dict[str, _Sums] = {}
        self._own_n: list[NDArray[np.float64]] = []
        self._cross_n: list[NDArray[np.float64]] = []
        self._present = dict.fromkeys(THRESHOLDS, 0.0)
        self._by_kmer = {name: PresenceSums() for name in THRESHOLDS}
        self._gate: PresenceSums | None = None
        self._errors: dict[str, NDArray[np.float64]] = {}
        self._noise = SamplingNoise(store.layout.pseudocount)
        self._variance: dict[str, float] = {}
        self._truth_error, self._cells = 0.0, 0

    def whole(self, rows: Composition, genomes_B: Tensor) -> NDArray[np.float32]:
        """Score whole rows; returns their latents."""
        n_B, counts_BK = rows.n, rows.counts[7]
        most = {name: largest_absent(n_B, t)[:, None] for name, t in THRESHOLDS.items()}
        present = {name: counts_BK > most_B1 for name, most_B1 in most.items()}
        for name, present_BK in present.items():
            self._present[name] += float(present_BK.sum())
            rate_K = self._background.present[name].clamp(1e-6, 1.0 - 1e-6)
            self._by_kmer[name].add(rate_K.expand_as(counts_BK), present_BK)
        latent, decoded = self._decode(rows.x)
        for name, profile_BK in self._profiles(rows, latent, decoded, genomes_B, counts_BK):
            if name == self._predictors.truth:
                self._add_noise(rows, profile_BK)
            sums = self._sums.setdefault(name, _Sums())
            sums.own.append(_nats(counts_BK, profile_BK))
            for which, threshold in THRESHOLDS.items():
                chance_BK = presence_probability(profile_BK, n_B, threshold)
                sums.presence[which].add(chance_BK, present[which])
        self._own_n.append(n_B.cpu().numpy())
        self._add_gate(decoded, rows)
        self._add_errors(decoded, rows.x)
        return latent.mean.float().cpu().numpy()

    def halves(
        self, first: Composition, second: Composition, whole: Composition, genomes_B: Tensor
    ) -> None:
        """Score each half by what is known of the other."""
        if len(first.x) == 0:
            return
        for seen, scored in ((first, second), (second, first)):
            latent, decoded = self._decode(seen.x)
            made = self._profiles(seen, latent, decoded, genomes_B, whole.counts[7])
            for name, profile_BK in made:
                nats = _nats(scored.counts[7], profile_BK)
                self._sums[name].cross.append(nats)
            self._cross_n.append(scored.n.cpu().numpy())

    def _decode(self, x_BF: Tensor) -> tuple[Latent, Decoded]:
        home = next(self._model.parameters()).device
        latent = self._model.inference(x_BF.to(home))
        return latent, _moved(self._model.generative(latent.mean), self._device)

    def _refined(self, seen: Composition, latent: Latent) -> Tensor:
        """Look for a profile further than the encoder does, as `reconstruct` can."""

        def decode(z_BL: Tensor) -> Tensor:
            return self._model.generative(z_BL).value

        home = latent.mean.device
        profile_BK = decode(refined(decode, latent, seen.counts[7].to(home)))
        profile_BK = profile_BK.to(self._device).double()
        return tilted(profile_BK, seen.counts[4], prior=PRIOR_OF_SOURCE)

    def _profiles(
        self,
        seen: Composition,
        latent: Latent,
        decoded: Decoded,
        genomes_B: Tensor,
        whole_BK: Tensor,
    ) -> Iterator[tuple[str, Tensor]]:
        profile_BK = profile_of(decoded, self._layout.pseudocount)
        if not bool(torch.isfinite(profile_BK).all()):
            raise KvaeError(f"{self._path}: the model decodes numbers that are not finite")
        yield MODEL, profile_BK
        yield TILTED, tilted(profile_BK, seen.counts[4])
        if decoded.space == "profile":
            yield REFINED, self._refined(seen, latent)
        gate_BK = gate_profile(decoded)
        if gate_BK is not None:
            yield GATE, gate_BK
        yield from self._predictors(seen.counts, genomes_B, whole_BK)

    def _add_gate(self, decoded: Decoded, rows: Composition) -> None:
        """Score the gate as presence at the threshold that it was trained for."""
        logit_BK = own_gate(decoded)
        if logit_BK is None:
            return
        if self._gate is None:
            self._gate = PresenceSums()
        most_B = largest_absent(rows.n, self._model.config.presence_threshold)
        chance_BK = torch.sigmoid(logit_BK.double()).clamp(1e-12, 1.0 - 1e-12)
        self._gate.add(chance_BK, rows.counts[7] > most_B[:, None])

    def _add_errors(self, decoded: Decoded, x_BF: Tensor) -> None:
        """Sum squared errors of log frequencies, the model's and a constant's."""
        pseudocount = self._layout.pseudocount
        sparse = self._model.config.decoder.sparse.block
        said = {sparse: (decoded.frequency(pseudocount).double() + pseudocount).log()}
        said |= {name: log_BK.double() for name, log_BK in decoded.dense.items()}
        said["gc"] = decoded.gc.double()
        for name, log_BK in said.items():
            block = self._layout.block(name).slice
            wanted_BK = x_BF[:, block].double()
            constant_K = self._background.fields[block]
            sums = [
                float((log_BK - wanted_BK).square().sum()),
                float((constant_K - wanted_BK).square().sum()),
                float(wanted_BK.numel()),
            ]
            self._errors[name] = self._errors.get(name, np.zeros(3)) + np.array(sums)

    def _add_noise(self, rows: Composition, profile_BK: Tensor) -> None:
        """Sum what the truth would have of squared errors, and its profile has."""
        gc_B = rows.x[:, self._layout.block("gc").start].double().exp()
        said_BK = (profile_BK + self._layout.pseudocount).log()
        wanted_BK = rows.x[:, self._layout.block("7-mers").slice].double()
        self._truth_error += float((said_BK - wanted_BK).square().sum())
        self._cells += wanted_BK.numel()
        for name, variance in self._noise(rows.counts, profile_BK, gc_B).items():
            self._variance[name] = self._variance.get(name, 0.0) + variance

    def result(
        self,
        learned_from: str,
        sources: NDArray[np.int64],
        cross_sources: NDArray[np.int64],
    ) -> Reconstruction:
        """Turn the sums into scores."""
        own_n = np.concatenate(self._own_n)
        has_cross = len(cross_sources) > 0
        cross_n = np.concatenate(self._cross_n) if has_cross else own_n
        cross_groups = self._both_directions(cross_sources) if has_cross else sources
        model = self._sums[MODEL]
        own_model = np.concatenate(model.own)
        profiles = {}
        for name, sums in self._sums.items():
            cross = None
            if has_cross:
                of_model = np.concatenate(model.cross)
                cross = summarise(np.concatenate(sums.cross), cross_n, cross_groups, of_model)
            profiles[name] = ProfileScore(
                own=summarise(np.concatenate(sums.own), own_n, sources, own_model),
                cross=cross,
                presence={which: p.score() for which, p in sums.presence.items()},
            )
        cells = max(self._by_kmer[next(iter(THRESHOLDS))].cells, 1)
        rates = {name: count / cells for name, count in self._present.items()}
        return Reconstruction(
            rows=len(own_n),
            cross_rows=len(cross_sources),
            learned_from=learned_from,
            truth=self._predictors.truth,
            profiles=profiles,
            majority={name: majority(rate) for name, rate in rates.items()},
            kmer_majority={name: sums.score() for name, sums in self._by_kmer.items()},
            gate=None if self._gate is None else self._gate.score(),
            gate_threshold=self._model.config.presence_threshold,
            mse={
                name: {
                    "model": float(a / n),
                    "constant": float(b / n),
                    "noise": self._variance.get(name, math.nan) / float(n),
                }
                for name, (a, b, n) in self._errors.items()
            },
            truth_mse=self._truth_error / max(self._cells, 1),
        )

    def _both_directions(self, sources: NDArray[np.int64]) -> NDArray[np.int64]:
        """Put the sources of the halves in the order of their scoring."""
        ordered, start = [], 0
        for n in self._cross_n[::2]:
            part = sources[start : start + len(n)]
            ordered += [part, part]
            start += len(n)
        return np.concatenate(ordered)


def _moved(decoded: Decoded, device: torch.device) -> Decoded:
    """Bring what a model decodes to where it is scored: some devices lack float64."""
    if decoded.gc.device == device:
        return decoded
    moved: dict[str, Any] = {}
    for part in fields(decoded):
        value = getattr(decoded, part.name)
        if isinstance(value, Tensor):
            moved[part.name] = value.to(device)
        elif isinstance(value, dict):
            moved[part.name] = {name: tensor.to(device) for name, tensor in value.items()}
    return replace(decoded, **moved)


def _nats(counts_BK: Tensor, profile_BK: Tensor) -> NDArray[np.float64]:
    """Nats of all k-mers of each row."""
    nats: NDArray[np.float64] = -(counts_BK * profile_BK.log()).sum(dim=1).cpu().numpy()
    return nats
