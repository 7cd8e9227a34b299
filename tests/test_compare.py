"""Configurations side by side: what is trained, what is kept, what is written."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvae
from kvae.comparison import Comparison, ComparisonInterrupted
from kvae.comparison.entries import read_entries
from kvae.comparison.outcome import Outcome, metric_names
from kvae.comparison.sample import RowSample, sample_rows
from kvae.config import RunConfig, override
from kvae.errors import KvaeError
from kvae.presets import get_preset
from sequences import listing, run_kvae
from small import MemoryStore, small_run
from training_runs import Record, untimed

FILES = {"compare.json", "compare.md", "compare.png", "compare.svg", "compare.tsv"}


def two_runs(**training: Any) -> dict[str, RunConfig]:
    config = small_run(**training)
    return {"plain": config, "narrow": override(config, {"model.latent": 5})}


def compare(
    store: MemoryStore, configs: Mapping[str, RunConfig], output: Path, **arguments: Any
) -> Comparison:
    return kvae.compare(store, configs, output, device="cpu", threads=1, **arguments)


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "compare.tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.fixture(scope="module")
def compared(store: MemoryStore, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    return compare(store, two_runs(epochs=3), tmp_path_factory.mktemp("compared") / "compare")


# --- results -------------------------------------------------------------------------


def test_each_run_is_the_one_that_train_makes(
    compared: Comparison, store: MemoryStore, tmp_path: Path
) -> None:
    for name, config in two_runs(epochs=3).items():
        kvae.train(store, tmp_path / name, config=config, device="cpu", threads=1)
        assert untimed(compared.folder / name) == untimed(tmp_path / name)
    assert {path.name for path in compared.folder.iterdir()} == FILES | {"plain", "narrow"}


def test_the_table_holds_the_figures_of_both_epochs(compared: Comparison) -> None:
    lines = table(compared.folder)
    assert [line["name"] for line in lines] == ["plain", "narrow"]
    for line, outcome in zip(lines, compared.outcomes, strict=True):
        assert line["status"] == "finished"
        assert int(line["epochs"]) == 3
        assert int(line["parameters"]) == outcome.n_parameters
        records = list(outcome.epochs)
        best = min(records, key=lambda record: record["validation"]["loss"])
        assert int(line["best_epoch"]) == best["epoch"]
        assert float(line["rows_per_parameter"]) == records[0]["samples_per_parameter"]
        for which, record in (("last", records[-1]), ("best", best)):
            written = {
                name.removeprefix(f"{which}_"): float(value)
                for name, value in line.items()
                if name.startswith(f"{which}_") and value and name != "best_epoch"
            }
            assert written == record["validation"]


def test_json_holds_the_configurations(compared: Comparison) -> None:
    facts = json.loads((compared.folder / "compare.json").read_text())
    found = [RunConfig.model_validate(entry["config"]) for entry in facts["configurations"]]
    assert found == list(two_runs(epochs=3).values())


def test_markdown_is_one_table_per_section(compared: Comparison) -> None:
    text = (compared.folder / "compare.md").read_text()
    assert "| gateAcc_majority |" in text
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert {line.count("|") for line in block.splitlines()} == {4}


def test_metrics_without_a_place_follow_their_relatives() -> None:
    entry = read_entries(["dot"], {})[0]
    scores = {"loss": 1.0, "outAcc@0.001": 0.5, "outAcc@0.001_majority": 0.4, "mse4_other": 0.1}
    record = {"epoch": 1, "is_best": True, "validation": scores}
    names = metric_names([Outcome(entry), Outcome(entry, epochs=[record])])
    assert names[0] == "loss"
    assert names[names.index("mse4") :][:3] == ["mse4", "mse4_other", "mse4_constant"]
    assert names[-2:] == ["outAcc@0.001", "outAcc@0.001_majority"]


# --- going on ------------------------------------------------------------------------


def test_what_is_finished_is_not_trained_again(compared: Comparison, store: MemoryStore) -> None:
    runs = [compared.folder / name for name in ("plain", "narrow")]
    before = [(run / "metrics.jsonl").read_bytes() for run in runs]
    progress = Record()
    again = compare(store, two_runs(epochs=3), compared.folder, progress=progress)
    assert progress.lines == []
    assert [(run / "metrics.jsonl").read_bytes() for run in runs] == before
    assert [o.facts() for o in again.outcomes] == [o.facts() for o in compared.outcomes]


class StopAfter(Record):
    """Ctrl-C after some epochs."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self._left = epochs

    def epoch(self, record: Any, line: str) -> None:
        super().epoch(record, line)
        self._left -= 1

    def begin(self, label: str, rows: int) -> None:
        if self._left == 0 and label.startswith("epoch"):
            raise KeyboardInterrupt


def test_an_interrupted_comparison_goes_on(
    compared: Comparison, store: MemoryStore, tmp_path: Path
) -> None:
    output = tmp_path / "compare"
    with pytest.raises(ComparisonInterrupted, match=r"narrow.*the same command"):
        compare(store, two_runs(epochs=3), output, progress=StopAfter(4))
    assert [line["status"] for line in table(output)] == ["finished", "unfinished"]
    assert [line["epochs"] for line in table(output)] == ["3", "1"]
    progress = Record()
    compare(store, two_runs(epochs=3), output, progress=progress)
    assert len(progress.lines) == 2
    for name in ("plain", "narrow"):
        assert untimed(output / name) == untimed(compared.folder / name)


def test_epochs_may_be_raised_and_configurations_added(store: MemoryStore, tmp_path: Path) -> None:
    output = tmp_path / "compare"
    one = {"plain": small_run(epochs=1)}
    compare(store, one, output)
    progress = Record()
    both = compare(store, two_runs(epochs=1), output, epochs=2, progress=progress)
    assert [line[:9] for line in progress.lines] == ["epoch 2/2", "epoch 1/2", "epoch 2/2"]
    assert [len(outcome.epochs) for outcome in both.outcomes] == [2, 2]
    with pytest.raises(KvaeError, match="has 2 epochs, more than the 1 asked for"):
        compare(store, one, output)


def test_force_starts_over(store: MemoryStore, tmp_path: Path) -> None:
    output = tmp_path / "compare"
    compare(store, {"a": small_run(epochs=1)}, output, force=True)
    changed = {"a": override(small_run(epochs=1), {"model.latent": 5})}
    before = listing(output)
    with pytest.raises(KvaeError, match=r"started with model.latent 12, not 5.*--force"):
        compare(store, changed, output)
    assert listing(output) == before
    compare(store, changed, output, force=True)
    assert len(table(output)) == 1
    assert kvae.KmerVAE.load(output / "a/model.safetensors", layout=store.layout).config.latent == 5


def test_a_failure_does_not_stop_the_others(store: MemoryStore, tmp_path: Path) -> None:
    output = tmp_path / "compare"
    configs = {"wild": small_run(epochs=1, lr=1e30), "plain": small_run(epochs=1)}
    progress = Record()
    result = compare(store, configs, output, progress=progress)
    assert [outcome.entry.name for outcome in result.failed] == ["wild"]
    problem = result.failed[0].problem
    assert problem is not None
    assert "the loss became" in problem
    assert "\n" not in problem
    assert [line["status"] for line in table(output)] == ["failed", "finished"]
    assert f"`wild` failed: {problem}" in (output / "compare.md").read_text()
    assert (output / "compare.png").stat().st_size > 1000


def test_other_rows_are_refused(store: MemoryStore, tmp_path: Path) -> None:
    output = tmp_path / "compare"
    compare(store, {"a": small_run(epochs=1)}, output, rows=60)
    with pytest.raises(KvaeError, match="compares 60 of 80 rows, not 80 of 80"):
        compare(store, {"a": small_run(epochs=1)}, output)


def test_a_folder_of_something_else_is_left_alone(store: MemoryStore, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    for force in (False, True):
        with pytest.raises(KvaeError, match="something else than a comparison"):
            compare(store, two_runs(), tmp_path, force=force)
    assert list(listing(tmp_path)) == ["mine.txt"]


# --- samples -------------------------------------------------------------------------


@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=8),
    share=st.floats(0.01, 1.0),
    seed=st.integers(0, 100),
)
def test_a_sample_is_spread_over_all_genomes(sizes: list[int], share: float, seed: int) -> None:
    codes = np.repeat(np.arange(len(sizes)), sizes).astype(np.int32)
    np.random.default_rng(seed).shuffle(codes)
    n_rows = max(1, int(share * len(codes)))
    rows = sample_rows(codes, n_rows)
    assert len(rows) == n_rows
    assert (np.diff(rows) > 0).all()
    assert np.array_equal(rows, sample_rows(codes, n_rows))
    taken = np.bincount(codes[rows], minlength=len(sizes))
    assert (taken > 0).sum() == min(n_rows, len(sizes))
    if n_rows >= 2 * len(sizes):
        expected = np.array(sizes) * n_rows / len(codes)
        assert (abs(taken - expected) <= len(sizes) + 1).all()


def test_a_sample_is_a_source_of_its_own(store: MemoryStore) -> None:
    sample = RowSample(store, 17)
    chosen = sample.indices
    assert len(sample) == 17
    assert np.array_equal(sample.rows(np.array([3, 0])), store.data[chosen[[3, 0]]])
    assert sample.ids.to_pylist() == [store.names[i] for i in chosen]
    assert np.array_equal(sample.source_codes, store.source_codes[chosen])
    assert sample.column("start").to_pylist() == [i * 5000 for i in chosen]
    out = np.empty((1, store.layout.n_fields), np.float32)
    assert sample.rows(np.array([5]), out=out) is out
    with pytest.raises(KvaeError, match="cannot take 81 of 80 rows"):
        RowSample(store, 81)


# --- entries -------------------------------------------------------------------------


def test_entries_are_presets_files_and_changes(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(small_run(lr=0.5).model_dump_json())
    texts = [
        "dot",
        "little=dot,latent=64,model.decoder.shared=[64,32],loss.w7=2",
        str(path),
        f"again={path},training.batch_size=8",
    ]
    entries = read_entries(texts, {"training.seed": 7})
    assert [entry.name for entry in entries] == ["dot", "little", "mine", "again"]
    dot, little, mine, again = (entry.config for entry in entries)
    assert dot.preset == little.preset == "dot"
    assert dot.model == get_preset("dot").model
    assert (little.model.latent, little.model.decoder.shared) == (64, (64, 32))
    assert little.loss == override(get_preset("dot").loss, {"w7": 2.0})
    # A file that names no preset differs from the default one.
    assert mine == small_run(lr=0.5, seed=7).model_copy(update={"preset": "kvae"})
    assert again == override(mine, {"training.batch_size": 8})


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "nothing to compare"),
        (["dott"], "dott"),
        (["a=dott"], "dott"),
        (["dot", "DOT=dot"], "two configurations are named DOT"),
        (["dot,model.latent=3"], "write NAME=dot,model.latent=3"),
        (["a=dot,model.latent"], "'model.latent' is no KEY=VALUE"),
        (["a=dot,model.latent=3,model.latent=4"], "given twice"),
        (["a=dot,model.latent=none"], "a=dot.*latent"),
        (["a=dot,model.nonsense=1"], "a=dot.*nonsense"),
        (["../a=dot"], "cannot name a run's folder"),
        ([".a=dot"], "cannot name a run's folder"),
        (["compare.tsv=dot"], "cannot name a run's folder"),
        (["missing.toml"], "missing.toml: no such file"),
        (["a=dot", "b=dot,training.seed=1"], "a has training.seed 0 and b 1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_entries_that_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, texts: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KvaeError, match=message) as caught:
        read_entries(texts, {})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.toml", "a.json"])
def test_a_file_that_is_none(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("= nonsense")
    with pytest.raises(KvaeError, match=name):
        read_entries([str(tmp_path / name)], {})


# --- the program ---------------------------------------------------------------------


def test_the_program_prints_the_table(feature_file: Path, tmp_path: Path) -> None:
    for name, lr in (("fine", 1e-3), ("wild", 1e30)):
        config = small_run(epochs=1, lr=lr)
        (tmp_path / f"{name}.json").write_text(config.model_dump_json())
    options = ["fine.json", "wild.json", "--rows", "40", "-t", "1"]
    result = run_kvae("compare", feature_file, *options, cwd=tmp_path)
    assert result.returncode == 1
    assert re.search(r"^ *gateAcc +\d+\.\d+% *$", result.stdout, re.MULTILINE)
    assert result.stderr.splitlines()[-1].startswith("kvae: error: wild: the loss became")
    assert {path.name for path in (tmp_path / "compare").iterdir()} == FILES | {"fine", "wild"}
