"""Encoding: the latents, the formats they are written in, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import torch

from kvae.encoding import Matrix, encode
from kvae.errors import KvaeError
from kvae.layout import Layout
from kvae.model import KmerVAE
from kvae.model.files import model_fingerprint
from kvae.training.run import train
from small import MemoryStore, make_layout, make_store, small_run

SUFFIXES = [".arrow", ".parquet", ".npz", ".tsv", ".tsv.gz", ".h5ad"]


@pytest.fixture(scope="module")
def folder(store: MemoryStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("encoding") / "run"
    train(store, path, config=small_run(), device="cpu", threads=1)
    return path


@pytest.fixture(scope="module")
def expected(folder: Path, store: MemoryStore) -> tuple[Matrix, Matrix]:
    """Mean and log variance straight from the model."""
    model = KmerVAE.load(folder / "model.safetensors", layout=store.layout)
    with torch.no_grad():
        latent = model.inference(torch.from_numpy(store.data))
    return latent.mean.numpy(), latent.log_var.numpy()


def on_cpu(run: Path, source: MemoryStore, output: Path | None = None, **arguments: Any) -> Any:
    return encode(run, source, output, device="cpu", threads=1, **arguments)


def read(path: Path, name: str = "latent") -> tuple[Any, dict[str, list[Any]]]:
    """Read a matrix and the columns beside it back, with the format's own reader."""
    if path.name.endswith(".npz"):
        with np.load(path) as file:
            columns = {key: file[key].tolist() for key in ("id", "source", "start", "length")}
            return file[name], columns
    if path.suffix == ".h5ad":
        data = anndata.read_h5ad(path)
        columns = {key: data.obs[key].tolist() for key in ("id", "source", "start", "length")}
        return data.obsm["X_kvae" if name == "latent" else f"X_kvae_{name}"], columns
    if ".tsv" in path.name:
        options = pa.csv.ParseOptions(delimiter="\t")
        table = pa.csv.read_csv(path, parse_options=options)
        prefix = "z" if name == "latent" else name
        matrix = np.column_stack([table[f"{prefix}{i + 1}"].to_numpy() for i in range(12)])
    else:
        if path.suffix == ".arrow":
            table = pa.ipc.open_file(str(path)).read_all()
        else:
            table = pyarrow.parquet.read_table(path)
        matrix = np.array(table[name].to_pylist(), dtype=np.float32)
    return matrix, {key: table[key].to_pylist() for key in ("id", "source", "start", "length")}


def test_latents_are_the_posterior_means(
    folder: Path, store: MemoryStore, expected: tuple[Matrix, Matrix]
) -> None:
    latent = on_cpu(folder, store)
    assert latent.dtype == np.float32
    np.testing.assert_array_equal(latent, expected[0])
    mean, log_var = on_cpu(folder, store, with_logvar=True)
    np.testing.assert_array_equal(mean, expected[0])
    np.testing.assert_array_equal(log_var, expected[1])


def test_a_model_file_serves_as_a_run(
    folder: Path, store: MemoryStore, expected: tuple[Matrix, Matrix]
) -> None:
    latent = on_cpu(folder / "model.safetensors", store)
    np.testing.assert_array_equal(latent, expected[0])


@pytest.mark.parametrize("batch_size", [1, 7, 10_000])
def test_batch_size_does_not_matter(
    folder: Path, store: MemoryStore, expected: tuple[Matrix, Matrix], batch_size: int
) -> None:
    latent = on_cpu(folder, store, batch_size=batch_size)
    np.testing.assert_allclose(latent, expected[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_holds_the_same(
    folder: Path, store: MemoryStore, expected: tuple[Matrix, Matrix], tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"latent{suffix}"
    result = on_cpu(folder, store, path, with_logvar=True, batch_size=17)
    assert (result.output, result.rows, result.latent) == (path, len(store), 12)
    for name, wanted in zip(("latent", "logvar"), expected, strict=True):
        matrix, columns = read(path, name)
        np.testing.assert_allclose(matrix, wanted, rtol=1e-4, atol=1e-5)
    assert columns["id"] == store.names
    assert columns["source"] == [store.source_names[code] for code in store.source_codes]
    assert columns["start"] == store.column("start").to_pylist()
    assert columns["length"] == store.column("length").to_pylist()
    assert [other.name for other in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_latents_give_the_same_bytes(
    folder: Path, store: MemoryStore, tmp_path: Path, suffix: str
) -> None:
    first, second = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    on_cpu(folder, store, first)
    on_cpu(folder, store, second)
    assert first.read_bytes() == second.read_bytes()


def test_tables_are_never_quoted(folder: Path, store: MemoryStore, tmp_path: Path) -> None:
    names = ['say "hi"', *store.names[1:]]
    sources = ["with\ttab", *store.source_names[1:]]
    odd = replace(store, names=names, source_names=sources)
    on_cpu(folder, odd, tmp_path / "latent.tsv")
    header, first, *rest = (tmp_path / "latent.tsv").read_text().splitlines()
    assert header.split("\t")[:7] == ["id", "source", "start", "end", "length", "z1", "z2"]
    assert first.split("\t")[:2] == ['say "hi"', "with tab"]
    assert len(rest) == len(store) - 1
    assert {len(line.split("\t")) for line in (header, first, *rest)} == {17}


def test_arrow_schema_names_model_run_and_layout(
    folder: Path, store: MemoryStore, tmp_path: Path
) -> None:
    path = tmp_path / "latent.arrow"
    on_cpu(folder, store, path)
    schema = pa.ipc.open_file(str(path)).schema
    assert schema.names == ["id", "source", "start", "end", "length", "latent"]
    assert schema.field("latent").type.list_size == 12
    facts = json.loads(schema.metadata[b"kvae"])
    model = KmerVAE.load(folder / "model.safetensors", layout=store.layout)
    assert facts["model"] == model_fingerprint(model)
    assert facts["run"] == "run"
    assert facts["layout"] == store.layout.fingerprint
    assert facts["latent"] == 12


def test_features_of_another_layout_are_refused_with_both_named(
    folder: Path, store: MemoryStore, tmp_path: Path
) -> None:
    other = replace(store, layout=make_layout(96, 20, 8, fingerprint="other-layout"))
    with pytest.raises(KvaeError, match=r"small-layout.*other-layout"):
        on_cpu(folder, other, tmp_path / "latent.arrow")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_features_that_are_not_finite_leave_nothing_behind(
    folder: Path, store: MemoryStore, tmp_path: Path, suffix: str
) -> None:
    data = store.data.copy()
    data[53, 2] = np.nan
    with pytest.raises(KvaeError, match=rf"row 53 \(record {store.names[53]}\)"):
        on_cpu(folder, store.with_data(data), tmp_path / f"latent{suffix}", batch_size=8)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_output_is_kept_unless_forced(
    folder: Path, store: MemoryStore, tmp_path: Path
) -> None:
    path = tmp_path / "latent.npz"
    path.write_text("precious")
    with pytest.raises(KvaeError, match="exists"):
        on_cpu(folder, store, path)
    assert path.read_text() == "precious"
    on_cpu(folder, store, path, force=True)
    assert np.load(path)["latent"].shape == (len(store), 12)


def test_the_input_is_never_overwritten(folder: Path, store: MemoryStore, tmp_path: Path) -> None:
    path = tmp_path / "feats.arrow"
    path.write_text("features")
    with pytest.raises(KvaeError, match="is the input"):
        on_cpu(folder, replace(store, path=str(path)), path, force=True)
    assert path.read_text() == "features"


def test_unknown_formats_and_bad_arguments_are_refused(
    folder: Path, store: MemoryStore, tmp_path: Path
) -> None:
    for name in ("latent", "latent.csv", "latent.gz"):
        with pytest.raises(KvaeError, match=r"must end in .arrow, .parquet"):
            on_cpu(folder, store, tmp_path / name)
    with pytest.raises(KvaeError, match="batch size must be at least 1"):
        on_cpu(folder, store, batch_size=0)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_run_is_refused(folder: Path, store: MemoryStore, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(KvaeError, match="not a run"):
            on_cpu(path, store)
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(KvaeError, match="no epoch of this run is finished"):
        on_cpu(tmp_path, store)
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    assert on_cpu(tmp_path, store).shape == (len(store), 12)
    text = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(text.replace('"latent": 12', '"latent": 13'))
    with pytest.raises(KvaeError, match="describe different models"):
        on_cpu(tmp_path, store)


def test_latents_of_many_sources_keep_their_order(folder: Path, layout: Layout) -> None:
    store = make_store(layout, [1] * 40, seed=8)
    latent = on_cpu(folder, store, batch_size=3)
    alone = np.concatenate([on_cpu(folder, make_part(store, row)) for row in range(40)])
    np.testing.assert_allclose(latent, alone, rtol=1e-4, atol=1e-5)


def make_part(store: MemoryStore, row: int) -> MemoryStore:
    return replace(
        store,
        data=store.data[row : row + 1],
        source_codes=store.source_codes[row : row + 1],
        names=store.names[row : row + 1],
    )
