"""Fixtures that several modules of tests share."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

import kvae
from kvae.layout import Layout
from sequences import DATA, PROJECT, fasta, random_sequence, write
from small import MemoryStore, make_layout, make_store
from thorough import LONG
from training_runs import Finished, Record, run


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tiny tensors are slower on several threads, and far slower on a busy machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    """Ctrl-C is not ignored, as it is by what a shell starts in the background."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def full_layout() -> Layout:
    """Widths of the default layout."""
    return make_layout(8192, 136, 32)


@pytest.fixture(scope="session")
def layout() -> Layout:
    return make_layout(96, 20, 8)


@pytest.fixture(scope="session")
def store(layout: Layout) -> MemoryStore:
    return make_store(layout, [9, 8, 10, 7, 9, 8, 6, 9, 10, 4])


@pytest.fixture(scope="session")
def finished(store: MemoryStore, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A run of six epochs and what it reported."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    progress = Record()
    result = run(store, folder, epochs=6, progress=progress)
    return Finished(folder, result, progress)


# How long an example takes says more about the machine than about the code. The examples are
# the same ones every time, and others where tests may take long.
settings.register_profile(
    "kvae",
    deadline=None,
    derandomize=not LONG,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("kvae")


@pytest.fixture(scope="session")
def data_files() -> list[Path]:
    """Pieces of four genomes, about 100 kb each."""
    return sorted(DATA.glob("*.fna.gz"))


@pytest.fixture(scope="session")
def feature_file(tmp_path_factory: pytest.TempPathFactory, data_files: list[Path]) -> Path:
    """The features of `data_files`: 71 rows of four sources. Not to be changed."""
    path = tmp_path_factory.mktemp("features") / "feats.arrow"
    kvae.featurize(data_files, path)
    return path


@pytest.fixture(scope="session")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,100 rows of 34 fields in three batches, from two sources."""
    folder = tmp_path_factory.mktemp("small")
    paths = [
        write(folder / name, fasta([(name, random_sequence(rows * 100, rows))]))
        for name, rows in (("a.fna", 700), ("b.fna", 400))
    ]
    kvae.featurize(paths, folder / "small.arrow", k=[3], window=100)
    return folder / "small.arrow"


@pytest.fixture(scope="session")
def pretrained_graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The encoder of the pretrained model as an ONNX graph, which takes seconds to make."""
    path = tmp_path_factory.mktemp("graph") / "encoder.onnx"
    kvae.export("pretrained", path)
    return path


@pytest.fixture(scope="session")
def shared_genomes() -> Path:
    """The folder of whole genomes, where there is one."""
    folder = PROJECT.parent / "shared" / "genomes"
    if not folder.is_dir():
        pytest.skip("needs the genomes in ../shared/genomes")
    return folder
