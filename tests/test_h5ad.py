"""AnnData files, opened by anndata itself."""

from __future__ import annotations

import sys
from pathlib import Path

import anndata
import numpy as np
import pyarrow as pa
import pytest
from scipy import sparse

from kvae.errors import KvaeError
from kvae.h5ad import H5adFile, read_facts, row_names
from kvae.latents import read_latents
from latent_files import write_latents

VECTORS = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
IDS = [f"c{i // 3}" for i in range(30)]


def test_latents_as_anndata(tmp_path: Path) -> None:
    sources = ["a.fna" if i < 15 else "b.fna" for i in range(30)]
    path = write_latents(
        tmp_path / "latent.h5ad", VECTORS, ids=IDS, sources=sources, logvar=-VECTORS, batch=7
    )
    data = anndata.read_h5ad(path)
    assert data.shape == (30, 0)
    np.testing.assert_array_equal(data.obsm["X_kvae"], VECTORS)
    np.testing.assert_array_equal(data.obsm["X_kvae_logvar"], -VECTORS)
    assert data.obs.columns.tolist() == ["id", "source", "start", "end", "length"]
    assert data.obs["id"].tolist() == IDS
    assert data.obs["source"].dtype == "category"
    assert data.obs["source"].tolist() == sources
    assert data.obs["start"].dtype == np.uint64
    assert data.obs_names.tolist()[:4] == [
        "c0:0-5000",
        "c0:5000-10000",
        "c0:10000-15000",
        "c1:0-5000",
    ]
    assert data.obs_names.is_unique
    assert dict(data.uns["kvae"]) == {
        "format": "kvae-latent-1",
        "latent": 4,
        "model": "fingerprint",
        "run": "run",
        "layout": "layout",
    }
    assert data[data.obs["source"] == "b.fna"].obsm["X_kvae"].shape == (15, 4)


def test_latents_that_anndata_has_written_again_are_read(tmp_path: Path) -> None:
    path = write_latents(tmp_path / "latent.h5ad", VECTORS, ids=IDS)
    data = anndata.read_h5ad(path)
    data.obs["cluster"] = "new"
    data.write_h5ad(tmp_path / "again.h5ad")
    latents = read_latents(tmp_path / "again.h5ad")
    np.testing.assert_array_equal(latents.vectors, VECTORS)
    assert latents.ids.to_pylist() == IDS
    assert latents.facts["run"] == "run"


def test_the_same_latents_give_the_same_bytes(tmp_path: Path) -> None:
    one, other = (write_latents(tmp_path / f"{i}.h5ad", VECTORS, ids=IDS) for i in range(2))
    assert one.read_bytes() == other.read_bytes()


def test_another_file_of_anndata_is_no_file_of_latents(tmp_path: Path) -> None:
    anndata.AnnData(VECTORS).write_h5ad(tmp_path / "other.h5ad")
    with pytest.raises(KvaeError, match=r"other\.h5ad: is not a file of latents \(no obsm/X_kvae"):
        read_latents(tmp_path / "other.h5ad")


def test_matrices_grow(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    counts = rng.poisson(0.3, (50, 20)).astype(np.uint32)
    counts[7] = 0
    with H5adFile(tmp_path / "a.h5ad") as file:
        file.begin_sparse("X", 20, np.uint32)
        file.begin("layers/log", 20, np.float32)
        for part in np.split(counts, [11, 12, 40]):
            file.append_sparse("X", part)
            file.append("layers/log", np.log1p(part))
        file.frame("obs", [f"r{i}" for i in range(50)], {"n": pa.array(range(50))})
        file.frame("var", [f"k{i}" for i in range(20)], {})
        file.facts({"a": {"b": [1, 2], "c": {"d": 1.5, "e": True, "f": "ä"}}})
    data = anndata.read_h5ad(tmp_path / "a.h5ad")
    assert sparse.issparse(data.X)
    assert data.X.dtype == np.uint32
    np.testing.assert_array_equal(data.X.toarray(), counts)
    np.testing.assert_array_equal(data.layers["log"], np.log1p(counts).astype(np.float32))
    assert data.var_names.tolist() == [f"k{i}" for i in range(20)]
    assert data.obs["n"].tolist() == list(range(50))
    assert data.uns["a"]["c"] == {"d": 1.5, "e": True, "f": "ä"}
    import h5py

    with h5py.File(tmp_path / "a.h5ad") as opened:
        assert read_facts(opened["uns"]) == {
            "a": {"b": "[1, 2]", "c": {"d": 1.5, "e": True, "f": "ä"}}
        }


def test_rows_of_one_name_are_told_apart() -> None:
    columns = {
        "id": pa.array(["a", "a", "b", "a", "a:0-5-1"]),
        "start": pa.array([0, 0, 0, 0, 0]),
        "end": pa.array([5, 5, 5, 5, 5]),
    }
    names = row_names(columns)
    assert names == ["a:0-5", "a:0-5-1", "b:0-5", "a:0-5-2", "a:0-5-1:0-5"]


def test_without_h5py_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(KvaeError, match=r"needs h5py.*pip install 'kvae\[anndata\]'"):
        write_latents(tmp_path / "latent.h5ad", VECTORS)
