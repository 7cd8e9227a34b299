"""What a command reads is not what it writes to, and numbers that make no sense are told."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import kvae
from in_process import kvae as command
from kvae import KvaeError
from kvae.atomic import keep_inputs
from latent_files import write_latents
from sequences import fasta, listing, random_sequence, write

VECTORS = np.random.default_rng(0).normal(size=(60, 64)).astype(np.float32)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, data_files: list[Path]) -> Path:
    """A folder with a file of each kind, and a run."""
    folder = tmp_path_factory.mktemp("made")
    write(folder / "a.fa", fasta([("a", random_sequence(3_000))]))
    kvae.featurize(data_files[:2], folder / "feats.arrow")
    kvae.featurize(data_files[:2], folder / "shards", shard=(1, 1))
    write_latents(folder / "latent.arrow", VECTORS, ids=[f"c{i // 2}" for i in range(60)])
    kvae.index(folder / "latent.arrow", folder / "latent.index", threads=1)
    kvae.train(
        folder / "feats.arrow",
        folder / "run",
        preset="dot",
        latent=8,
        epochs=1,
        batch_size=16,
        device="cpu",
        threads=1,
    )
    shutil.copy(folder / "run" / "model.safetensors", folder / "model.arrow")
    shutil.copy(folder / "run" / "model.safetensors", folder / "model.onnx")
    shutil.copy(folder / "a.fa", folder / "a.tsv")
    return folder


LINES = [
    "search latent.arrow --record c1 -o latent.arrow",
    "search latent.index latent.arrow -o latent.arrow",
    "search latent.index --record c1 -o latent.index/rows.arrow",
    "search latent.index a.tsv --run run -o a.tsv",
    "cluster latent.arrow -o latent.arrow",
    "report run --latent latent.arrow -o latent.arrow",
    "report run --features feats.arrow -o feats.arrow",
    "report run -o run/config.json",
    "report run/model.safetensors -o run/model.safetensors",
    "pretrain feats.arrow -o feats.arrow --epochs 1",
    "encode run feats.arrow -o feats.arrow",
    "encode run shards -o shards/feats-0001-of-0001.arrow",
    "encode model.arrow feats.arrow -o model.arrow",
    "export feats.arrow -o feats.arrow",
    "export shards -o shards/feats-0001-of-0001.arrow",
    "pretrain shards -o shards/feats-0001-of-0001.arrow --epochs 1",
    "report run --features shards -o shards/feats-0001-of-0001.arrow",
    "export latent.arrow -o latent.arrow",
    "export model.onnx -o model.onnx",
]


@pytest.mark.parametrize("line", LINES)
def test_an_input_is_kept(
    made: Path,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(made)
    before = listing(made)
    assert command(f"kvae {line} --force", monkeypatch) == 1
    output = line.split(" -o ")[1].split()[0]
    said = capfd.readouterr().err.splitlines()[-1]
    assert said == f"kvae: error: {output} is the input: give another -o"
    assert listing(made) == before


def test_another_name_for_an_input_is_the_input(tmp_path: Path) -> None:
    path = write(tmp_path / "a.arrow", b"x")
    (tmp_path / "link.arrow").symlink_to(path)
    for name in ("a.arrow", "link.arrow", "../" + tmp_path.name + "/a.arrow"):
        with pytest.raises(KvaeError, match="is the input"):
            keep_inputs(tmp_path / name, None, VECTORS, [tmp_path / "missing", path])
    keep_inputs(tmp_path / "b.arrow", path, tmp_path)
    keep_inputs("s3://bucket/b.arrow", path, "s3://bucket/a.arrow")
    with pytest.raises(KvaeError, match="is the input"):
        keep_inputs("s3://bucket/a.arrow", "s3://bucket/a.arrow")


HUGE = 10**20
NUMBERS = [
    (f"featurize a.fa -o x.arrow --window {HUGE}", f"{HUGE} is too large a number"),
    (f"featurize a.fa -o x.arrow --min-length {2**64}", f"{2**64} is too large a number"),
    (f"featurize a.fa -o x.arrow -t {HUGE}", f"{HUGE} is too large a number"),
    (f"featurize a.fa -o x --shard 1/{HUGE}", f"{HUGE} is too large a number"),
    (f"plan a.fa -q --window {HUGE}", f"{HUGE} is too large a number"),
    ("cluster latent.arrow -o x.tsv --seed -1", "seed must be from 0 to 4294967295, got -1"),
    (f"cluster latent.arrow -o x.tsv --seed {2**64}", "seed must be from 0"),
    (f"cluster latent.arrow -o x.tsv -k 3 --seed {2**32}", "seed must be from 0"),
    ("report run -o x.html --seed -1", "seed must be from 0"),
    (f"evaluate run feats.arrow -o x --seed {2**32 - 1}", "seed must be from 0 to 4294967293"),
    ("demo -o x --seed -1", "seed must be from 0"),
]


MISTAKES = [
    ("featurize a.fa -o -", "-: an output is a file here"),
    ("search nothing latent.arrow", "nothing: no such file"),
    ("doctor nowhere", "nowhere: no such folder"),
    ("train feats.arrow -o x --window 100", "feats.arrow: holds rows, and a window"),
    ("train shards -o x --min-length 100", "shards: holds rows, and a window"),
]


@pytest.mark.parametrize(("line", "words"), NUMBERS + MISTAKES)
def test_what_cannot_be_meant_is_told_in_a_line(
    made: Path,
    line: str,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(made)
    assert command(f"kvae {line}", monkeypatch) == 1
    (said,) = capfd.readouterr().err.splitlines()
    assert said.startswith("kvae: error: ")
    assert words in said
    assert not list(made.glob("x*"))
    assert not (made / "-").exists()


@pytest.mark.parametrize(
    "line",
    [
        "pretrain feats.arrow -o x.safetensors --epochs 1",
        "evaluate run feats.arrow -o x",
        "describe feats.arrow -o x",
    ],
)
def test_a_folder_that_cannot_be_written_to_is_seen_before_the_work(
    made: Path, line: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # Whoever runs the tests may be allowed everything.
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    monkeypatch.chdir(made)
    assert command(f"kvae {line}", monkeypatch) == 1
    (said,) = capfd.readouterr().err.splitlines()
    assert said.endswith(": cannot write to its folder: Permission denied")


def test_a_k_out_of_range_is_wrong_usage(
    made: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(made)
    assert command(f"kvae export feats.arrow -o x.parquet --k {HUGE}", monkeypatch) == 2
    assert f"{HUGE} is too large a number" in capfd.readouterr().err
