"""The whole way from sequences to latents, on small genomes in the package."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kvae import defaults
from kvae.encoding import encode
from kvae.epoch_progress import TrainProgress
from kvae.errors import KvaeError
from kvae.featurizing import featurize
from kvae.reporting import report
from kvae.seeds import check_seed
from kvae.store import FeatureStore
from kvae.training import TrainResult, train

__all__ = ["DemoResult", "demo"]

BATCH_SIZE = 64
NEIGHBOURS = 5

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class DemoResult:
    """What `demo` made and found.

    Attributes
    ----------
    folder
        Where everything is: ``genomes/``, ``feats.arrow``, ``run/``,
        ``latent.arrow``, ``report.html`` and ``demo.png``.
    rows, genomes, latent
        Numbers of rows, of genomes they are from, and of latent units.
    training
        The result of `kvae.train`.
    latent_agreement, fourmer_agreement
        Share of rows whose nearest neighbours are mostly of the same genome,
        in the latent space and among z-scored 4-mers.
    """

    folder: Path
    rows: int
    genomes: int
    latent: int
    training: TrainResult
    latent_agreement: float
    fourmer_agreement: float


def demo(
    output: str | os.PathLike[str] = "kvae-demo",
    *,
    epochs: int = defaults.DEMO_EPOCHS,
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
    force: bool = False,
    progress: TrainProgress | None = None,
    say: Callable[[str], object] = lambda text: None,
) -> DemoResult:
    """Featurize, train and encode the genomes in the package, and report the result.

    Parameters
    ----------
    output
        Folder to make.
    epochs, seed, device, threads
        As for `kvae.train`.
    force
        Replace `output` if it exists.
    progress
        Told how training and encoding go on.
    say
        Told in a line what happens next.

    Raises
    ------
    KvaeError
        If the folder exists and `force` is false, or cannot be made.
    """
    check_seed(seed)
    folder = Path(output)
    if folder.exists() and not force:
        raise KvaeError(f"{folder}: exists already: give --force to replace it, or another -o")
    if not folder.absolute().parent.is_dir():
        raise KvaeError(f"{folder}: its parent folder does not exist: create it first")
    # The folder appears when all is in it, so an interrupted demo leaves nothing.
    with tempfile.TemporaryDirectory(prefix=".kvae-demo.", dir=folder.absolute().parent) as made:
        work = Path(made) / "demo"
        work.mkdir()
        with as_file(files("kvae.demo") / "genomes") as genomes:
            shutil.copytree(genomes, work / "genomes")
            say(f"kvae featurize {folder}/genomes -o {folder}/feats.arrow")
            # The package's own files, whose paths last, are the rows' sources.
            featurize(genomes, work / "feats.arrow", threads=threads)
        say(f"kvae train {folder}/feats.arrow -o {folder}/run --epochs {epochs}")
        training = train(
            work / "feats.arrow",
            work / "run",
            epochs=epochs,
            batch_size=BATCH_SIZE,
            seed=seed,
            device=device,
            threads=threads,
            progress=progress,
        )
        say(f"kvae encode {folder}/run {folder}/feats.arrow -o {folder}/latent.arrow")
        encode(work / "run", work / "feats.arrow", work / "latent.arrow", device=device)
        page = f"--map tsne -o {folder}/report.html"
        say(f"kvae report {folder}/run --latent {folder}/latent.arrow {page}")
        report(
            work / "run",
            work / "report.html",
            latents=work / "latent.arrow",
            # UMAP would take longer than all the rest.
            map="tsne",
            title="kvae demo",
            device=device,
            threads=threads,
        )
        result = _examine(work, folder, training)
        if folder.is_dir() and not folder.is_symlink():
            shutil.rmtree(folder)
        elif folder.exists():
            folder.unlink()
        work.rename(folder)
    return result


def _examine(work: Path, folder: Path, training: TrainResult) -> DemoResult:
    """Compare latents with 4-mers, and draw both."""
    from kvae.demo.picture import draw

    store = FeatureStore(work / "feats.arrow")
    rows = store.rows(np.arange(len(store)))
    labels = store.source_codes
    names = [Path(name).name.split(".")[0].replace("_", " ") for name in store.source_names]
    latents = encode(work / "run", work / "feats.arrow").astype(np.float64)
    fourmers = standardized(np.exp(rows[:, store.layout.block("4-mers").slice].astype(np.float64)))
    draw(work / "demo.png", latents, fourmers, labels, names, work / "run" / "metrics.jsonl")
    return DemoResult(
        folder=folder,
        rows=len(store),
        genomes=len(names),
        latent=latents.shape[1],
        training=replace(training, run=folder / "run"),
        latent_agreement=neighbour_agreement(latents, labels),
        fourmer_agreement=neighbour_agreement(fourmers, labels),
    )


def standardized(vectors: Matrix) -> Matrix:
    """Give every column mean 0 and standard deviation 1."""
    deviation = vectors.std(axis=0)
    scaled: Matrix = (vectors - vectors.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    return scaled


def neighbour_agreement(
    vectors: Matrix, labels: NDArray[np.int32], neighbours: int = NEIGHBOURS
) -> float:
    """Classify every row by the majority of its nearest other rows.

    Returns
    -------
    float
        Share of rows whose label is found.
    """
    squares = (vectors**2).sum(axis=1)
    distances = squares[:, None] + squares - 2 * vectors @ vectors.T
    np.fill_diagonal(distances, np.inf)
    nearest = labels[np.argpartition(distances, neighbours, axis=1)[:, :neighbours]]
    votes = (nearest[:, :, None] == np.arange(labels.max() + 1)).sum(axis=1)
    return float((votes.argmax(axis=1) == labels).mean())
