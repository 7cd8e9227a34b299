"""What a report finds out: against definitions, and in odd cases."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import kvae
from kvae.errors import KvaeError
from kvae.latents import Latents, read_latents
from kvae.progress import Progress
from kvae.reporting import words
from kvae.reporting.attributes import Category, Quantity, attributes, read_clusters
from kvae.reporting.calibration import BINS, CalibrationSums
from kvae.reporting.curves import Line, curves, gate_curve
from kvae.reporting.dimensions import dimensions
from kvae.reporting.embedding import GRID, draw_map, resolve_method, sample_rows
from kvae.reporting.histograms import histogram
from kvae.reporting.numbers import number
from kvae.reporting.payload import embedded, packed
from kvae.reporting.points import Points
from kvae.reporting.reading import RunFacts, read_run
from kvae.reporting.scores import best_figures, read_scores
from kvae.sampling import balanced_rows
from kvae.training.options import configure
from kvae.training.run import TrainingInterrupted
from reports import EVIL, clouds, write_latents
from training_runs import StopIn

# --- curves ----------------------------------------------------------------------------


def facts(epochs: list[dict[str, float]], **baselines: float) -> RunFacts:
    run = configure("kvae")
    records = tuple(
        {"epoch": i + 1, "seconds": 2.0, "train": {"loss": 9.0, **epoch}, "validation": epoch}
        for i, epoch in enumerate(epochs)
    )
    return RunFacts(
        Path("run"), "run", run.model, run, records, baselines={"validation": baselines}
    )


def test_curves_stand_beside_what_needs_no_model() -> None:
    run = facts(
        [
            {"loss": 8.0, "nats": 8.9, "mse4": 4.0, "gateAcc": 0.7},
            {"loss": 6.0, "nats": 8.7, "mse4": 0.1, "gateAcc": 0.8},
            {"loss": 7.0, "nats": math.nan, "mse4": 0.2, "gateAcc": 0.75},
        ],
        nats_constant=8.8,
        mse4_constant=1.0,
        gateAcc_majority=0.65,
        gateAcc_per_kmer_majority=0.66,
    )
    assert run.best == 1
    found = {curve.key: curve for curve in curves(run)}
    assert list(found) == ["loss", "nats", "mse4"]
    assert found["nats"].validation == (8.9, 8.7, None)
    assert found["nats"].lines == (Line("mean profile", 8.8),)
    assert found["loss"].lines == ()
    # Forty times as large at first: ratios are told better.
    assert found["mse4"].is_log
    assert not found["nats"].is_log
    gate = gate_curve(run, Line("limit of sampling", 0.81, is_limit=True))
    assert gate is not None
    assert [line.value for line in gate.lines] == [0.65, 0.66, 0.81]
    assert gate.is_share
    assert "1e-05" not in gate.words


def test_curves_of_long_runs_keep_the_best_and_the_last_epoch() -> None:
    losses = [10.0 - (i == 1237) for i in range(5001)]
    (loss,) = curves(facts([{"loss": value} for value in losses]))
    assert len(loss.epochs) <= 1003
    assert {1, 1238, 5001} <= set(loss.epochs)
    assert loss.validation[loss.epochs.index(1238)] == 9.0


def test_a_run_without_epochs_has_no_curves() -> None:
    run = facts([])
    assert curves(run) == []
    assert gate_curve(run) is None
    assert run.best is None


# --- reading ---------------------------------------------------------------------------


def folder(path: Path, **files: str) -> Path:
    path.mkdir()
    config = configure("dot").model_dump_json()
    for name, text in {"config_json": config, **files}.items():
        (path / name.replace("_", ".", 1)).write_text(text)
    return path


EPOCH = json.dumps({"epoch": 1, "train": {"loss": 2.0}, "validation": {"loss": 1.0}})


def test_an_unfinished_line_is_no_epoch_yet(tmp_path: Path) -> None:
    run = read_run(folder(tmp_path / "run", metrics_jsonl=f"{EPOCH}\n{EPOCH[:20]}"))
    assert len(run.epochs) == 1
    assert not run.is_finished
    assert run.inputs() == []


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("metrics_jsonl", f"{EPOCH}\n{{\n{EPOCH}\n", r"metrics.jsonl: line 2 is no record of"),
        ("metrics_jsonl", f"[1]\n{EPOCH}\n", r"metrics.jsonl: line 1 is no record of"),
        ("metrics_jsonl", '{"epoch": 1, "train": {}}\n', r"line 1 is no record of an epoch"),
        ("metrics_jsonl", EPOCH.replace("1.0", '"low"') + "\n", r"line 1 is no record of"),
        ("environment_json", "{", r"environment.json: is damaged"),
        ("split_json", "[]", r"split.json: is damaged"),
        ("data_json", '{"inputs": ["x"]}', r"data.json: is damaged"),
        ("data_json", '{"inputs": [], "rows": 1, "bases": 1}', r"data.json: is damaged"),
        ("split_json", '{"train_rows": 1}', r"split.json: is damaged"),
        ("config_json", "{", r"config.json"),
    ],
)
def test_a_damaged_run_is_one_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = folder(tmp_path / "run", **{name: text})
    with pytest.raises(KvaeError, match=message) as caught:
        read_run(path)
    assert "\n" not in str(caught.value)


def test_inputs_are_found_where_they_were_or_beside_a_moved_run(tmp_path: Path) -> None:
    entry = {"path": "/nowhere/feats.arrow", "from_run": "../feats.arrow"}
    data = {"inputs": [entry], "rows": 2, "bases": 9, "sources": 1}
    path = folder(tmp_path / "run", data_json=json.dumps(data))
    assert read_run(path).inputs() == []
    (tmp_path / "feats.arrow").touch()
    assert [found.name for found in read_run(path).inputs()] == ["feats.arrow"]


def test_a_run_without_a_finished_epoch_has_a_page(feature_file: Path, tmp_path: Path) -> None:
    small: dict[str, Any] = {"preset": "dot", "latent": 8, "epochs": 1, "batch_size": 16}
    with pytest.raises(TrainingInterrupted):
        kvae.train(
            feature_file, tmp_path / "run", **small, device="cpu", threads=1, progress=StopIn(1)
        )
    made = kvae.report(tmp_path / "run", tmp_path / "page.html", map="pca", device="cpu")
    assert "no epoch of this run is finished" in made.missing["calibration"]


# --- calibration -----------------------------------------------------------------------


def test_calibration_is_what_its_definition_says() -> None:
    rng = np.random.default_rng(3)
    chance = rng.beta(0.4, 0.7, (7, 501))
    chance[0, :3] = [0.0, 1.0, 0.05]
    present = rng.random(chance.shape) < chance**1.3
    sums = CalibrationSums()
    for part in (slice(0, 3), slice(3, 7)):
        sums.add(torch.from_numpy(chance[part]), torch.from_numpy(present[part]))
    counts, predicted, observed = [0] * BINS, [0.0] * BINS, [0.0] * BINS
    for p, occurs in zip(chance.flat, present.flat, strict=True):
        i = min(int(p * BINS), BINS - 1)
        counts[i] += 1
        predicted[i] += p
        observed[i] += occurs
    error = sum(abs(p - o) for p, o in zip(predicted, observed, strict=True)) / chance.size
    np.testing.assert_array_equal(sums.counts, counts)
    np.testing.assert_allclose(sums.predicted, np.array(predicted) / counts)
    np.testing.assert_allclose(sums.observed, np.array(observed) / counts)
    assert sums.error == pytest.approx(error)
    assert sums.rate == pytest.approx(present.mean())


def test_empty_bins_are_no_numbers() -> None:
    sums = CalibrationSums()
    sums.add(torch.tensor([[0.52, 0.51]]), torch.tensor([[True, False]]))
    assert np.isnan(sums.predicted[[0, -1]]).all()
    assert sums.observed[10] == 0.5


# --- maps ------------------------------------------------------------------------------


def test_components_are_those_of_a_singular_value_decomposition() -> None:
    vectors = clouds([40, 30], 6)
    drawn = draw_map(vectors, np.arange(70), "pca", 0, Progress())
    centred = vectors - vectors.mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    wanted = (left * values)[:, :2]
    np.testing.assert_allclose(np.abs(drawn.xy), np.abs(wanted), atol=1e-4)
    share = values[0] ** 2 / (values**2).sum()
    assert drawn.axes[0] == f"PC 1 ({share:.0%} of the variance)"


@pytest.mark.parametrize("method", ["tsne", "umap"])
def test_maps_are_the_same_again_and_keep_neighbours(method: Any) -> None:
    vectors = clouds([60, 50, 40], 12)
    first, again = (draw_map(vectors, np.arange(150), method, 5, Progress()) for _ in range(2))
    assert first.method == method
    np.testing.assert_array_equal(first.xy, again.xy)
    assert first.kept_neighbours > 3 * first.chance_neighbours
    assert first.chance_neighbours == 10 / 149
    # Clouds that are far apart stay apart.
    groups = np.repeat([0, 1, 2], [60, 50, 40])
    centres = np.stack([first.xy[groups == g].mean(axis=0) for g in range(3)])
    nearest = np.linalg.norm(first.xy[:, None] - centres, axis=2).argmin(axis=1)
    np.testing.assert_array_equal(nearest, groups)


def test_two_dimensions_keep_all_neighbours() -> None:
    vectors = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
    drawn = draw_map(vectors, np.arange(200), "pca", 0, Progress())
    assert drawn.kept_neighbours == 1.0


@pytest.mark.parametrize("n", [1, 2, 9])
@pytest.mark.parametrize("width", [1, 3])
def test_a_few_rows_have_a_map(n: int, width: int) -> None:
    vectors = np.random.default_rng(0).normal(size=(n, width)).astype(np.float32)
    drawn = draw_map(vectors, np.arange(n), "tsne", 0, Progress())
    assert drawn.method == "pca"
    assert drawn.xy.shape == (n, 2)
    assert np.isfinite(drawn.xy).all()


def test_rows_that_are_all_alike_have_a_map() -> None:
    drawn = draw_map(np.full((30, 4), 0.1, np.float32), np.arange(30), "tsne", 0, Progress())
    assert drawn.method == "pca"
    assert drawn.density.counts.sum() == pytest.approx(30)


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_all_rows_are_in_the_density(method: Any) -> None:
    sizes = [900, 100]
    vectors = clouds(sizes, 8)
    groups = np.repeat([0, 1], sizes)
    rows = sample_rows(groups, method, 120, 0)
    np.testing.assert_array_equal(rows, balanced_rows(groups, np.arange(1000), 120, 0))
    drawn = draw_map(vectors, rows, method, 0, Progress())
    density = drawn.density
    assert density.counts.shape == (GRID, GRID)
    assert density.counts.sum() == pytest.approx(1000, rel=0.01)
    # The sample has as many of both; the density knows better.
    large = drawn.xy[groups[rows] == 0]
    cell = ((large - [density.left, density.bottom]) / density.size * GRID).astype(int)
    near = np.zeros((GRID, GRID), bool)
    for x, y in cell:
        near[max(y - 12, 0) : y + 13, max(x - 12, 0) : x + 13] = True
    assert density.counts[near].sum() > 800
    assert drawn.anchors == (None if method == "pca" else 120)


def test_unknown_maps_and_missing_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KvaeError, match="unknown map 'mds': use auto, umap, tsne, pca"):
        resolve_method("mds")
    assert resolve_method("auto") == "umap"
    monkeypatch.setattr("kvae.reporting.embedding.find_spec", lambda name: None)
    assert resolve_method("auto") == "tsne"
    with pytest.raises(KvaeError, match=r"pip install kvae\[umap\]"):
        resolve_method("umap")


# --- colours ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def latents(tmp_path_factory: pytest.TempPathFactory) -> Latents:
    """Six rows of four records in two files."""
    path = tmp_path_factory.mktemp("latents") / "latent.arrow"
    ids = ["a1", "a1", "a1", "a2", "b1", EVIL]
    sources = ["in/a.fna.gz"] * 4 + ["in/b.fa"] * 2
    return read_latents(write_latents(path, ids, sources, clouds([6], 4)))


def coloured(latents: Latents, rows: list[int], **tables: Any) -> dict[str, Any]:
    points = Points(latents, np.linspace(0.3, 0.8, 6, dtype=np.float32), 6)
    return {found.name: found for found in attributes(points, np.array(rows), **tables)}


def test_what_rows_are_coloured_by(latents: Latents, tmp_path: Path) -> None:
    clusters = tmp_path / "clusters.tsv"
    clusters.write_text(f"clustername\tcontigname\n7\ta2\n2\ta1\n7\tb1\n7\tother\n9\t{EVIL}\n")
    labels = tmp_path / "labels.tsv"
    labels.write_text("file\tgenus\nb.fa\tBeta\na1\tAlpha\n")
    found = coloured(latents, [0, 1, 3, 4, 5], labels=labels, clusters=clusters)
    assert list(found) == ["genus", "cluster", "source file", "GC", "length"]
    genus = found["genus"]
    assert isinstance(genus, Category)
    # The largest group first; a2 is in no line of the table.
    assert genus.names == ["Alpha", "Beta"]
    assert genus.codes.tolist() == [0, 0, -1, 1, 1]
    cluster = found["cluster"]
    assert [cluster.names[code] for code in cluster.codes] == ["2", "2", "7", "7", "9"]
    assert found["source file"].names == ["a", "b"]
    gc = found["GC"]
    assert isinstance(gc, Quantity)
    np.testing.assert_allclose(gc.values, [30, 40, 60, 70, 80], rtol=1e-5)
    assert found["length"].is_log


def test_files_of_one_name_keep_their_folders(tmp_path: Path) -> None:
    path = write_latents(
        tmp_path / "latent.arrow", ["x", "y"], ["one/g.fna", "two/g.fna"], clouds([2], 3)
    )
    points = Points(read_latents(path), None, 2)
    category, length = attributes(points, np.arange(2))
    assert category.names == ["one/g.fna", "two/g.fna"]  # type: ignore[union-attr]
    assert length.name == "length"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clustername\tcontigname\n", "has no clusters below its header"),
        ("c\tn\n1 a1\n", "line 2 has no tab"),
        ("c\tn\n1\ta1\n2\ta1\n", "line 3: a1 is in another cluster already"),
        ("c\tn\n1\tother\n", r"names no record of .*latent.arrow in its second column"),
    ],
)
def test_clusters_that_are_none(latents: Latents, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "clusters.tsv"
    path.write_text(text)
    with pytest.raises(KvaeError, match=message) as caught:
        coloured(latents, [0], clusters=path)
    assert str(caught.value).startswith(f"{path}: ")


def test_files_that_are_no_clusters(latents: Latents, tmp_path: Path) -> None:
    with pytest.raises(KvaeError, match=r"missing.tsv: no such file"):
        read_clusters(tmp_path / "missing.tsv")
    (tmp_path / "binary.tsv").write_bytes(b"\xff\xfe")
    with pytest.raises(KvaeError, match="no table of text"):
        read_clusters(tmp_path / "binary.tsv")
    with pytest.raises(KvaeError, match="genus: labels to colour by need a table"):
        coloured(latents, [0], by=["genus"])


# --- units -----------------------------------------------------------------------------


def test_units_are_what_their_definitions_say(latents: Latents) -> None:
    rng = np.random.default_rng(2)
    mean = rng.normal(0, [2.0, 1.0, 0.1], (5000, 3)).astype(np.float32)
    log_var = rng.normal(-1, 0.5, (5000, 3)).astype(np.float32)
    found = dimensions(replace(latents, vectors=mean, logvar=log_var))
    prior = torch.distributions.Normal(0.0, 1.0)
    posterior = torch.distributions.Normal(
        torch.from_numpy(mean).double(), torch.from_numpy(np.exp(0.5 * log_var)).double()
    )
    kl = torch.distributions.kl_divergence(posterior, prior).mean(dim=0)
    assert found.kl is not None
    np.testing.assert_allclose(found.kl, kl, rtol=1e-4)
    np.testing.assert_allclose(found.variance, mean.var(axis=0), rtol=1e-4)
    eigenvalues = np.linalg.eigvalsh(np.cov(mean.T))
    assert found.effective == pytest.approx(
        eigenvalues.sum() ** 2 / (eigenvalues**2).sum(), rel=1e-3
    )
    assert not found.is_sphere


def test_latents_of_one_length_lie_on_a_sphere(latents: Latents) -> None:
    vectors = clouds([500], 16)
    vectors *= 4 / np.linalg.norm(vectors, axis=1, keepdims=True)
    found = dimensions(replace(latents, vectors=vectors))
    assert found.is_sphere
    assert found.kl is None
    assert not dimensions(replace(latents, vectors=np.zeros((5, 3), np.float32))).is_sphere


# --- histograms, scores, texts ---------------------------------------------------------


def test_histograms_count_every_row() -> None:
    values = np.random.default_rng(0).integers(1000, 9000, 4000)
    found = histogram("length", "bases", values, whole=True)
    np.testing.assert_array_equal(found.counts, np.histogram(values, found.edges)[0])
    assert sum(found.counts) == 4000
    assert not found.is_log
    assert found.quantiles == tuple(np.quantile(values, (0.05, 0.5, 0.95)))
    wide = histogram("length", "bases", np.array([1000, 2000, 5_000_000]))
    assert wide.is_log
    assert (wide.edges[0], wide.edges[-1], sum(wide.counts)) == (1000, 5_000_000, 3)
    alike = histogram("length", "bases", np.full(9, 5000), whole=True)
    assert alike.counts == (9,)


def test_scores_are_read_back(tmp_path: Path) -> None:
    def vectors(knn5: float, ari: float | None) -> dict[str, Any]:
        figures = {"knn5": {"mean": knn5, "sd": None}, "kmeans_ari": {"mean": ari, "sd": 0.01}}
        return {"rows": 90, "labels": 7, "scores": figures}

    content = {
        "format": "kvae-evaluation-1",
        "model": "run",
        "fingerprint": "abc",
        "rows": 100,
        "of_rows": 2000,
        "features": "feats.arrow",
        "usefulness": {"genus": {"latent": vectors(0.8, 0.4), "4-mers": vectors(0.9, None)}},
        "within": None,
        "words": ["It is so."],
    }
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps(content))
    for given in (path, tmp_path):
        found = read_scores(given)
        assert found.about == "run on 100 of 2,000 rows of feats.arrow"
        (useful,) = found.useful
        assert useful.figures == ("5-NN accuracy", "k-means ARI")
        assert [(line.name, line.is_model) for line in useful.lines] == [
            ("4-mers", False),
            ("latent", True),
        ]
        assert useful.lines[1].values == ((0.8, None), (0.4, 0.01))
        assert best_figures(useful.lines) == (0.9, 0.4)
    for text, message in (
        ("{", "is damaged"),
        ('{"format": "other"}', "is no evaluation of this version"),
        (json.dumps({**content, "usefulness": {"genus": {}}}), "is damaged"),
    ):
        path.write_text(text)
        with pytest.raises(KvaeError, match=message):
            read_scores(path)
    with pytest.raises(KvaeError, match="no such file or directory: make it with kvae evaluate"):
        read_scores(tmp_path / "missing.json")


def test_json_in_a_page_cannot_leave_its_element() -> None:
    content = {"id": EVIL, "more": "<!-- & \u2028 ]]>", "umlaut": "ü"}
    text = embedded(content)
    assert not set(text) & set("<>&\u2028")
    assert json.loads(text) == content
    with pytest.raises(ValueError, match="JSON compliant"):
        embedded(math.nan)


def test_arrays_are_little_endian() -> None:
    import base64

    for values in (np.array([1.5, -2.0], ">f4"), np.array([1, 70_000], np.uint32)):
        found = packed(values)
        raw = base64.b64decode(found["text"])
        np.testing.assert_array_equal(np.frombuffer(raw, f"<{found['type']}"), values)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "\u2013"),
        (0.0, "0"),
        (12345.6, "12,346"),
        (8.62510, "8.625"),
        (0.04560, "0.04560"),
        (1e-5, "10⁻⁵"),
        (2.346e-7, "2.35 \u00d7 10⁻⁷"),
    ],
)
def test_numbers_in_words(value: float | None, text: str) -> None:
    assert number(value) == text


def test_commands_do_not_say_where_the_program_was() -> None:
    run = replace(
        facts([]), environment={"command": ["/opt/x/bin/kvae", "train", "my feats.arrow"]}
    )
    assert words.command(run) == "kvae train 'my feats.arrow'"
    assert words.command(facts([])) == ""
