"""Windows that are drawn anew for every epoch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kvae
from kvae.config import RunConfig, SequencesConfig
from kvae.resampling import ResampledRows, open_resampled
from kvae.row_sources import open_rows
from sequences import bgzf, fails, fasta, random_sequence, run_kvae, write
from small import small_model
from training_runs import assert_same_weights

WINDOW, SHORTEST = 400, 150


def contigs() -> list[tuple[str, str]]:
    """Contigs of all lengths; some with gaps, a few with hardly any base."""
    letters = ["ACGT", "ACGT", "ACGT" * 30 + "N", "A" + "N" * 40, "GC" * 9 + "R"]
    return [
        (f"c{i}", random_sequence(SHORTEST + 113 * i % 3000, seed=i, letters=letters[i % 5]))
        for i in range(60)
    ]


@pytest.fixture
def genomes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    records = contigs()
    write(tmp_path / "genomes" / "a.fna", fasta(records[:25]))
    write(tmp_path / "genomes" / "b.fa.gz", bgzf(fasta(records[25:])))
    return tmp_path / "genomes"


def drawn(seed: int = 0) -> ResampledRows:
    return open_resampled("genomes", window=WINDOW, min_length=SHORTEST, k=[7, 3], seed=seed)


def places(rows: ResampledRows) -> list[Any]:
    columns = [rows.column(name).to_pylist() for name in ("id", "start", "end", "length")]
    return list(zip(*columns, strict=True))


def check_rows(rows: ResampledRows) -> None:
    """Every row is that of the letters it says it is of."""
    sequences = dict(contigs())
    everything = np.arange(len(rows))
    letters = [sequences[name][start:end] for name, start, end, _ in places(rows)]
    expected = kvae.featurize_sequences(letters, k=[7, 3])
    np.testing.assert_array_equal(rows.rows(everything), expected)
    some = np.random.default_rng(0).permutation(everything)[:50]
    np.testing.assert_array_equal(rows.rows(some), expected[some])


def test_before_anything_is_drawn_rows_are_those_of_a_feature_file(genomes: Path) -> None:
    kvae.featurize("genomes", "feats.arrow", window=WINDOW, min_length=SHORTEST, k=[7, 3])
    stored, rows = kvae.FeatureStore("feats.arrow"), drawn()
    assert len(rows) == len(stored)
    assert rows.layout == stored.layout
    assert list(rows.source_names) == stored.source_names
    np.testing.assert_array_equal(rows.source_codes, stored.source_codes)
    for name in ("id", "start", "end", "length"):
        assert rows.column(name).to_pylist() == stored.column(name).to_pylist()
    everything = np.arange(len(rows))
    np.testing.assert_array_equal(rows.rows(everything), stored.rows(everything))


def test_windows_are_drawn_anew_within_their_contigs(genomes: Path) -> None:
    rows = drawn()
    cut = places(rows)
    seen = set()
    for epoch in (1, 2, 3):
        rows.redraw(epoch)
        check_rows(rows)
        now = places(rows)
        seen.update(now)
        for (name, start, end, length), (first_name, *_) in zip(now, cut, strict=True):
            assert name == first_name
            whole = len(dict(contigs())[name])
            assert 0 <= start < end <= whole
            assert length == end - start
            assert length <= max(2 * WINDOW, WINDOW + whole % WINDOW)
            assert length >= min(SHORTEST, whole)
    assert len(seen) > 2 * len(cut)
    lengths = [length for *_, length in seen]
    assert min(lengths) < 1.1 * SHORTEST
    assert max(lengths) > 1.9 * WINDOW
    rows.restore()
    assert places(rows) == cut


def test_what_is_drawn_depends_on_seed_and_epoch_alone(genomes: Path) -> None:
    rows, again, other = drawn(), drawn(), drawn(seed=1)
    rows.redraw(1)
    rows.redraw(5)
    again.redraw(5)
    other.redraw(5)
    assert places(rows) == places(again) != places(other)


def test_stored_rows_cannot_be_drawn(genomes: Path) -> None:
    kvae.featurize("genomes", "feats.arrow", min_length=SHORTEST)
    with pytest.raises(kvae.KvaeError, match=r"feats\.arrow: .* a feature file holds rows"):
        open_rows("feats.arrow", cutting=SequencesConfig(resample=True))


def run(output: str, **arguments: Any) -> list[dict[str, Any]]:
    config = RunConfig(
        model=small_model(),
        sequences=SequencesConfig(window=WINDOW, min_length=SHORTEST, resample=True),
    )
    settings = {"training.batch_size": 16}
    kvae.train(
        "genomes", output, config=config, settings=settings, device="cpu", threads=1, **arguments
    )
    return [json.loads(line) for line in Path(output, "metrics.jsonl").read_text().splitlines()]


def test_training_draws_and_validation_does_not(genomes: Path) -> None:
    first, second, third = run("run", epochs=3)
    # The share of present 7-mers depends on the windows.
    trained = [epoch["train"]["avgPresent"] for epoch in (first, second, third)]
    assert len(set(trained)) == 3
    assert len({epoch["validation"]["avgPresent"] for epoch in (first, second, third)}) == 1
    # Encoding cuts as the run did, and draws nothing.
    stored = open_rows("genomes", cutting=SequencesConfig(window=WINDOW, min_length=SHORTEST))
    latent = kvae.encode("run", "genomes", device="cpu")
    np.testing.assert_array_equal(latent, kvae.encode("run", stored, device="cpu"))


def test_a_resumed_run_goes_on_with_the_same_windows(genomes: Path) -> None:
    run("whole", epochs=3)
    run("resumed", epochs=1)
    run("resumed", epochs=3, resume=True)
    assert_same_weights(Path("whole"), Path("resumed"))


def test_the_command_line_says_what_cannot_be(genomes: Path) -> None:
    kvae.featurize("genomes", "feats.arrow", min_length=SHORTEST)
    told = fails(run_kvae("train", "feats.arrow", "--resample"))
    assert "feats.arrow: windows are drawn from sequences" in told
    told = fails(run_kvae("train", "genomes", "--resample", "--window", "0"))
    assert "resample draws windows of up to twice window, which is 0" in told
    assert not Path("run").exists()
