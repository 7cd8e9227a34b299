"""Latents of models beside all other vectors, on the pieces that no model has seen.

    python benches/pretrained/compare_vectors.py OUT [MODEL ...]

``OUT`` is what `benches/pretrained` wrote, and the first model its own, unless others are
named (runs or files). Of the pieces of 5 to 10 kb it takes as many of every species as
there are, at most 60 of those that were trained on and 150 of the others, and prints for
each vector but the VAE of 4-mers ARI of k-means, k-NN, and k-NN within genus: the tables of
docs/experiments.md and of the model card.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import kvae
from kvae.evaluation.usefulness import Space, score, score_within
from kvae.evaluation.vectors import Reference, raw_vectors
from kvae.labels import label_rows, read_labels
from kvae.sampling import balanced_rows
from kvae.store import FeatureStore

SHORTEST, LONGEST = 5_000, 10_000
MOST = {"seen": 60, "unseen": 150}
REFERENCE_ROWS = 5_000

Texts = NDArray[np.str_]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, help="what benches/pretrained wrote")
    parser.add_argument("models", type=Path, nargs="*", help="runs or files (OUT/run)")
    parser.add_argument("--seeds", type=int, default=5, help="starts of k-means")
    parser.add_argument("-t", "--threads", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    models = args.models or [args.output / "run"]
    seeds = range(args.seeds)
    opened = {name: labelled(args.output, name, 0, args.threads) for name in MOST}
    train, species, _ = labelled(args.output, "train", 10_000, args.threads)
    rows = balanced_rows(train.source_codes, np.arange(len(train)), REFERENCE_ROWS, 0)
    reference = Reference(train, rows, species[rows])
    found: dict[str, dict[str, str]] = {}
    for name, (store, species, genus) in opened.items():
        chosen = sample(store, species, MOST[name])
        lengths = store.column("length").to_numpy()[chosen].astype(np.int64)
        part = store.rows(chosen)
        made = {str(model): [kvae.encode(model, part, threads=args.threads)] for model in models}
        made |= raw_vectors(store, chosen, reference, seeds, vae_steps=0, threads=args.threads)
        for kind, versions in made.items():
            space = Space(versions[0])
            scores = score(space, species[chosen], lengths, seeds, density=False).scores
            within = score_within(space, species[chosen], genus[chosen], lengths, (0,))
            ari, knn = scores["kmeans_ari"], scores["knn5"].mean
            near = "" if within is None else f" / {within.scores['knn5'].mean:.3f}"
            text = f"{ari.mean:.3f} ± {ari.sd or 0:.3f} / {knn:.3f}{near}"
            found.setdefault(kind, {})[name] = text
        n_species = len(np.unique(species[chosen]))
        print(f"{name}: {len(chosen)} pieces of {n_species} species")
    print("\n| vectors | seen: ARI / k-NN / within genus | unseen |\n|---|---|---|")
    for kind, texts in found.items():
        print(f"| {kind} | {texts.get('seen', '')} | {texts.get('unseen', '')} |")


def labelled(
    output: Path, name: str, window: int, threads: int
) -> tuple[FeatureStore, Texts, Texts]:
    """Open pieces, with the species and the genus of each."""
    store = kvae.open_sequences(output / name, window=window, min_length=1_000, threads=threads)
    table = read_labels(output / f"{name}.tsv")
    columns = label_rows(store, table, ["species", "genus"]).columns
    return store, np.asarray(columns["species"]), np.asarray(columns["genus"])


def sample(store: FeatureStore, species: Texts, most: int) -> NDArray[np.int64]:
    """Choose pieces of 5 to 10 kb, at most so many of each species."""
    lengths = store.column("length").to_numpy()
    rng = np.random.default_rng(0)
    inside = np.flatnonzero((lengths >= SHORTEST) & (lengths < LONGEST))
    chosen = []
    for one in np.unique(species[inside]):
        of_it = inside[species[inside] == one]
        chosen.append(rng.permutation(of_it)[:most])
    return np.sort(np.concatenate(chosen))


if __name__ == "__main__":
    main()
