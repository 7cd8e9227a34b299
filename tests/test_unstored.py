"""Sequences that are read into memory instead of a feature file."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import kvae
from feature_tables import GOOD, RECORDS
from kvae.config import RunConfig
from kvae.layout import default_layout
from kvae.model import KmerVAE
from kvae.progress import Progress
from kvae.row_sources import open_rows
from kvae.sequences import is_feature_file
from sequences import bgzf, fails, fasta, fastq, run_kvae, write
from small import small_model
from training_runs import assert_same_weights


@pytest.fixture
def genomes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of three files, in the current one."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "genomes" / "a.fna", fasta(RECORDS))
    write(tmp_path / "genomes" / "b.fa.gz", bgzf(fasta(RECORDS[::-1])))
    write(tmp_path / "genomes" / "c.fastq", fastq(RECORDS[:3]))
    return tmp_path / "genomes"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model of rows as `kvae.featurize` makes them, untrained."""
    torch.manual_seed(0)
    path = tmp_path / "model.safetensors"
    KmerVAE(small_model(), default_layout()).save(path)
    return path


@pytest.mark.parametrize("options", [{}, {"window": 0, "k": [5, 2]}, {"min_length": 4000}])
def test_rows_are_those_of_a_feature_file(genomes: Path, options: dict[str, Any]) -> None:
    kvae.featurize("genomes", "feats.arrow", **options)
    stored = kvae.FeatureStore("feats.arrow")
    rows = kvae.open_sequences("genomes", **options)
    everything = np.arange(len(stored))
    assert len(rows) == len(stored)
    assert rows.layout == stored.layout
    assert str(rows.path) == "genomes"
    np.testing.assert_array_equal(rows.rows(everything), stored.rows(everything))
    for name in ("id", "source", "start", "end", "length", "gc"):
        assert rows.column(name).to_pylist() == stored.column(name).to_pylist()


def test_several_inputs(genomes: Path) -> None:
    rows = kvae.open_sequences([genomes / "c.fastq", genomes / "a.fna"])
    assert [Path(name).name for name in rows.source_names] == ["c.fastq", "a.fna"]


def test_nothing_stays_open_once_the_rows_are_gone(genomes: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    rows = kvae.open_sequences(genomes)
    rows.rows(np.array([0]))
    del rows
    assert len(os.listdir("/proc/self/fd")) == before


def test_feature_files_are_told_by_content(genomes: Path) -> None:
    kvae.featurize("genomes", "feats.fa")
    assert is_feature_file("feats.fa")
    assert is_feature_file("missing.arrow")
    for path in ("genomes", "genomes/a.fna", "-", "@list.txt", "/dev/null"):
        assert not is_feature_file(path)
    assert len(open_rows(["feats.fa"])) == len(open_rows("genomes"))


def test_mistakes_name_the_file(genomes: Path) -> None:
    write(genomes / "d.fa", b">x\nACGT\n>y\nAC!T\n")
    with pytest.raises(kvae.KvaeError, match=r"genomes/d\.fa, line 4"):
        kvae.open_sequences("genomes")
    with pytest.raises(kvae.KvaeError, match=r"missing\.arrow: no such file"):
        open_rows("missing.arrow")
    with pytest.raises(kvae.KvaeError, match=r"missing\.fa: no such file"):
        open_rows(["missing.fa", "genomes"])
    kvae.featurize("genomes/a.fna", "feats.arrow")
    with pytest.raises(kvae.KvaeError, match=r"feats\.arrow: .*an Arrow file, not sequences"):
        open_rows(["genomes/a.fna", "feats.arrow"])


def test_sequences_are_encoded_like_their_features(genomes: Path, model: Path) -> None:
    kvae.featurize("genomes", "feats.arrow")
    expected = kvae.encode(model, "feats.arrow", device="cpu")
    np.testing.assert_array_equal(kvae.encode(model, "genomes", device="cpu"), expected)
    files = sorted(genomes.iterdir())
    np.testing.assert_array_equal(kvae.encode(model, files, device="cpu"), expected)


def test_the_command_line_takes_sequences(genomes: Path, model: Path) -> None:
    write(genomes / "e.txt.gz", gzip.compress(GOOD))
    told = run_kvae("encode", str(model), "genomes/e.txt.gz", "genomes/a.fna", "-o", "z.npz")
    assert told.returncode == 0, told.stderr
    with np.load("z.npz") as latents:
        assert set(latents["source"].tolist()) == {"genomes/e.txt.gz", "genomes/a.fna"}
    write(genomes.parent / "notes.txt", b"no sequences\n")
    told = run_kvae("encode", str(model), "notes.txt", "-o", "y.npz")
    assert "notes.txt: begins with 'n': neither FASTA" in fails(told)


def test_training_on_sequences_is_training_on_their_features(genomes: Path) -> None:
    kvae.featurize("genomes", "feats.arrow", store="packed")
    settings = {"training.epochs": 1, "training.batch_size": 4}
    config = RunConfig(model=small_model())
    for name, features in (("stored", "feats.arrow"), ("unstored", ["genomes"])):
        kvae.train(features, name, config=config, settings=settings, device="cpu", threads=1)
    assert_same_weights(Path("stored"), Path("unstored"))


def test_rows_have_the_blocks_that_the_model_names(genomes: Path) -> None:
    branches = [{"block": f"{k}-mers", "hidden": [8]} for k in (7, 6, 5, 4, 3)]
    config = RunConfig(model=small_model(**{"encoder.branches": branches}))
    settings = {"training.epochs": 1, "training.batch_size": 4}
    kvae.train("genomes", "run", config=config, settings=settings, device="cpu", threads=1)
    latent = kvae.encode("run", "genomes", device="cpu")
    assert latent.shape == (len(kvae.open_sequences("genomes")), 12)


def test_reading_sequences_is_told(data_files: list[Path], tmp_path: Path) -> None:
    class Listener(Progress):
        def __init__(self) -> None:
            self.told: list[tuple[int, int | None, int]] = []

        def reading(self, read: int, total: int | None, rows: int) -> None:
            self.told.append((read, total, rows))

    listener = Listener()
    rows = open_rows(data_files, progress=listener)
    read, total, n_rows = listener.told[-1]
    assert read == total == sum(path.stat().st_size for path in data_files)
    assert n_rows == len(rows)
