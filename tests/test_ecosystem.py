"""The programs that docs/ecosystem.md names, run as it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import kvae
from in_process import kvae as program
from pages import blocks, run_python

PAGE = "ecosystem.md"


@pytest.fixture
def folder(tmp_path: Path, data_files: list[Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "genomes").mkdir()
    for path in data_files:
        (tmp_path / "genomes" / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    # The library of data sets keeps a copy of what it opens, and looks for nothing outside.
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    return tmp_path


def test_the_examples_run(
    folder: Path,
    pretrained_graph: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (folder / "encoder.onnx").symlink_to(pretrained_graph)
    for line in "".join(blocks(PAGE, "sh")).splitlines():
        if line == "kvae export pretrained -o encoder.onnx":
            continue
        assert program(f"{line} -q", monkeypatch) == 0, line
    assert capfd.readouterr().err == ""
    names = run_python(PAGE)
    store = kvae.FeatureStore("feats.arrow")
    everything = store.rows(np.arange(len(store)))
    latents = kvae.encode("pretrained", store, threads=1)

    np.testing.assert_allclose(names["vectors"], latents, atol=1e-4)
    per_source = dict(names["per_source"].select("source", "len").rows())
    assert per_source == pd.Series(store.column("source").to_pylist()).value_counts().to_dict()
    frequency = np.exp(everything[:, store.layout.block("4-mers").slice]) - 1e-6
    of_first = frequency[np.array(store.ids.to_pylist()) == store.ids[0].as_py()]
    said = names["mean_of_contig"].loc[store.ids[0].as_py()]
    np.testing.assert_allclose(said["AAAA"], of_first[:, 0].mean(), atol=1e-6)

    out = capfd.readouterr().out
    assert all(name in out for name in store.source_names), out
    record, bases = names["longest"].fetchall()[0]
    length = dict(zip(store.ids.to_pylist(), store.column("length").to_pylist(), strict=True))
    assert bases == store.column("length").to_numpy().max()
    assert record in length

    assert names["rows"].shape == (1, 8362)
    np.testing.assert_allclose(names["data"].obsm["X_kvae"], latents, atol=1e-4)
    assert names["counts"].shape == (len(store), 8360)
    np.testing.assert_array_equal(
        names["counts"].X.toarray()[:, :8192], store.counts(np.arange(len(store)), 7)
    )
    assert names["mean"].shape == names["logvar"].shape == (1, 64)
    assert names["facts"]["kvae.layout"] == store.layout.fingerprint


def test_a_set_of_data_has_the_features(feature_file: Path, folder: Path) -> None:
    from datasets import load_dataset

    rows = load_dataset("arrow", data_files=str(feature_file), split="train")
    store = kvae.FeatureStore(feature_file)
    assert rows.num_rows == len(store)
    assert rows[3]["id"] == store.ids[3].as_py()
    features = rows.with_format("numpy")[:5]["features"]
    np.testing.assert_array_equal(features, store.rows(np.arange(5)))


def test_latents_in_parquet_are_lists_for_duckdb(folder: Path) -> None:
    import duckdb

    kvae.encode("pretrained", "genomes", folder / "latent.parquet", threads=1)
    found = duckdb.sql("SELECT id, latent[1] AS first, len(latent) AS n FROM 'latent.parquet'")
    assert found is not None
    table = found.to_arrow_table()
    assert isinstance(table, pa.Table)
    assert set(table["n"].to_pylist()) == {64}
    expected = kvae.encode("pretrained", "genomes", threads=1)[:, 0]
    np.testing.assert_allclose(table["first"].to_numpy(), expected, atol=1e-5)
