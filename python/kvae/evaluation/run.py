"""``kvae.evaluate``: a model's latent and reconstruction, beside baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from kvae import defaults
from kvae.atomic import check_outputs
from kvae.device import resolve_device, torch_threads
from kvae.errors import KvaeError
from kvae.evaluation.background import learn_background, pool_genomes
from kvae.evaluation.composition_vae import STEPS
from kvae.evaluation.opening import about, open_model, open_reference
from kvae.evaluation.outcome import LATENT, Evaluation, WithinGroups
from kvae.evaluation.reconstruction import score as score_reconstruction
from kvae.evaluation.scores import Reconstruction
from kvae.evaluation.usefulness import (
    BINS,
    Space,
    Usefulness,
    check_metric,
    merged,
    score,
    score_within,
)
from kvae.evaluation.vectors import Matrix, Reference, raw_vectors
from kvae.evaluation.words import sentences
from kvae.evaluation.writing import FILES, write_outputs
from kvae.labels import GENUS, SOURCE, SPECIES, RowLabels, label_rows, read_labels
from kvae.model import KmerVAE
from kvae.progress import Progress
from kvae.remote.uris import as_path
from kvae.row_sources import Features, Indices
from kvae.sampling import balanced_rows
from kvae.seeds import check_seed
from kvae.store import FeatureStore

__all__ = ["evaluate"]

# A genome's own profile is pooled from more of its rows than are evaluated.
_POOL_FACTOR = 5
_POOL_ROWS = 50_000


def evaluate(
    model: str | Path | KmerVAE,
    features: Features,
    output: str | Path | None = None,
    *,
    labels: str | Path | None = None,
    by: Sequence[str] = (),
    reference: Features | None = None,
    reference_labels: str | Path | None = None,
    rows: int = defaults.EVALUATE_ROWS,
    seeds: int = defaults.EVALUATE_SEEDS,
    seed: int = defaults.SEED,
    metric: str = "euclidean",
    bins: Sequence[int] = BINS,
    only_labelled: bool = False,
    vae_steps: int = STEPS,
    device: str = "auto",
    threads: int | None = None,
    verify: bool = True,
    cache: str | Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Evaluation:
    """Examine what a model reconstructs, and what its latents are good for.

    Every figure stands beside those of predictors and vectors that need no trained
    model. See ``docs/evaluating.md`` for what each one means.

    Parameters
    ----------
    model
        A run folder, a ``model.safetensors``, or a model.
    features
        A feature file, or sequence files and folders, which are cut into rows as those
        that the model was trained on. Rows need 7-, 4- and 3-mers; without sequences
        nothing can be scored in halves.
    output
        Folder to write to: ``evaluation.json``, ``evaluation.md``, ``evaluation.png``
        and ``evaluation.svg``. Nothing is written where omitted.
    labels
        Tab-separated table with a header. Its first column names records or source
        files, the others are labels; ``""`` and ``?`` stand for none.
    by
        Columns to score; where empty, those of genome, species, species_cluster95,
        label and genus that are there, else the second column.
    reference
        Other rows, which baselines learn from instead of the evaluated ones.
    reference_labels
        Labels of those, as ``labels``; discriminants are learned from its species.
    rows
        Rows to evaluate at most, and of the reference; a sample that has as many of
        each source file as possible is taken.
    seeds
        How often everything random is repeated.
    seed
        Decides the sample, and is the first of the seeds.
    metric
        ``euclidean``, or ``cosine``: of all vectors alike.
    bins
        Edges of the bins of length in bases, ascending; the last one is open.
    only_labelled
        Evaluate only rows that the table has a label for.
    vae_steps
        Training steps of the 4-mer VAE among the baselines, 0 to leave it out.
    device
        ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
    threads
        CPU threads, all that are available where omitted.
    verify
        Hold what is read of a feature file against its checksums.
    cache
        Folder for copies of remote feature files; see `kvae.FeatureStore`.
    force
        Replace existing files.
    progress
        Told about every pass.

    Raises
    ------
    KvaeError
        Where there is no model, features do not fit it, a table matches nothing or
        lacks a column, or the output may not be written.

    Examples
    --------
    >>> found = kvae.evaluate("run", "feats.arrow", labels="species.tsv")  # doctest: +SKIP
    >>> found.usefulness["species"]["latent"].scores["knn5"].mean          # doctest: +SKIP
    0.83
    """
    progress = progress or Progress()
    folder = None if output is None else as_path(output)
    check_metric(metric)
    _check_arguments(rows, seeds, bins, reference, reference_labels, labels, only_labelled)
    check_seed(seed, seeds)
    if folder is not None:
        check_outputs(folder, FILES, force=force)
    torch_device = resolve_device(device)
    table = None if labels is None else read_labels(labels)
    if table is not None:
        table.choose(by)
    elif by:
        raise KvaeError(f"{by[0]}: labels to score need a table of them")
    store, vae, cutting = open_model(model, features, threads, verify=verify, cache=cache)
    row_labels = label_rows(store, table, by)
    if row_labels.shared:
        progress.message(
            f"{labels}: {row_labels.shared:,} names are those of records in several files, which"
            " all get the same labels"
        )
    with torch_threads(threads) as n_threads, threadpool_limits(n_threads):
        evaluation = _evaluate(
            vae.to(torch_device) if not isinstance(model, KmerVAE) else vae,
            store,
            row_labels,
            open_reference(
                reference,
                reference_labels,
                store,
                cutting,
                rows,
                seed,
                threads,
                verify=verify,
                cache=cache,
            ),
            facts=about(model, vae, store, reference, table_path=labels),
            rows=rows,
            seeds=[seed + i for i in range(seeds)],
            metric=metric,
            bins=bins,
            only_labelled=only_labelled,
            vae_steps=vae_steps,
            device=torch_device,
            threads=threads,
            progress=progress,
        )
    if folder is not None:
        write_outputs(evaluation, folder, force=force)
    return evaluation


def _check_arguments(
    rows: int,
    seeds: int,
    bins: Sequence[int],
    reference: Features | None,
    reference_labels: str | Path | None,
    labels: str | Path | None,
    only_labelled: bool,
) -> None:
    """Refuse what cannot be meant."""
    if rows < 1 or seeds < 1:
        raise KvaeError(f"rows and seeds must be at least 1, got {rows} and {seeds}")
    if not bins or any(low >= high for low, high in pairwise(bins)):
        raise KvaeError("bins of length are ascending edges, such as 1000,2500,5000,10000")
    if reference is None and reference_labels is not None:
        raise KvaeError(f"{reference_labels}: labels of a reference need a reference")
    if only_labelled and labels is None:
        raise KvaeError("only labelled rows: give a table of labels")


def _evaluate(
    model: KmerVAE,
    store: FeatureStore,
    labels: RowLabels,
    reference: Reference | None,
    *,
    facts: dict[str, Any],
    rows: int,
    seeds: Sequence[int],
    metric: str,
    bins: Sequence[int],
    only_labelled: bool,
    vae_steps: int,
    device: torch.device,
    threads: int | None,
    progress: Progress,
) -> Evaluation:
    candidates = np.arange(len(store), dtype=np.int64)
    if only_labelled:
        of_table = [column != "" for name, column in labels.columns.items() if name != SOURCE]
        candidates = candidates[np.logical_or.reduce(of_table)]
    chosen = balanced_rows(store.source_codes, candidates, rows, seeds[0])
    was_training = model.training
    model.eval()
    try:
        reconstruction, latents = _reconstruct(
            model, store, labels, candidates, chosen, reference, seeds[0], device, threads, progress
        )
    finally:
        model.train(was_training)
    here = labels.take(chosen)
    scored = {name: column for name, column in here.items() if _n_labels(column) > 1}
    usefulness: dict[str, dict[str, Usefulness]] = {name: {} for name in scored}
    within = None
    if scored:
        made: dict[str, list[Matrix]] = {LATENT: [latents]}
        made |= raw_vectors(
            store,
            chosen,
            reference,
            seeds,
            vae_steps=vae_steps,
            device=device,
            threads=threads,
            progress=progress,
        )
        lengths = store.column("length").to_numpy()[chosen].astype(np.int64)
        usefulness, within = _score_vectors(made, scored, lengths, seeds, metric, bins, progress)
    facts = {
        **facts,
        "rows": len(chosen),
        "of_rows": len(store),
        "sources": len(np.unique(store.source_codes[chosen])),
        "reference_rows": None if reference is None else len(reference.rows),
        "seeds": list(seeds),
        "metric": metric,
        "bins": list(bins),
    }
    return Evaluation(
        facts=facts,
        reconstruction=reconstruction,
        usefulness=usefulness,
        within=within,
        unlabelled={name: int((column == "").sum()) for name, column in here.items()},
        words=sentences(reconstruction, usefulness, within),
    )


def _reconstruct(
    model: KmerVAE,
    store: FeatureStore,
    labels: RowLabels,
    candidates: Indices,
    chosen: Indices,
    reference: Reference | None,
    seed: int,
    device: torch.device,
    threads: int | None,
    progress: Progress,
) -> tuple[Reconstruction, NDArray[np.float32]]:
    # Scores are in double precision, which Apple's GPUs lack.
    scoring = torch.device("cpu") if device.type == "mps" else device
    if reference is None:
        background = learn_background(store, chosen, scoring, progress)
    else:
        background = learn_background(reference.store, reference.rows, scoring, progress)
    pools, genomes = None, None
    known = _genomes(labels)
    if known is not None:
        n_more = max(_POOL_FACTOR * len(chosen), _POOL_ROWS)
        more = balanced_rows(store.source_codes, candidates, n_more, seed)
        _, codes = np.unique(known[more], return_inverse=True)
        codes = np.where(known[more] == "", -1, codes).astype(np.int64)
        genomes = codes[np.searchsorted(more, chosen)]
        pools = pool_genomes(store, more, codes, scoring, progress)
    return score_reconstruction(
        model,
        store,
        chosen,
        background,
        learned_from="evaluated" if reference is None else "reference",
        pools=pools,
        genomes=genomes,
        device=scoring,
        threads=threads,
        progress=progress,
    )


def _genomes(labels: RowLabels) -> NDArray[np.str_] | None:
    """Genome of every row: its label, else the file that it is from, as far as known."""
    files = labels.columns.get(SOURCE)
    named = labels.columns.get("genome")
    if named is None or files is None:
        return files if named is None else named
    return np.where(named == "", files, named)


def _n_labels(column: NDArray[np.str_]) -> int:
    return len(np.unique(column[column != ""]))


def _score_vectors(
    made: Mapping[str, Sequence[Matrix]],
    labels: Mapping[str, NDArray[np.str_]],
    lengths: NDArray[np.int64],
    seeds: Sequence[int],
    metric: str,
    bins: Sequence[int],
    progress: Progress,
) -> tuple[dict[str, dict[str, Usefulness]], WithinGroups | None]:
    """Score every kind of vector by every label."""
    usefulness: dict[str, dict[str, Usefulness]] = {name: {} for name in labels}
    species = next((name for name in SPECIES if name in labels), None)
    inner: dict[str, Usefulness] = {}
    progress.begin("usefulness", len(made))
    for kind, versions in made.items():
        spaces = [Space(vectors, metric) for vectors in versions]
        # A vector that is made with a seed is scored with the same one.
        runs = [seeds] if len(spaces) == 1 else [[seed] for seed in seeds]
        pairs = list(zip(spaces, runs, strict=True))
        for label, column in labels.items():
            parts = [score(space, column, lengths, run, bins=bins) for space, run in pairs]
            usefulness[label][kind] = merged(parts)
        if species is not None and GENUS in labels:
            parts_within = [
                score_within(space, labels[species], labels[GENUS], lengths, run)
                for space, run in pairs
            ]
            found = [part for part in parts_within if part is not None]
            if found:
                inner[kind] = merged(found)
        progress.advance(1)
    within = WithinGroups(species, GENUS, inner) if species is not None and inner else None
    return usefulness, within
