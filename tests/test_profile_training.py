"""Training with the preset kvae: real sequences, halves, grouped batches, starting models."""

from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import kvae
from in_process import kvae as program
from kvae.errors import KvaeError
from kvae.model import KmerVAE
from kvae.model.profile_encoder import ProfileEncoder
from kvae.row_sources import Indices, RowSource
from kvae.run_folder import RunFolder
from kvae.training import TrainResult
from kvae.training.processes import Processes
from kvae.training.run import TrainingInterrupted
from kvae.training.sharing import share
from kvae.training.trainer import Trainer, cosine_share
from sequences import DATA
from short_kmers import PROFILE, PROFILE_KS, profile_layout, profile_run
from training_runs import Record, StopIn, assert_same_run, lines, untimed

WINDOW, SHORTEST = 4000, 1000
TINY = {
    "batch_size": 24,
    "window": WINDOW,
    "min_length": SHORTEST,
    "schedule": "cosine",
    "positives": "source",
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the configuration of a small model of the preset."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.json"
    path.write_text(json.dumps({"preset": "kvae", **PROFILE, "batch_size": 24}))
    return path


@pytest.fixture(scope="module")
def packed() -> kvae.FeatureStore:
    return kvae.open_sequences(DATA, k=PROFILE_KS, window=WINDOW, min_length=SHORTEST)


@pytest.fixture(scope="module")
def counts(tmp_path_factory: pytest.TempPathFactory) -> kvae.FeatureStore:
    """A feature file without sequences."""
    path = tmp_path_factory.mktemp("counts") / "counts.arrow"
    kvae.featurize(
        DATA, path, k=PROFILE_KS, window=WINDOW, min_length=SHORTEST, store="counts", sequence=False
    )
    return kvae.FeatureStore(path)


class TerminateIn(StopIn):
    """Sends SIGTERM after the first step of an epoch, which is stored before it has an end."""

    def advance(self, rows: int) -> None:
        try:
            super().advance(rows)
        except KeyboardInterrupt:
            self._label = ""
            os.kill(os.getpid(), signal.SIGTERM)


def train(
    features: RowSource | Path, output: Path, *, resume: bool = False, **changes: Any
) -> TrainResult:
    progress = changes.pop("progress", None)
    init = changes.pop("init", None)
    return kvae.train(
        features,
        output,
        config=profile_run(**TINY | changes),
        device="cpu",
        threads=1,
        resume=resume,
        progress=progress,
        init=init,
    )


def profile_encoder(model: KmerVAE) -> ProfileEncoder:
    assert isinstance(model.encoder, ProfileEncoder)
    return model.encoder


# --- the command line ----------------------------------------------------------------


def test_from_sequences_to_latents(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cut = f"--window {WINDOW} --min-length {SHORTEST}"
    line = f"kvae train {DATA} -o run --config {tiny} --positives source --resample {cut}"
    line += " --epochs 3 --set schedule=cosine --set validation=0.2 --device cpu --threads 1 -q"
    assert program(line, monkeypatch) == 0
    config = RunFolder(Path("run")).read_config()
    assert config.preset == "kvae"
    assert (config.training.positives, config.sequences.resample) == ("source", True)
    records = lines(Path("run"))
    assert len(records) == 3
    for record in records:
        for part in ("train", "validation"):
            assert all(math.isfinite(value) for value in record[part].values())
            assert {"nats", "contrast", "nats_constant", "BCE"} <= record[part].keys()
    losses = [record["train"]["loss"] for record in records]
    assert losses[-1] < losses[0]
    # The rate falls: what is recorded is that of an epoch's last step.
    split = json.loads(Path("run/split.json").read_text())
    n_batches = -(-split["train_rows"] // 24)
    for epoch, record in enumerate(records):
        done = (epoch + (n_batches - 1) / n_batches) / 3
        assert record["lr"] == pytest.approx(config.training.lr * cosine_share(done))

    assert program(f"kvae encode run {DATA} -o z.npz --device cpu -q", monkeypatch) == 0
    with np.load("z.npz") as written:
        latent = written["latent"]
    rows = kvae.open_sequences(DATA, k=PROFILE_KS, window=WINDOW, min_length=SHORTEST)
    assert latent.shape == (len(rows), 5)
    np.testing.assert_allclose(np.linalg.norm(latent, axis=1), math.sqrt(5), rtol=1e-5)
    np.testing.assert_array_equal(latent, kvae.encode("run", rows, device="cpu"))
    # Within a genome latents are nearer to each other than between genomes.
    codes = rows.source_codes
    means = np.array([latent[codes == code].mean(axis=0) for code in range(4)])
    inside = np.linalg.norm(latent - means[codes], axis=1).mean()
    assert np.linalg.norm(means[:, None] - means, axis=2).max() > inside


def test_positives_by_a_table(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = tmp_path / "labels.tsv"
    names = sorted(path.name for path in DATA.glob("*.fna.gz"))
    table.write_text("file\tkind\n" + "".join(f"{n}\t{i % 2}\n" for i, n in enumerate(names)))
    line = f"kvae train {DATA} -o run --config {tiny} --device cpu --threads 1 --epochs 1 -q"
    assert program(f"{line} --positives kind --labels {table}", monkeypatch) == 0
    training = RunFolder(Path("run")).read_config().training
    assert (training.positives, training.labels) == ("kind", str(table))
    # Other classes are other data.
    table.write_text("file\tkind\n" + "".join(f"{n}\t{i // 2}\n" for i, n in enumerate(names)))
    assert program(f"{line} --resume", monkeypatch) == 1
    assert program(f"{line} --positives kind -o other", monkeypatch) == 1
    assert not (tmp_path / "other").exists()


def test_what_a_run_says(packed: kvae.FeatureStore, tmp_path: Path) -> None:
    progress = Record()
    train(packed, tmp_path / "run", epochs=1, progress=progress)
    (line,) = progress.lines
    record = lines(tmp_path / "run")[0]["validation"]
    assert f" nats {record['nats']:.3f} (mean profile {record['nats_constant']:.3f})" in line
    assert f" contrast {record['contrast']:.2f}" in line


# --- the schedule --------------------------------------------------------------------


def test_a_cosine_rises_for_a_twentieth_and_falls_to_nothing() -> None:
    assert cosine_share(0.0) == pytest.approx(0.02 / 1.02)
    assert cosine_share(0.05) == pytest.approx(1.0)
    assert cosine_share(0.5 * (1.0 + 0.05)) == pytest.approx(0.5)
    assert cosine_share(1.0) == pytest.approx(0.0, abs=1e-12)
    shares = [cosine_share(i / 1000) for i in range(1001)]
    assert shares[:51] == sorted(shares[:51])
    assert shares[50:] == sorted(shares[50:], reverse=True)


def test_a_plateau_leaves_the_rate_alone_within_an_epoch(
    packed: kvae.FeatureStore, tmp_path: Path
) -> None:
    train(packed, tmp_path / "run", epochs=2, schedule="plateau", lr=0.002)
    assert [record["lr"] for record in lines(tmp_path / "run")] == [0.002, 0.002]


# --- the same run again --------------------------------------------------------------


@pytest.mark.parametrize("kind", ["drawn", "packed", "counts", "by contig"])
def test_an_interrupted_run_goes_on_to_the_same_bits(
    kind: str, packed: kvae.FeatureStore, counts: kvae.FeatureStore, tmp_path: Path
) -> None:
    features: RowSource | Path = {"packed": packed, "counts": counts}.get(kind, packed)
    changes: dict[str, Any] = {"epochs": 3}
    if kind == "drawn":
        features, changes["resample"] = DATA, True
    if kind == "by contig":
        changes["positives"] = "contig"
    train(features, tmp_path / "whole", **changes)
    folder = tmp_path / "stopped"
    with pytest.raises(TrainingInterrupted, match=r"holds 1 finished epoch\(s\) and \d step\(s\)"):
        train(features, folder, progress=TerminateIn(2), **changes)
    (stored,) = (folder / "checkpoints").iterdir()
    assert stored.name.startswith("epoch-000002-step-")
    train(features, folder, resume=True, **changes)
    assert_same_run(tmp_path / "whole", folder)
    assert (tmp_path / "whole" / "baselines.json").read_text() == (
        folder / "baselines.json"
    ).read_text()


def test_a_run_with_labels_goes_on_from_anywhere(
    packed: kvae.FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [Path(name).name for name in packed.source_names]
    text = "file\tkind\n" + "".join(f"{name}\t{i}\n" for i, name in enumerate(names[:-1]))
    table = tmp_path / "labels.tsv"
    table.write_text(text)
    monkeypatch.chdir(tmp_path)
    config = profile_run(**TINY | {"positives": "contig"})
    told = Record()

    def go_on(epochs: int, **arguments: Any) -> TrainResult:
        fixed: dict[str, Any] = {"device": "cpu", "threads": 1, "epochs": epochs}
        return kvae.train(packed, tmp_path / "run", **fixed, **arguments)

    with pytest.raises(KvaeError, match=r"labels\.tsv: .*name it with --positives"):
        go_on(1, labels="labels.tsv", config=config)
    assert not (tmp_path / "run").exists()
    go_on(1, labels="labels.tsv", positives="kind", progress=told, config=config)
    n_labelled = int((packed.source_codes < len(names) - 1).sum())
    line = f"{table}: {n_labelled} of {len(packed)} rows have a kind"
    assert any(message.startswith(line) for message in told.messages)
    (tmp_path / "moved").mkdir()
    monkeypatch.chdir(tmp_path / "moved")
    go_on(2, resume=True)
    table = table.rename(tmp_path / "moved" / "table.tsv")
    go_on(3, resume=True, labels="table.tsv")
    table.write_text(text.replace("\t0", "\t1"))
    with pytest.raises(KvaeError, match=r"or with other labels than .*table\.tsv has"):
        go_on(4, resume=True)


def test_rows_that_are_validated_by_contrast_are_mixed(
    packed: kvae.FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a batch is of one class, its contrast is the least where all latents are alike."""
    seen: list[list[Indices]] = []
    batches = Trainer._batches

    def watching(self: Trainer, label: str, rows: list[Indices], skip: int = 0) -> Any:
        if label == "validation":
            seen.append(rows)
        return batches(self, label, rows, skip)

    monkeypatch.setattr(Trainer, "_batches", watching)
    train(packed, tmp_path / "contrast", epochs=2, validation=0.5)
    first, second = seen
    assert len(first) > 1
    for one, other in zip(first, second, strict=True):
        assert one.tolist() == other.tolist() == sorted(one.tolist())
        assert len(set(packed.source_codes[one].tolist())) > 1
    held_out = sorted(np.concatenate(first).tolist())
    train(packed, tmp_path / "alone", epochs=1, validation=0.5, contrast_weight=0.0)
    assert np.concatenate(seen[-1]).tolist() == held_out


def test_epochs_are_compared_at_one_weight_of_the_divergence(
    packed: kvae.FeatureStore, tmp_path: Path
) -> None:
    """However small it still is in training."""
    train(packed, tmp_path / "run", epochs=3, lr=1e-12, kl_warmup_epochs=9, beta=50.0)
    losses = [record["validation"]["loss"] for record in lines(tmp_path / "run")]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)


def test_the_same_seed_gives_the_same_run_and_another_one_another(
    packed: kvae.FeatureStore, tmp_path: Path
) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(packed, tmp_path / name, epochs=1, seed=seed)
    assert_same_run(tmp_path / "a", tmp_path / "b")
    assert untimed(tmp_path / "a") != untimed(tmp_path / "c")


def test_one_source_alone_cannot_be_contrasted(tmp_path: Path) -> None:
    one = sorted(DATA.glob("*.fna.gz"))[0]
    with pytest.raises(KvaeError, match="all rows are of one class"):
        train(one, tmp_path / "run", epochs=1)
    assert not (tmp_path / "run").exists()
    train(one, tmp_path / "run", epochs=1, positives="contig")


# --- from another model --------------------------------------------------------------


@pytest.fixture(scope="module")
def first(packed: kvae.FeatureStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("first") / "run"
    train(packed, folder, epochs=2)
    return folder


@pytest.mark.parametrize("what", ["run", "file", "pretrained"])
def test_a_run_starts_from_another_ones_weights(
    what: str,
    first: Path,
    packed: kvae.FeatureStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = first / "model.safetensors"
    monkeypatch.setattr("kvae.pretrained._FILE", file)
    init = {"run": first, "file": file, "pretrained": "pretrained"}[what]
    # With a rate of nothing the weights stay what they were at the start.
    changes: dict[str, Any] = {
        "epochs": 1,
        "lr": 1e-30,
        "seed": 9,
        "latent": 7,
        "encoder.hidden": [4],
    }
    train(packed, tmp_path / "run", init=init, **changes)
    assert RunFolder(tmp_path / "run").read_config().model == profile_run().model
    one, other = load_file(file), load_file(tmp_path / "run" / "model.safetensors")
    assert one.keys() == other.keys()
    for name in one:
        if "running" not in name and "num_batches" not in name:
            torch.testing.assert_close(one[name], other[name], rtol=1e-6, atol=1e-12)
    fresh = KmerVAE(profile_run().model, profile_layout()).state_dict()
    assert not torch.equal(one["encoder.whitening"], fresh["encoder.whitening"])


def test_a_model_to_start_from_has_to_be_there_and_to_fit(
    first: Path, packed: kvae.FeatureStore, tmp_path: Path
) -> None:
    with pytest.raises(KvaeError, match="nowhere: no model there: give a run, a model file, or pr"):
        train(packed, tmp_path / "run", init="nowhere")
    # Its loss comes from the preset; here one that needs no profile.
    with pytest.raises(KvaeError, match="set target to half") as caught:
        kvae.train(packed, tmp_path / "run", preset="dot", init=first, device="cpu", threads=1)
    assert "\n" not in str(caught.value)
    other = kvae.open_sequences(DATA, k=(7, 5, 4, 3), window=WINDOW)
    with pytest.raises(KvaeError, match="was made for feature layout"):
        train(other, tmp_path / "run", init=first)
    assert not (tmp_path / "run").exists()


def test_a_resumed_run_does_not_start_again(
    first: Path, packed: kvae.FeatureStore, tmp_path: Path
) -> None:
    train(packed, tmp_path / "whole", init=first, epochs=3)
    with pytest.raises(TrainingInterrupted):
        train(packed, tmp_path / "run", init=first, epochs=3, progress=StopIn(2))
    train(packed, tmp_path / "run", init=first, epochs=3, resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_a_model_to_start_from_keeps_its_architecture(
    first: Path, packed: kvae.FeatureStore, tmp_path: Path
) -> None:
    for changes in ({"latent": 7}, {"settings": {"noise": 0.3}}):
        with pytest.raises(KvaeError, match="brings its own architecture"):
            kvae.train(packed, tmp_path / "run", init=first, device="cpu", **changes)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_a_frozen_part_stays_as_it_is(
    part: str, first: Path, packed: kvae.FeatureStore, tmp_path: Path
) -> None:
    changes: dict[str, Any] = {"freeze": [part], "epochs": 2}
    train(packed, tmp_path / "run", init=first, **changes)
    before = load_file(first / "model.safetensors")
    after = load_file(tmp_path / "run" / "model.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    # Running statistics too: it computes as it will in use.
    assert not any(name.startswith(part) for name in changed)
    with pytest.raises(TrainingInterrupted):
        train(packed, tmp_path / "again", init=first, progress=StopIn(2), **changes)
    train(packed, tmp_path / "again", init=first, resume=True, **changes)
    assert_same_run(tmp_path / "run", tmp_path / "again")


def test_few_rows_are_told_of_the_pretrained_model(
    first: Path, packed: kvae.FeatureStore, tmp_path: Path
) -> None:
    said = Record()
    train(packed, tmp_path / "alone", progress=said, epochs=1)
    assert any("--init pretrained" in message for message in said.messages)
    said = Record()
    train(packed, tmp_path / "after", init=first, progress=said, epochs=1)
    assert not any("--init pretrained" in message for message in said.messages)


# --- the model that comes with kvae --------------------------------------------------


@pytest.fixture
def stand_in(first: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small model in the place of the one that comes with kvae."""
    file = first / "model.safetensors"
    monkeypatch.setattr("kvae.pretrained._FILE", file)
    return file


def test_all_arguments_are_inputs_of_the_pretrained_model(
    stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files = sorted(DATA.glob("*.fna.gz"))[:2]
    rest = "--device cpu --threads 1 -q"
    for i in (1, 2):
        inputs = files[:i]
        line = f"kvae encode --pretrained {' '.join(map(str, inputs))} -o {i}.npz {rest}"
        assert program(line, monkeypatch) == 0
        with np.load(f"{i}.npz") as written:
            latent = written["latent"]
        np.testing.assert_array_equal(latent, kvae.encode(stand_in, inputs, device="cpu"))
        np.testing.assert_array_equal(latent, kvae.encode("pretrained", inputs, device="cpu"))
    assert program(f"kvae encode pretrained {files[0]} -o word.npz {rest}", monkeypatch) == 0
    with np.load("word.npz") as word, np.load("1.npz") as flag:
        np.testing.assert_array_equal(word["latent"], flag["latent"])
    kvae.featurize(files[0], "feats.arrow", k=PROFILE_KS)
    assert program(f"kvae encode --pretrained -o none.npz {rest}", monkeypatch) == 0
    assert Path("none.npz").exists()


def test_a_run_of_that_name_goes_first(
    stand_in: Path, packed: kvae.FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    train(packed, Path("pretrained"), epochs=1, latent=3)
    assert kvae.encode("pretrained", packed, device="cpu").shape == (len(packed), 3)


def test_a_run_or_pretrained_has_to_be_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert program("kvae encode -o z.npz", monkeypatch) == 2
    assert "give a run, or --pretrained" in " ".join(capsys.readouterr().err.split())
    monkeypatch.setattr("kvae.pretrained._FILE", tmp_path / "missing.safetensors")
    assert program(f"kvae encode --pretrained {DATA} -o z.npz", monkeypatch) == 1
    assert "pretrained: no model there" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_model_that_comes_with_kvae() -> None:
    from kvae.pretrained import _FILE

    if not _FILE.is_file():
        pytest.skip("the model is not in this checkout")
    model = KmerVAE.from_pretrained()
    assert not model.training
    tensors = model.state_dict().values()
    assert {t.dtype for t in tensors if t.is_floating_point()} == {torch.float32}
    latent = kvae.encode("pretrained", sorted(DATA.glob("*.fna.gz"))[0], device="cpu")
    assert latent.shape[1] == model.config.n_latent
    np.testing.assert_allclose(
        np.linalg.norm(latent, axis=1), math.sqrt(model.config.n_latent), rtol=1e-4
    )


# --- beside others -------------------------------------------------------------------


def test_designs_are_compared(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    kvae.featurize(DATA, "feats.arrow", k=(7, *PROFILE_KS), window=WINDOW)
    line = f"kvae compare feats.arrow a={tiny} b={tiny},latent=3 -o compare --epochs 1"
    line += " --rows 60 --device cpu --threads 1 -q"
    assert program(line, monkeypatch) == 0
    text = Path("compare/compare.md").read_text()
    assert "| nats |" in text
    assert {path.name for path in Path("compare").iterdir()} >= {"a", "b", "compare.tsv"}


def test_each_process_has_the_noise_of_its_own_rows() -> None:
    """Which of all rows are a process's, in each of the halves."""
    torch.manual_seed(0)
    whole = profile_encoder(KmerVAE(profile_run().model, profile_layout()).train())
    x_BI = torch.randn(2 * 9, 144)
    torch.manual_seed(5)
    expected = whole.noise(x_BI)
    found = torch.empty_like(x_BI)
    for rank in range(2):
        processes = Processes(rank, 2)
        processes.rows_each = 2
        processes.begin(np.arange(9))
        part = processes.part(9)
        model = KmerVAE(profile_run().model, profile_layout()).train()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.distributed, "broadcast", lambda *_: None)
            share(model, processes)
        torch.manual_seed(5)
        halves = x_BI.view(2, 9, 144)[:, part].reshape(-1, 144)
        ours = profile_encoder(model).noise(halves)
        found.view(2, 9, 144)[:, part] = ours.view(2, -1, 144)
    assert torch.equal(found, expected)


# --- between what a run started from and what it has learned -------------------------


def test_a_run_keeps_a_share_of_what_it_started_from(
    first: Path, packed: kvae.FeatureStore, tmp_path: Path
) -> None:
    # Two epochs, so that random numbers drawn between them would show.
    changes: dict[str, Any] = {"init": first, "epochs": 2}
    train(packed, tmp_path / "none", init_share=0.0, **changes)
    train(packed, tmp_path / "most", init_share=0.75, **changes)
    before, learned, kept = (
        load_file(folder / "model.safetensors")
        for folder in (first, tmp_path / "none", tmp_path / "most")
    )
    is_changed = False
    for name, tensor in kept.items():
        if tensor.is_floating_point():
            wanted = 0.75 * before[name].double() + 0.25 * learned[name].double()
            torch.testing.assert_close(tensor.double(), wanted, rtol=1e-5, atol=1e-7)
            is_changed |= not torch.equal(before[name], learned[name])
        else:
            assert torch.equal(tensor, learned[name])
    assert is_changed
    # Learning itself goes on as without.
    assert untimed(tmp_path / "none") == untimed(tmp_path / "most")
    assert not (tmp_path / "none" / "initial.safetensors").exists()
    initial = load_file(tmp_path / "most" / "initial.safetensors")
    assert all(torch.equal(initial[name], before[name]) for name in before)


@pytest.mark.parametrize("epoch", [1, 3])
def test_what_is_kept_survives_a_stop(
    epoch: int, first: Path, packed: kvae.FeatureStore, tmp_path: Path
) -> None:
    changes: dict[str, Any] = {"init_share": 0.5, "epochs": 3}
    train(packed, tmp_path / "whole", init=first, **changes)
    with pytest.raises(TrainingInterrupted):
        train(packed, tmp_path / "run", init=first, progress=StopIn(epoch), **changes)
    if epoch == 1:  # Killed before anything was stored.
        for path in (tmp_path / "run" / "checkpoints").iterdir():
            path.unlink()
    # The run's folder has all it needs.
    progress = Record()
    train(packed, tmp_path / "run", resume=True, progress=progress, **changes)
    assert any("keep 50% of the weights" in line for line in progress.messages)
    assert not any("are few to learn" in line for line in progress.messages)
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_the_package_s_model_is_kept_where_there_are_no_labels(
    first: Path, packed: kvae.FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = tmp_path / "labels.tsv"
    names = sorted({Path(name).name for name in packed.source_names})
    labels.write_text("file\tspecies\n" + "".join(f"{name}\t{name[:3]}\n" for name in names))
    labelled = {"positives": "species", "labels": str(labels)}

    def settled(name: str, init: str | Path, **changes: Any) -> float | None:
        train(packed, tmp_path / name, init=init, epochs=1, **changes)
        return RunFolder(tmp_path / name).read_config().training.init_share

    assert settled("own", first) is None
    monkeypatch.setattr("kvae.pretrained._FILE", first / "model.safetensors")
    assert settled("sources", "pretrained") == 0.75
    assert settled("contigs", "pretrained", positives="contig") == 0.75
    assert settled("labelled", "pretrained", **labelled) is None
    assert settled("asked", "pretrained", init_share=0.25) == 0.25


def test_nothing_is_kept_of_no_model(packed: kvae.FeatureStore, tmp_path: Path) -> None:
    with pytest.raises(KvaeError, match=r"init_share is of the weights.*name a model with --init"):
        train(packed, tmp_path / "run", init_share=0.5)
    assert not (tmp_path / "run").exists()
