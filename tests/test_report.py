"""Reports of real runs, as files."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

import kvae
from in_process import kvae as run_line
from kvae.errors import KvaeError
from kvae.evaluation.chains import markov_profile
from kvae.evaluation.presence import presence_probability
from kvae.halves import halves_of
from kvae.progress import Progress
from kvae.reporting.calibration import calibrate, validation_rows
from kvae.reporting.reading import RunFacts, read_run
from kvae.reporting.run import Report
from kvae.sampling import balanced_rows
from kvae.training.options import configure
from reports import EVIL, clouds, write_latents

CPU = torch.device("cpu")


class Trained(NamedTuple):
    """A folder with features, their latents and a run on them."""

    folder: Path
    features: Path
    run: Path
    latents: Path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, feature_file: Path) -> Trained:
    folder = tmp_path_factory.mktemp("report")
    features = folder / "feats.arrow"
    shutil.copy(feature_file, features)
    run = folder / "run"
    kvae.train(features, run, epochs=2, batch_size=16, device="cpu", threads=1)
    kvae.encode(run, features, folder / "latent.arrow", device="cpu", with_logvar=True)
    return Trained(folder, features, run, folder / "latent.arrow")


def page_of(output: Path, run: Path, **arguments: Any) -> tuple[str, Report]:
    arguments.setdefault("map", "pca")
    written = kvae.report(run, output, device="cpu", threads=1, **arguments)
    return output.read_text(encoding="utf-8"), written


class Reader(HTMLParser):
    """Takes a page apart."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self._open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        inside = self._open[-1] if self._open else ""
        if inside == "script":
            self.scripts.append(data)
        elif inside != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    @property
    def data(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.scripts[0])
        return content


def test_a_page_says_what_was_run(trained: Trained, tmp_path: Path) -> None:
    page, written = page_of(tmp_path / "r.html", trained.run, latents=trained.latents)
    reader = Reader(page)
    for fact in (
        "5,461,160 parameters",
        "71 rows of",
        "4 sequence files",
        "2 of 2, finished",
        "held out",
        f"torch {torch.__version__.partition('+')[0]}",
        "All latents have the same length",
        "mean profile",
        "limit of sampling",
    ):
        assert fact in reader.text, fact
    assert (written.rows, written.map_rows, written.map_method) == (71, 71, "pca")
    assert set(written.missing) == {"scores"}
    assert "kvae evaluate" in written.missing["scores"]
    charts = reader.data["charts"]
    assert {"curve-loss", "curve-nats", "curve-gateAcc", "calibration", "variance"} <= set(charts)
    # On a sphere a unit's divergence is no figure.
    assert "kl" not in charts
    records = [
        json.loads(line) for line in (trained.run / "metrics.jsonl").read_text().splitlines()
    ]
    assert charts["curve-nats"]["validation"] == [r["validation"]["nats"] for r in records]
    assert sum(charts["histogram-0"]["counts"]) == 71
    names = [attribute["name"] for attribute in reader.data["map"]["attributes"]]
    assert names == ["source file", "GC", "length"]
    ids = kvae.FeatureStore(trained.features).column("id").to_pylist()
    assert reader.data["map"]["ids"] == ids


def test_a_page_is_one_file_that_loads_nothing(trained: Trained, tmp_path: Path) -> None:
    page, _ = page_of(tmp_path / "r.html", trained.run, latents=trained.latents)
    reader = Reader(page)
    for tag, attributes in reader.tags:
        for name in ("src", "href", "data", "action", "xlink:href"):
            value = attributes.get(name) or ""
            assert not value or value.startswith(("#", "data:,")), (tag, value)
    outside = set(re.findall(r"https?://[^\s\"')<]+", page))
    # Names of namespaces, which nothing asks for.
    assert outside <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert not re.search(r"\bfetch\(|XMLHttpRequest|@import|url\((?!#)", page)
    policy = next(a["content"] for t, a in reader.tags if t == "meta" and "http-equiv" in a)
    digest = base64.b64encode(hashlib.sha256(reader.scripts[-1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in str(policy)
    assert "default-src 'none'" in str(policy)


def test_the_same_input_gives_the_same_bytes(trained: Trained, tmp_path: Path) -> None:
    for maps in ("pca", "tsne"):
        first, _ = page_of(tmp_path / f"{maps}1.html", trained.run, map=maps)
        again, _ = page_of(tmp_path / f"{maps}2.html", trained.run, map=maps)
        assert first == again


def test_a_sample_is_encoded_where_there_are_no_latents(trained: Trained, tmp_path: Path) -> None:
    with_file, _ = page_of(tmp_path / "1.html", trained.run, latents=trained.latents)
    encoded, written = page_of(tmp_path / "2.html", trained.run)
    assert written.rows == 71
    given, made = Reader(with_file).data["map"], Reader(encoded).data["map"]
    assert made["ids"] == given["ids"]
    xy = [np.frombuffer(base64.b64decode(m["x"]["text"]), "<f4") for m in (given, made)]
    np.testing.assert_allclose(xy[0], xy[1], atol=1e-3)
    assert "encoded for this page" in Reader(encoded).text


def test_names_are_text(trained: Trained, tmp_path: Path) -> None:
    ids = [EVIL, "b&b", "c"] * 10
    latents = write_latents(tmp_path / "evil.arrow", ids, [EVIL, "x", "y"] * 10, clouds([30]))
    labels = tmp_path / "labels.tsv"
    labels.write_text(f"record\tgenus\n{EVIL}\t{EVIL}\nc\t<b>\n")
    page, _ = page_of(
        tmp_path / "r.html", trained.run, latents=latents, labels=labels, title=f"run {EVIL}"
    )
    reader = Reader(page)
    assert EVIL not in page
    assert not [tag for tag, _ in reader.tags if tag in ("img", "b", "iframe")]
    assert sum(tag == "script" for tag, _ in reader.tags) == 2
    assert f"run {EVIL}" in reader.text
    assert reader.data["map"]["ids"] == ids
    genus = reader.data["map"]["attributes"][0]
    assert (genus["name"], sorted(genus["names"])) == ("genus", sorted(["<b>", EVIL]))


def test_missing_pieces_are_sentences(trained: Trained, tmp_path: Path) -> None:
    run = tmp_path / "moved"
    shutil.copytree(trained.run, run)
    data = json.loads((run / "data.json").read_text())
    data["inputs"][0] = {"path": "/nowhere/feats.arrow", "from_run": "../nowhere.arrow"}
    (run / "data.json").write_text(json.dumps(data))
    page, written = page_of(tmp_path / "1.html", run)
    text = Reader(page).text
    assert written.map_method is None
    for sentence in (
        "There are no latents to draw",
        "The features were not found where the run was trained on them",
        "No evaluation was given",
    ):
        assert sentence in text, sentence
    # All that is optional may be gone.
    for name in ("data.json", "split.json", "baselines.json", "environment.json"):
        (run / name).unlink()
    page, _ = page_of(tmp_path / "2.html", run, latents=trained.latents)
    assert "The features were not given" in Reader(page).text
    # Baselines stand in the metrics as well.
    assert "mean profile" in Reader(page).text
    (run / "metrics.jsonl").unlink()
    (run / "model.safetensors").unlink()
    page, written = page_of(tmp_path / "3.html", run)
    text = Reader(page).text
    assert "No epoch is finished yet" in text
    assert "There is no map yet" in text


def test_a_model_without_its_run_has_a_page(trained: Trained, tmp_path: Path) -> None:
    page, written = page_of(tmp_path / "r.html", Path("pretrained"), features=trained.features)
    text = Reader(page).text
    assert "a model without the folder of its run" in text
    assert written.map_rows == 71
    # Its encoder is one that is trained to predict the other half.
    assert "each half predicted from the other" in text
    assert "may have been trained on some of them" in text


def test_what_does_not_belong_together_is_refused(trained: Trained, tmp_path: Path) -> None:
    output = tmp_path / "r.html"
    other = write_latents(
        tmp_path / "other.arrow", ["a"] * 20, ["s"] * 20, clouds([20]), facts={"model": "feed"}
    )
    with pytest.raises(KvaeError, match=r"other.arrow: was encoded by model feed, and that of"):
        page_of(output, trained.run, latents=other)
    narrow = write_latents(tmp_path / "narrow.arrow", ["a"], ["s"], clouds([1], 5))
    with pytest.raises(KvaeError, match=r"narrow.arrow: has latents of 5 units"):
        page_of(output, trained.run, latents=narrow)
    evaluation = tmp_path / "evaluation.json"
    about: dict[str, Any] = {"model": "m", "rows": 1, "of_rows": 1, "features": "f", "words": []}
    about |= {"format": "kvae-evaluation-1", "fingerprint": "feed", "usefulness": {}}
    evaluation.write_text(json.dumps(about))
    with pytest.raises(KvaeError, match=r"evaluation.json: is of model feed, and that of run is"):
        page_of(output, trained.run, evaluation=evaluation)
    with pytest.raises(KvaeError, match="rows on the map must be at least 1"):
        page_of(output, trained.run, map_rows=0)
    with pytest.raises(KvaeError, match="not a run"):
        page_of(output, trained.folder)
    assert not output.exists()
    output.write_text("mine")
    with pytest.raises(KvaeError, match="exists already"):
        page_of(output, trained.run)
    assert output.read_text() == "mine"


def test_an_evaluation_stands_on_the_page(trained: Trained, tmp_path: Path) -> None:
    kvae.evaluate(
        trained.run,
        trained.features,
        tmp_path / "ev",
        seeds=1,
        vae_steps=0,
        device="cpu",
        threads=1,
    )
    page, written = page_of(
        tmp_path / "r.html", trained.run, latents=trained.latents, evaluation=tmp_path / "ev"
    )
    content = json.loads((tmp_path / "ev" / "evaluation.json").read_text())
    ours = content["usefulness"]["source file"]["latent"]["scores"]["knn5"]["mean"]
    text = Reader(page).text
    assert f"latent, this model {ours:.3f}" in text
    assert "LDA halves sqrt 4-mers" in text
    assert content["words"][0] in text
    # These are the rows that the run was trained on.
    assert "which favours its latent" in text
    assert written.missing == {}


def test_calibration_is_of_what_the_run_was_validated_on(trained: Trained) -> None:
    run, store = read_run(trained.run), kvae.FeatureStore(trained.features, threads=1)
    model = kvae.KmerVAE.load(trained.run / "model.safetensors")
    rows = validation_rows(run, store)
    assert rows is not None
    assert len(rows) == run.split["validation_rows"]
    held = {store.source_names[code] for code in store.source_codes[rows]}
    assert held == set(run.split["held_out"])
    found = calibrate(run, model, store, 0, CPU, Progress())
    assert found is not None
    assert (found.rows, found.are_held_out, found.in_halves) == (len(rows), True, True)
    assert found.counts.sum() == 2 * len(rows) * 8192
    # From the definitions, one pair of halves at a time.
    halves = halves_of(store, 0)
    right = cells = occurring = 0.0
    with torch.no_grad():
        for row in rows:
            pair = torch.from_numpy(halves.rows(np.array([row])))
            for seen, hidden in ((0, 1), (1, 0)):
                profile = model.generative(model.inference(pair[seen : seen + 1]).mean).value[0]
                frequency = pair[hidden, store.layout.block("7-mers").slice].exp() - 1e-6
                n = pair[hidden, store.layout.block("length").start].exp() - 6
                chance = 1 - torch.exp(-n * profile)
                present = frequency > 1e-5
                right += float(((chance > 0.5) == present).sum())
                occurring += float(present.sum())
                cells += 8192
    assert found.score.accuracy == pytest.approx(right / cells, abs=1e-5)
    rate = occurring / cells
    assert found.majority == pytest.approx(max(rate, 1 - rate), abs=1e-6)
    # The run's own figure is of sampled latents.
    recorded = run.epochs[run.best or 0]["validation"]["gateAcc"]
    assert found.score.accuracy == pytest.approx(recorded, abs=0.03)


def test_the_limit_of_sampling_is_that_of_the_other_rows_of_a_file(trained: Trained) -> None:
    run, store = read_run(trained.run), kvae.FeatureStore(trained.features, threads=1)
    model = kvae.KmerVAE.load(trained.run / "model.safetensors")
    found = calibrate(run, model, store, 0, CPU, Progress())
    assert found is not None
    assert found.limit is not None
    assert found.truth == "genome"
    rows = validation_rows(run, store)
    assert rows is not None
    everything = np.arange(len(store))
    pools = {
        int(code): store.counts(everything[store.source_codes == code], 7).sum(axis=0)
        for code in set(store.source_codes[rows])
    }
    total = sum(pools.values()) + 0.5
    mean = total / total.sum()
    n_half = np.exp(halves_of(store, 0).rows(rows)[:, 0].astype(np.float64)) - 6
    expected = []
    for i, row in enumerate(rows):
        left = pools[int(store.source_codes[row])] - store.counts(np.array([row]), 7)[0].astype(
            float
        )
        left = left + 4096 * mean
        for n in (n_half[i], n_half[len(rows) + i]):
            chance = 1 - np.exp(-n * left / left.sum())
            expected.append(np.maximum(chance, 1 - chance).mean())
    assert found.limit.expected_accuracy == pytest.approx(np.mean(expected), abs=1e-6)


def test_rows_of_one_file_are_measured_by_chains(trained: Trained, tmp_path: Path) -> None:
    data = Path(__file__).parent / "data" / "carsonella.fna.gz"
    kvae.featurize(data, tmp_path / "one.arrow")
    one = kvae.FeatureStore(tmp_path / "one.arrow", threads=1)
    run = read_run(trained.run)
    assert validation_rows(run, one) is None
    whole = kvae.KmerVAE.from_preset("dot").eval()
    plain = RunFacts(Path("m"), "m", whole.config, configure("dot"))
    found = calibrate(plain, whole, one, 0, CPU, Progress())
    assert found is not None
    assert (found.truth, found.in_halves, found.are_held_out) == ("chain", False, False)
    assert found.limit is not None
    rows = np.arange(len(one))
    counts = torch.from_numpy(one.counts(rows, 3).astype(np.float64))
    n = torch.from_numpy(one.column("length").to_numpy().astype(np.float64)) - 6
    chance = presence_probability(markov_profile(counts, 2), n, whole.config.presence_threshold)
    wanted = torch.maximum(chance, 1 - chance).mean()
    assert found.limit.expected_accuracy == pytest.approx(float(wanted), abs=2e-3)


def test_designs_without_a_gate_have_no_calibration(trained: Trained, tmp_path: Path) -> None:
    run = tmp_path / "deep"
    kvae.train(
        trained.features,
        run,
        preset="deep",
        epochs=1,
        batch_size=32,
        latent=8,
        device="cpu",
        threads=1,
    )
    page, written = page_of(tmp_path / "r.html", run)
    assert "This design has no gate" in Reader(page).text
    # A normal latent has a divergence per unit, from the sample that was encoded.
    charts = Reader(page).data["charts"]
    assert len(charts["kl"]["values"]) == 8
    assert "calibration" not in charts
    assert written.map_rows == 71
    # So has one whose file of latents has no variances, where features are at hand.
    kvae.encode(run, trained.features, tmp_path / "mean.arrow", device="cpu")
    again, _ = page_of(tmp_path / "r2.html", run, latents=tmp_path / "mean.arrow")
    np.testing.assert_allclose(
        Reader(again).data["charts"]["kl"]["values"], charts["kl"]["values"], rtol=1e-4
    )


def test_large_inputs_are_sampled(trained: Trained, tmp_path: Path) -> None:
    sizes = [400, 60, 40]
    names = [f"r{i}" for i in range(500)]
    sources = [f"s{g}.fa" for g, size in enumerate(sizes) for _ in range(size)]
    latents = write_latents(tmp_path / "many.arrow", names, sources, clouds(sizes))
    page, written = page_of(tmp_path / "r.html", trained.run, latents=latents, map_rows=90)
    assert (written.rows, written.map_rows) == (500, 90)
    reader = Reader(page)
    rows = balanced_rows(np.repeat([0, 1, 2], sizes), np.arange(500), 90, 0)
    assert reader.data["map"]["ids"] == [names[row] for row in rows]
    assert "90 of 500 rows of many.arrow, as many of each file as there are" in reader.text
    assert "density of all 500 rows" in reader.text


def test_the_program_writes_a_page(
    trained: Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    line = f"kvae report {trained.run} --map pca --device cpu -t 1 -o r.html"
    assert run_line(line, monkeypatch) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "r.html: 71 rows on the map" in printed.err
    assert "not on the page: No evaluation was given" in printed.err
    assert run_line(line + " -q", monkeypatch) == 1
    again = capsys.readouterr()
    assert again.err.startswith("kvae: error: r.html: exists already")
    assert again.err.count("\n") == 1
    assert Reader((tmp_path / "r.html").read_text()).data["map"]["ids"]
