"""A device without enough memory, stood in for by exceptions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from in_process import kvae
from kvae.errors import KvaeError
from kvae.model import KmerVAE
from kvae.training.memory import batch_that_fits, memory_advice, moved_to
from small import MemoryStore, small_model
from test_survival import NARROW
from training_runs import checkpoint, run

GB = 10**9


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory for the first few steps only."""
    calls = 0
    elbo = KmerVAE.elbo

    def fails(self: KmerVAE, *arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 8:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nMore")
        return elbo(self, *arguments, **options)

    monkeypatch.setattr(KmerVAE, "elbo", fails)


@pytest.mark.usefixtures("small_memory")
def test_too_little_memory_gives_a_batch_size(store: MemoryStore, tmp_path: Path) -> None:
    with pytest.raises(KvaeError, match=r"cpu has too little .* 16 rows: .*--batch-size 8$"):
        run(store, tmp_path / "run")
    # What was finished before stays.
    assert '"epoch":1' in checkpoint(tmp_path / "run")[1]["state"]


@pytest.mark.usefixtures("small_memory")
def test_the_program_says_it_in_one_line(
    feature_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = f"kvae train -q {feature_file} -o {tmp_path / 'run'} {' '.join(NARROW)}"
    assert kvae(line.replace("--batch-size 2", "--batch-size 8"), monkeypatch) == 1
    told = capsys.readouterr().err
    assert told.splitlines() == [
        "kvae: error: cpu has too little memory for this model in batches of 8 rows: "
        "start again with --batch-size 4"
    ]


def test_a_cpu_without_memory_is_told_alike(store: MemoryStore) -> None:
    model = KmerVAE(small_model(), store.layout)
    with (
        pytest.raises(KvaeError, match="--batch-size 64"),
        memory_advice(128, model, torch.device("cpu")),
    ):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9")
    with (
        pytest.raises(KvaeError, match="choose a smaller model or another --device"),
        memory_advice(2, model, torch.device("cpu")),
    ):
        raise torch.OutOfMemoryError
    with (
        pytest.raises(RuntimeError, match="shapes"),
        memory_advice(2, model, torch.device("cpu")),
    ):
        raise RuntimeError("shapes do not fit")


def test_the_estimate_follows_what_a_row_took() -> None:
    # All that could be had was used up: half is all that can be promised.
    assert batch_that_fits(4096, fixed=GB, peak=40 * GB, room=40 * GB) == 2048
    # Others have most of the device.
    assert batch_that_fits(4000, fixed=GB, peak=41 * GB, room=10 * GB) == 800
    # The model alone does not fit.
    assert batch_that_fits(4096, fixed=8 * GB, peak=8 * GB, room=7 * GB) == 0


def test_a_cuda_device_is_asked(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    model = KmerVAE(small_model(), store.layout)
    cuda = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (GB, 80 * GB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 3 * GB)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 12 * GB)
    with (
        pytest.raises(KvaeError, match=r"cuda:0 has too little .*--batch-size 12\d\d$"),
        memory_advice(4096, model, cuda),
    ):
        raise torch.OutOfMemoryError


def test_a_model_that_does_not_fit_is_one_line(store: MemoryStore) -> None:
    class Full(torch.nn.Linear):
        def to(self, *_: object, **__: object) -> Full:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(KvaeError, match=r"cuda:0 has too little memory for a model of 4 MB"):
        moved_to(Full(1000, 1000), torch.device("cuda", 0))
    assert moved_to(torch.nn.Linear(2, 2), torch.device("cpu")).in_features == 2
