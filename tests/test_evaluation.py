"""An evaluation as a whole: what is found, written, printed and refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import kvae
from in_process import kvae as program
from kvae.errors import KvaeError
from kvae.evaluation import Evaluation, evaluate
from kvae.evaluation.tables import sections
from kvae.labels import SOURCE
from kvae.model import KmerVAE
from kvae.store import FeatureStore
from sequences import DATA, fasta, listing, random_sequence, write
from small import MemoryStore, small_model, small_run
from training_runs import run

FILES = {"evaluation.json", "evaluation.md", "evaluation.png", "evaluation.svg"}
TABLE = (
    "file\tspecies\tgenus\n"
    "carsonella.fna.gz\tsymbiont\tx\n"
    "haemophilus.fna.gz\tinfluenzae\tx\n"
    "gca_001771705.fna.gz\tone\ty\n"
    "parcubacterium.fna.gz\t?\ty\n"
)


@pytest.fixture(scope="module")
def trained(feature_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluation") / "run"
    run(FeatureStore(feature_file, threads=1), folder, config=small_run(epochs=2))
    return folder


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("evaluation") / "labels.tsv"
    path.write_text(TABLE)
    return path


def quick(model: str | Path | KmerVAE, features: Any, *args: Any, **arguments: Any) -> Evaluation:
    usual: dict[str, Any] = {"device": "cpu", "threads": 1, "vae_steps": 0, "seeds": 1}
    return evaluate(model, features, *args, **(usual | arguments))


@pytest.fixture(scope="module")
def written(
    trained: Path, feature_file: Path, labels: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Evaluation]:
    folder = tmp_path_factory.mktemp("evaluation") / "out"
    found = quick(trained, feature_file, folder, labels=labels, seeds=3, vae_steps=3)
    return folder, found


# --- what is found -------------------------------------------------------------------


def test_every_label_is_scored_by_every_vector(written: tuple[Path, Evaluation]) -> None:
    _, found = written
    assert list(found.usefulness) == ["species", "genus", SOURCE]
    species = found.usefulness["species"]
    assert list(species)[:2] == ["latent", "4-mers"]
    assert {"4-mer VAE", "LDA halves sqrt 4-mers"} < set(species)
    assert {useful.labels for useful in species.values()} == {3}
    assert {len(v.scores["kmeans_ari"].values) for v in species.values()} == {3}
    # The VAE is another one for every seed, so are its neighbours.
    assert len(species["4-mer VAE"].scores["knn5"].values) == 3
    assert len(species["4-mers"].scores["knn5"].values) == 1
    store_rows = found.facts["rows"]
    assert found.unlabelled["species"] == store_rows - species["latent"].rows > 0
    assert found.unlabelled[SOURCE] == 0


def test_species_within_their_genus(written: tuple[Path, Evaluation]) -> None:
    _, found = written
    assert found.within is not None
    assert (found.within.label, found.within.group) == ("species", "genus")
    # Genus y has one known species only.
    assert found.within.vectors["latent"].labels == 2
    assert found.within.vectors["4-mers"].scores["knn5"].mean == 1.0


def test_words_say_what_is_noise(written: tuple[Path, Evaluation]) -> None:
    _, found = written
    text = " ".join(found.words)
    assert re.search(r"Presence above 0.0002: the model [\d.]+%.*genome_oracle [\d.]+%", text)
    assert "noise" in text
    assert re.search(r"markov3: (better|worse) than the model by [\d.]+ ± [\d.]+ nats", text)
    assert "From the latent by species within genus: 5-NN" in text


def test_a_model_in_memory(feature_file: Path, trained: Path) -> None:
    layout = FeatureStore(feature_file, threads=1).layout
    model = KmerVAE.load(trained / "model.safetensors", layout=layout).train()
    found = quick(model, feature_file)
    assert model.training
    assert found.facts["model"] == "a model in memory"
    again = quick(trained / "model.safetensors", feature_file)
    assert again.reconstruction == found.reconstruction
    assert again.usefulness == found.usefulness
    assert list(found.usefulness) == [SOURCE]


@pytest.mark.parametrize("store", ["counts", "packed"])
def test_all_kinds_of_files_agree(
    store: Any, trained: Path, feature_file: Path, data_files: list[Path], tmp_path: Path
) -> None:
    kvae.featurize(data_files, tmp_path / "other.arrow", store=store, threads=1)
    wanted = quick(trained, feature_file, rows=12).reconstruction
    found = quick(trained, tmp_path / "other.arrow", rows=12).reconstruction
    for name, scores in wanted.profiles.items():
        assert scores.cross is not None
        other = found.profiles[name]
        assert other.cross is not None
        assert other.own.mean == pytest.approx(scores.own.mean, rel=1e-5)
        assert other.cross.mean == pytest.approx(scores.cross.mean, rel=1e-5)


def test_sequences_need_no_feature_file(
    trained: Path, feature_file: Path, data_files: list[Path]
) -> None:
    wanted = quick(trained, feature_file, rows=12)
    found = quick(trained, data_files, rows=12)
    assert found.facts["of_rows"] == wanted.facts["of_rows"]
    own = found.reconstruction.profiles["model"].own.mean
    assert own == pytest.approx(wanted.reconstruction.profiles["model"].own.mean, rel=1e-5)


def test_without_sequences_nothing_is_halved(
    trained: Path, data_files: list[Path], tmp_path: Path
) -> None:
    kvae.featurize(data_files, tmp_path / "plain.arrow", sequence=False, threads=1)
    found = quick(trained, tmp_path / "plain.arrow", tmp_path / "out")
    assert found.reconstruction.cross_rows == 0
    assert {scores.cross for scores in found.reconstruction.profiles.values()} == {None}
    assert "LDA halves sqrt 4-mers" not in found.usefulness[SOURCE]
    assert "other half" not in {name for section in sections(found) for name in section.header}
    assert any("nothing can be said" in sentence for sentence in found.words)


def test_without_labels_and_with_one_file(trained: Path, tmp_path: Path) -> None:
    found = quick(trained, DATA / "haemophilus.fna.gz", tmp_path / "out")
    assert found.usefulness == {}
    assert "genome_oracle" not in found.reconstruction.profiles
    assert found.reconstruction.truth == "markov2"
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES


def test_a_reference_is_what_baselines_learn_from(
    trained: Path, feature_file: Path, labels: Path, data_files: list[Path]
) -> None:
    found = quick(
        trained,
        data_files[:2],
        reference=feature_file,
        reference_labels=labels,
        rows=20,
    )
    assert found.reconstruction.learned_from == "reference"
    assert found.facts["reference_rows"] == 20
    assert {"LDA species sqrt 4-mers", "LDA species sqrt 7-mers"} < set(found.usefulness[SOURCE])
    alone = quick(trained, data_files[:2], rows=20)
    assert alone.reconstruction.profiles["mean"] != found.reconstruction.profiles["mean"]
    assert (
        alone.reconstruction.profiles["markov2"].own.mean
        == found.reconstruction.profiles["markov2"].own.mean
    )


def test_only_labelled_rows(trained: Path, feature_file: Path, labels: Path) -> None:
    found = quick(trained, feature_file, labels=labels, by=["species"], only_labelled=True)
    assert found.unlabelled == {"species": 0, SOURCE: 0}
    assert found.facts["sources"] == 3
    assert list(found.usefulness) == ["species", SOURCE]


def test_rows_are_a_balanced_sample(trained: Path, feature_file: Path) -> None:
    found = quick(trained, feature_file, rows=16, seed=1)
    assert (found.facts["rows"], found.facts["sources"]) == (16, 4)
    assert found.facts["seeds"] == [1]


# --- what is written -----------------------------------------------------------------


def test_the_folder(written: tuple[Path, Evaluation]) -> None:
    folder, found = written
    assert {path.name for path in folder.iterdir()} == FILES
    facts = json.loads((folder / "evaluation.json").read_text())
    assert facts["format"] == "kvae-evaluation-1"
    assert facts["rows"] == 71
    assert set(facts["reconstruction"]["profiles"]) == {
        *("model", "model_tilted", "model_gate", "uniform", "mean"),
        *("markov2", "markov3", "markov3_corrected", "genome_oracle"),
    }
    ari = facts["usefulness"]["species"]["latent"]["scores"]["kmeans_ari"]
    assert ari["n"] == 3
    assert ari["mean"] == found.usefulness["species"]["latent"].scores["kmeans_ari"].mean
    model = facts["reconstruction"]["profiles"]["model"]
    assert model["cross"]["mean"] > 0
    assert set(model["presence"]) == {"1e-05", "0.0002", "0.0005"}
    assert set(facts["within"]["vectors"]) == set(facts["usefulness"]["species"])
    assert b"<svg" in (folder / "evaluation.svg").read_bytes()[:1000]
    assert (folder / "evaluation.png").stat().st_size > 10_000


def test_markdown_is_whole(written: tuple[Path, Evaluation]) -> None:
    text = (written[0] / "evaluation.md").read_text()
    assert text.startswith("# Evaluation\n")
    assert "learn from the evaluated rows themselves" in text
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert len(tables) == 7
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_nothing_is_replaced_without_force(
    trained: Path, feature_file: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    quick(trained, feature_file, output, rows=8)
    before = listing(output)
    with pytest.raises(KvaeError, match=r"evaluation.json: exists already: give --force"):
        quick(trained, feature_file, output, rows=8)
    assert listing(output) == before
    quick(trained, feature_file, output, rows=9, force=True)
    assert json.loads((output / "evaluation.json").read_text())["rows"] == 9
    with pytest.raises(KvaeError, match="does not exist"):
        quick(trained, feature_file, tmp_path / "no" / "out")
    (tmp_path / "file").touch()
    with pytest.raises(KvaeError, match="is not a folder"):
        quick(trained, feature_file, tmp_path / "file")


# --- what is refused -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rows": 0}, "at least 1"),
        ({"seeds": 0}, "at least 1"),
        ({"bins": [5, 5]}, "ascending"),
        ({"bins": []}, "ascending"),
        ({"metric": "hamming"}, "euclidean or cosine"),
        ({"by": ["species"]}, "species: labels to score need a table"),
        ({"only_labelled": True}, "give a table of labels"),
        ({"reference_labels": "x.tsv"}, "x.tsv: labels of a reference need a reference"),
        ({"labels": "missing.tsv"}, "missing.tsv: no such file"),
        ({"device": "tpu"}, "unknown device"),
    ],
)
def test_arguments_that_cannot_be(
    trained: Path, feature_file: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(KvaeError, match=message) as caught:
        quick(trained, feature_file, **arguments)
    assert "\n" not in str(caught.value)


def test_features_that_do_not_fit(
    trained: Path, small_file: Path, store: MemoryStore, layout: Any, tmp_path: Path
) -> None:
    with pytest.raises(KvaeError, match=r"has no 7-mers"):
        quick(trained, small_file)
    with pytest.raises(KvaeError, match="no such file"):
        quick(trained, tmp_path / "none.arrow")
    with pytest.raises(KvaeError, match="must come from a file"):
        quick(KmerVAE(small_model(), layout), store)
    with pytest.raises(KvaeError, match=r"not a run"):
        quick(tmp_path, DATA / "haemophilus.fna.gz")


def test_features_of_another_layout(
    feature_file: Path, layout: Any, data_files: list[Path], tmp_path: Path, trained: Path
) -> None:
    with pytest.raises(KvaeError, match="the model reads small-layout"):
        quick(KmerVAE(small_model(), layout), feature_file)
    kvae.featurize(data_files[0], tmp_path / "more.arrow", k=[7, 5, 4, 3], threads=1)
    with pytest.raises(KvaeError, match="another layout"):
        quick(trained, feature_file, reference=tmp_path / "more.arrow")


def test_a_model_that_decodes_nonsense(feature_file: Path) -> None:
    layout = FeatureStore(feature_file, threads=1).layout
    model = KmerVAE(small_model(), layout)
    with torch.no_grad():
        next(iter(model.decoder.parameters())).fill_(float("nan"))
    with pytest.raises(KvaeError, match="not finite"):
        quick(model, feature_file, rows=8)


# --- the program ---------------------------------------------------------------------


def test_the_program(
    trained: Path,
    feature_file: Path,
    labels: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    line = (
        f"kvae evaluate {trained} {feature_file} --labels {labels} --by species --rows 24"
        " --seeds 1 --bins 1000,5000 -t 1 --device cpu -q"
    )
    assert program(line, monkeypatch) == 0
    printed = capsys.readouterr()
    assert re.search(r"^ *markov3_corrected +\d\.\d{4} ± ", printed.out, re.MULTILINE)
    assert re.search(r"^ *latent +\d\.\d{3} ", printed.out, re.MULTILINE)
    assert "Presence above 0.0002" in printed.out
    assert printed.err == ""
    assert {path.name for path in (tmp_path / "evaluation").iterdir()} == FILES
    assert program(line, monkeypatch) == 1
    assert "give --force" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--labels {table} --by nonsense", "table.tsv: has no column nonsense; its labels are"),
        ("--labels {other}", "other.tsv: names no record and no file of"),
        ("--bins 1k", "--bins 1k: edges are whole numbers"),
        ("--reference-labels {table}", "labels of a reference need a reference"),
    ],
)
def test_mistakes_are_one_line(
    trained: Path,
    feature_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table.tsv").write_text(TABLE)
    (tmp_path / "other.tsv").write_text("contig\tlabel\nnobody\tx\n")
    options = options.format(table="table.tsv", other="other.tsv")
    assert program(f"kvae evaluate {trained} {feature_file} {options} -q", monkeypatch) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("kvae: error: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "evaluation").exists()


def test_long_rows_of_few_files(trained: Path, tmp_path: Path) -> None:
    """A row may be a whole genome, and letters may be no bases."""
    records = [("long", random_sequence(60_000, 1)), ("odd", "N" * 700 + random_sequence(700, 2))]
    files = [
        write(tmp_path / name, fasta([record]))
        for name, record in zip(("a.fna", "b.fna"), records, strict=True)
    ]
    kvae.featurize(files, tmp_path / "long.arrow", window=0, threads=1)
    found = quick(trained, tmp_path / "long.arrow")
    assert found.facts["rows"] == 2
    # Half of the second row has no 7-mer.
    assert found.reconstruction.cross_rows == 1
    scores = found.usefulness[SOURCE]["latent"].scores
    assert "knn5" not in scores
    assert np.isfinite(scores["kmeans_ari"].mean)


def test_genomes_are_labels_else_files(trained: Path, feature_file: Path, tmp_path: Path) -> None:
    by_file = quick(trained, feature_file).reconstruction.profiles["genome_oracle"]
    path = tmp_path / "genomes.tsv"
    path.write_text("file\tgenome\ncarsonella.fna.gz\tone\nhaemophilus.fna.gz\t?\n")
    same = quick(trained, feature_file, labels=path).reconstruction.profiles["genome_oracle"]
    assert same == by_file
    path.write_text("file\tgenome\ncarsonella.fna.gz\tone\nhaemophilus.fna.gz\tone\n")
    joined = quick(trained, feature_file, labels=path).reconstruction.profiles["genome_oracle"]
    assert joined.own.mean > by_file.own.mean
