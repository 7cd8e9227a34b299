"""Genomes as pieces of contigs: some to train on, and others to be examined with."""

from __future__ import annotations

import csv
import gzip
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from relatives import SAME_SPECIES, identity, sketch, species_name

FOLDS = 5
# Letters of the pieces that are examined: log-uniform, so that all bins of length are filled.
SHORTEST, LONGEST = 1_000, 15_000
# Share of a training genome's pieces that are kept from training.
KEPT = 0.12
SEED = 11


@dataclass(frozen=True)
class Genome:
    """A line of a manifest.

    Attributes
    ----------
    path
        Its sequences.
    organism, genus, cluster
        What it is; ``cluster`` is its species.
    fold
        That of its cluster, None for pieces that only train.
    """

    path: Path
    organism: str
    genus: str
    cluster: str
    fold: int | None


def fold_of(cluster: str) -> int:
    """Part of the species that a cluster belongs to."""
    return int(hashlib.sha256(cluster.encode()).hexdigest(), 16) % FOLDS


def read_manifest(folder: Path, *, folded: bool) -> list[Genome]:
    """Genomes of a folder with a ``manifest.tsv``."""
    with (folder / "manifest.tsv").open(encoding="utf-8") as file:
        return [
            Genome(
                folder / line["file"],
                line["organism"],
                line["genus"],
                line["species_cluster95"],
                fold_of(line["species_cluster95"]) if folded else None,
            )
            for line in csv.DictReader(file, delimiter="\t")
        ]


def read_contigs(path: Path) -> list[bytes]:
    """Sequences of a gzipped FASTA file."""
    with gzip.open(path, "rb") as file:
        records = file.read().split(b">")[1:]
    return [
        record.partition(b"\n")[2].replace(b"\n", b"").replace(b"\r", b"").replace(b"*", b"N")
        for record in records
    ]


def tiles(
    length: int, rng: np.random.Generator, shortest: int = SHORTEST, longest: int = LONGEST
) -> Iterator[tuple[int, int]]:
    """Cut a contig into pieces of random length; what is too short at its end is left."""
    start = 0
    while start + shortest <= length:
        n = int(np.exp(rng.uniform(np.log(shortest), np.log(longest))))
        end = min(start + n, length)
        if end - start >= shortest:
            yield start, end
        start = end


class Writer:
    """Writes pieces to a folder, a file for each genome, and a table of their labels."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.labels = folder.with_suffix(".tsv")
        folder.mkdir(parents=True)
        self.labels.write_text("file\tspecies\tgenus\n", encoding="utf-8")

    def write(self, genome: Genome, pieces: list[bytes]) -> None:
        """Add the pieces of a genome."""
        if not pieces:
            return
        name = genome.path.name.removesuffix(".fna.gz") + ".fna"
        with (self.folder / name).open("wb") as file:
            for number, piece in enumerate(pieces):
                file.write(b">%s_%d\n%s\n" % (name.encode(), number, piece))
        with self.labels.open("a", encoding="utf-8") as table:
            table.write(f"{name}\t{genome.cluster}\t{genome.genus}\n")


def write_pieces(shared: Path, output: Path, test: int, left_out: set[int]) -> list[str]:
    """Write ``train``, ``seen`` and ``unseen`` below a folder.

    Parameters
    ----------
    shared
        Folder with ``genomes`` and ``species``.
    output
        Folder to make.
    test
        Fold of the clusters that are examined as unseen.
    left_out
        All folds that do not train, this one among them.

    Returns
    -------
    list of str
        Organisms whose pieces are left out for being of a species that is.
    """
    genomes = read_manifest(shared / "genomes", folded=True)
    further = read_manifest(shared / "species", folded=False)
    rng = np.random.default_rng(SEED)
    train, seen, unseen = (Writer(output / name) for name in ("train", "seen", "unseen"))
    strangers, names = [], set()
    for genome in genomes:
        contigs = read_contigs(genome.path)
        if genome.fold in left_out:
            strangers.append(sketch(contigs))
            names.add(species_name(genome.organism))
            if genome.fold == test:
                cut = [(c, a, b) for c in contigs for a, b in tiles(len(c), rng)]
                unseen.write(genome, [c[a:b] for c, a, b in cut])
            continue
        to_train, to_examine = [], []
        for contig in contigs:
            end_of_last = 0
            for start, end in tiles(len(contig), rng):
                if rng.random() < KEPT:
                    to_examine.append(contig[start:end])
                    to_train.append(contig[end_of_last:start])
                    end_of_last = end
            to_train.append(contig[end_of_last:])
        train.write(genome, [piece for piece in to_train if len(piece) >= SHORTEST])
        seen.write(genome, to_examine)
    excluded = []
    for genome in further:
        contigs = read_contigs(genome.path)
        mine = sketch(contigs)
        if species_name(genome.organism) in names or any(
            identity(mine, other) >= SAME_SPECIES for other in strangers
        ):
            excluded.append(genome.organism)
            continue
        train.write(genome, [contig for contig in contigs if len(contig) >= SHORTEST])
    return excluded
