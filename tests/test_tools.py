"""VAMB and scanpy open what is made for them, and go on from there."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import kvae
from kvae.latents import read_latents
from pages import blocks
from tools import needs

MIN_LENGTH = 2000


@contextmanager
def quiet() -> Iterator[None]:
    """Other programs may warn of what they like."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def vamb(*arguments: str, cwd: Path) -> None:
    """Run VAMB as a user would, in a process of its own."""
    result = subprocess.run(
        [sys.executable, "-m", "vamb", *arguments, "-p", "1"],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, data_files: list[Path]) -> Path:
    """A folder with sequences and all that VAMB takes of kvae."""
    folder = tmp_path_factory.mktemp("tools")
    with (folder / "all.fna").open("wb") as text:
        for path in data_files:
            text.write(gzip.decompress(path.read_bytes()))
    features, latents = folder / "feats.arrow", folder / "latent.arrow"
    kvae.featurize(folder / "all.fna", features, min_length=MIN_LENGTH)
    kvae.encode("pretrained", features, latents, threads=1)
    kvae.export(features, folder / "composition.npz", vamb=True, threads=1)
    kvae.export(latents, folder / "latent.npz", vamb=True)
    kvae.cluster(latents, folder / "clusters.tsv", min_contigs=1)
    return folder


@needs("vamb", "tools")
def test_vamb_loads_a_composition_as_its_own(folder: Path) -> None:
    with quiet():
        from vamb.parsecontigs import Composition
        from vamb.vambtools import read_npz

    composition = Composition.load(folder / "composition.npz")
    with (folder / "all.fna").open("rb") as file:
        own = Composition.from_file(file, "all.fna", minlength=MIN_LENGTH)
    for name in ("identifiers", "lengths", "mask"):
        np.testing.assert_array_equal(
            getattr(composition.metadata, name), getattr(own.metadata, name), name
        )
    assert composition.metadata.minlength == own.metadata.minlength == MIN_LENGTH
    # The bases of the two differ, and no length or angle does, but that VAMB rounds each of
    # its numbers towards zero, to 11 bits.
    gram = composition.matrix @ composition.matrix.T
    norms = np.linalg.norm(composition.matrix, axis=1)
    difference = (gram - own.matrix @ own.matrix.T) / np.outer(norms, norms)
    assert 0 < np.abs(difference).max() < 2 * 2**-11
    latents = read_npz(folder / "latent.npz")
    assert latents.shape == (own.nseqs, 64)
    assert latents.dtype == np.float32


@needs("vamb", "tools")
def test_vamb_bins_by_a_composition(folder: Path) -> None:
    names = [f"{name}" for name in np.load(folder / "latent.npz")["identifiers"]]
    lines = [f"{name}\t{1 + i % 3}.0\t{2 + i % 5}.5" for i, name in enumerate(names)]
    (folder / "abundance.tsv").write_text("\n".join(["contigname\tone\tother", *lines]) + "\n")
    inputs = ["--composition", "composition.npz", "--abundance_tsv", "abundance.tsv"]
    vamb("bin", "default", "--outdir", "bins", *inputs, "-e", "2", "-q", cwd=folder)
    assert clustered(folder / "bins/vae_clusters_unsplit.tsv") == sorted(names)


@needs("vamb", "tools")
def test_vamb_reclusters_latents_and_clusters(folder: Path) -> None:
    # With the composition that VAMB makes of the sequences, whose contigs have to be the same.
    import vamb as package

    markers = Path(str(package.__file__)).parent / "marker.hmm"
    inputs = ["--fasta", "all.fna", "--latent_path", "latent.npz", "--hmm_path", str(markers)]
    clusters = ["--clusters_path", "clusters.tsv", "--algorithm", "kmeans"]
    vamb("recluster", "--outdir", "again", *inputs, *clusters, cwd=folder)
    names = np.load(folder / "latent.npz")["identifiers"].tolist()
    assert clustered(folder / "again/clusters_reclustered_unsplit.tsv") == sorted(names)


def clustered(path: Path) -> list[str]:
    """Contigs of a table of VAMB, each once."""
    header, *lines = path.read_text().splitlines()
    assert header == "clustername\tcontigname"
    return sorted(line.split("\t")[1] for line in lines)


@needs("scanpy", "tools")
def test_scanpy_takes_the_latents(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import anndata

    monkeypatch.chdir(folder)
    kvae.export("latent.arrow", "latent.h5ad")
    names = {"data": anndata.read_h5ad("latent.h5ad")}
    (code,) = blocks("ecosystem.md", "py")
    with quiet():
        exec(code, names)
        names["data"].write_h5ad("again.h5ad")
    assert names["data"].obsm["X_umap"].shape == (len(names["data"]), 2)
    latents = read_latents(Path("again.h5ad"))
    np.testing.assert_array_equal(latents.vectors, names["data"].obsm["X_kvae"])
