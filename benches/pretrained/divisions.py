"""How far to even the encoder's linear map, on many random divisions of the species.

    python benches/pretrained/divisions.py SHARED

Species of folds 0 and 2, and what is related to them, take no part. Of the others a quarter
is drawn as unseen, forty times: the linear map is learned from all that is not, at once, and
the unseen species' pieces of 5 to 10 kb are clustered and compared with their neighbours,
for every power of `kvae.model.discriminants.evened`. Differences are of the same pieces, so
their standard errors are small beside the differences between divisions. One core takes
about ten minutes.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pieces import read_contigs, read_manifest, tiles
from relatives import SAME_SPECIES, identity, sketch, species_name
from sklearn.metrics import adjusted_rand_score
from threadpoolctl import threadpool_limits

import kvae
from kvae.evaluation.clustering import k_means
from kvae.evaluation.neighbours import majority_labels, nearest
from kvae.model.discriminants import EVENING, discriminants, evened
from kvae.nearest import unit_rows

LEFT_OUT = {0, 2}
POWERS = (0.25, 0.0, -0.1, -0.2, EVENING, -0.3, -0.4, -0.5)
# Letters of a row, log-uniform: of those that are learned from, and that are examined.
LEARNED, EXAMINED = (3_000, 20_000), (5_000, 10_000)
MOST = 150
COMPONENTS, NUMBERS = 256, 64
SEED = 5

Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class Species:
    """Rows of a species, and the clusters of genomes that it is the same as."""

    name: str
    same: frozenset[str]
    learned: Matrix
    examined: Matrix | None


def main() -> None:
    """Print a line for every power."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shared", type=Path, help="folder with genomes and species")
    parser.add_argument("--divisions", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=20, help="starts of k-means")
    parser.add_argument("-t", "--threads", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    # Principal axes are found from random directions.
    torch.manual_seed(SEED)
    with threadpool_limits(args.threads):
        species = read_species(args.shared)
        clusters = sorted(one.name for one in species if one.examined is not None)
        print(f"{len(species)} species, {len(clusters)} of which may be unseen", flush=True)
        found = []
        for number in range(args.divisions):
            unseen = {name for name in clusters if drawn(name, number)}
            found.append(scores(species, unseen, number, range(args.seeds)))
            print(f"division {number}: {len(unseen)} species", flush=True)
    table(np.array(found))


def table(found_DPS: NDArray[np.float64]) -> None:
    """Print means of shape (divisions, powers, scores), and differences from power 0."""
    difference_DPS = found_DPS - found_DPS[:, [POWERS.index(0.0)]]
    error_PS = difference_DPS.std(axis=0, ddof=1) / np.sqrt(len(found_DPS))
    print("\n| power | ARI | more than by 0 | k-NN | more than by 0 |\n|---|---|---|---|---|")
    for i, power in enumerate(POWERS):
        cells = []
        for j in range(2):
            cells.append(f"{found_DPS[:, i, j].mean():.3f}")
            cells.append(f"{difference_DPS[:, i, j].mean():+.4f} ± {error_PS[i, j]:.4f}")
        print(f"| {power} | {' | '.join(cells)} |")


def drawn(cluster: str, division: int) -> bool:
    """Tell whether a cluster is unseen in a division."""
    return int(hashlib.sha256(f"d{division}{cluster}".encode()).hexdigest(), 16) % 4 == 0


def scores(
    species: list[Species], unseen: set[str], division: int, seeds: range
) -> list[tuple[float, float]]:
    """ARI of k-means and accuracy of neighbours, for each power."""
    learned, codes, examined, labels = [], [], [], []
    rng = np.random.default_rng(division)
    for code, one in enumerate(species):
        if one.name in unseen and one.examined is not None:
            rows = rng.permutation(len(one.examined))[:MOST]
            examined.append(one.examined[rows])
            labels += [code] * len(rows)
        elif not one.same & unseen:
            learned.append(one.learned)
            codes += [code] * len(one.learned)
    inputs_NI = torch.from_numpy(np.concatenate(learned)).double()
    map_ = discriminants(inputs_NI, torch.tensor(codes))
    x_NI = torch.from_numpy(np.concatenate(examined)).double() - map_.mean
    z_NL = x_NI @ map_.whitening @ map_.directions[:, :NUMBERS]
    names, classes = np.unique(labels, return_inverse=True)
    found = []
    for power in POWERS:
        scaled_NL = z_NL * evened(map_.between[:NUMBERS], power)
        unit = unit_rows(scaled_NL.numpy())
        aris = [adjusted_rand_score(classes, k_means(unit, len(names), seed)) for seed in seeds]
        named = majority_labels(nearest(unit), classes)
        found.append((float(np.mean(aris)), float((named == classes).mean())))
    return found


def read_species(shared: Path) -> list[Species]:
    """Cut all genomes that take part, and describe the rows: 4-mers, components of 7-mers."""
    known = []
    rng = np.random.default_rng(SEED)
    same: dict[str, frozenset[str]] = {}
    learned: dict[str, list[bytes]] = {}
    examined: dict[str, list[bytes]] = {}
    for genome in read_manifest(shared / "genomes", folded=True):
        contigs = read_contigs(genome.path)
        name = species_name(genome.organism)
        known.append((genome.cluster, genome.fold, name, sketch(contigs)))
        if genome.fold in LEFT_OUT:
            continue
        same[genome.cluster] = frozenset({genome.cluster})
        learned.setdefault(genome.cluster, []).extend(cut(contigs, LEARNED, rng))
        examined.setdefault(genome.cluster, []).extend(cut(contigs, EXAMINED, rng))
    for further in read_manifest(shared / "species", folded=False):
        contigs = read_contigs(further.path)
        mine, name = sketch(contigs), species_name(further.organism)
        related = [
            (cluster, fold)
            for cluster, fold, other, theirs in known
            if other == name or identity(mine, theirs) >= SAME_SPECIES
        ]
        if any(fold in LEFT_OUT for _, fold in related):
            continue
        key = f"{name} {further.path.name}"
        same[key] = frozenset(cluster for cluster, _ in related)
        learned[key] = cut(contigs, LEARNED, rng)
    axes = components([row for rows in learned.values() for row in rows], rng)
    return [
        Species(
            name,
            same[name],
            described(learned[name], axes),
            described(examined[name], axes) if examined.get(name) else None,
        )
        for name in learned
        if learned[name]
    ]


def cut(contigs: list[bytes], lengths: tuple[int, int], rng: np.random.Generator) -> list[bytes]:
    """Rows of random lengths, one behind the other."""
    return [one[a:b] for one in contigs for a, b in tiles(len(one), rng, *lengths)]


def components(rows: list[bytes], rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and principal axes of 12,000 rows' 7-mers."""
    chosen = rng.permutation(len(rows))[:12_000]
    root_NK = torch.from_numpy(roots([rows[i] for i in chosen], 7))
    mean_K = root_NK.mean(dim=0)
    axes_KC = torch.svd_lowrank(root_NK.sub_(mean_K), q=COMPONENTS + 40, niter=2)[2]
    return mean_K, axes_KC[:, :COMPONENTS]


def described(rows: list[bytes], axes: tuple[torch.Tensor, torch.Tensor]) -> Matrix:
    """Square roots of 4-mers and components of those of 7-mers, (rows, inputs)."""
    mean_K, axes_KC = axes
    parts = []
    for start in range(0, len(rows), 1_000):
        part = rows[start : start + 1_000]
        compressed = (torch.from_numpy(roots(part, 7)) - mean_K) @ axes_KC
        parts.append(np.concatenate([roots(part, 4), compressed.numpy()], axis=1))
    return np.concatenate(parts)


def roots(rows: list[bytes], k: int) -> Matrix:
    """Square roots of the shares of k-mers."""
    counts = kvae.count_kmers(rows, k).astype(np.float32)
    return np.sqrt(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0))


if __name__ == "__main__":
    main()
