"""Reading latent files back."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from kvae.errors import KvaeError
from kvae.latents import Latents, read_latents
from latent_files import write_latents
from sequences import write

SUFFIXES = [".arrow", ".parquet", ".npz", ".tsv", ".tsv.gz", ".h5ad"]
N, WIDTH = 37, 5
VECTORS = np.random.default_rng(0).normal(size=(N, WIDTH)).astype(np.float32)
LOGVAR = np.random.default_rng(1).normal(size=(N, WIDTH)).astype(np.float32)
IDS = [f'"c{i // 3}"' for i in range(N)]
SOURCES = [("b.fna", "a.fna", "ä ö.fna")[i // 13] for i in range(N)]
LENGTHS = [5000 + i for i in range(N)]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_gives_back_what_was_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"latent{suffix}"
    write_latents(path, VECTORS, ids=IDS, sources=SOURCES, lengths=LENGTHS, logvar=LOGVAR, batch=10)
    latents = read_latents(path)
    assert len(latents) == N
    assert latents.n_latent == WIDTH
    assert latents.vectors.dtype == np.float32
    assert np.array_equal(latents.vectors, VECTORS)
    assert latents.logvar is not None
    assert np.array_equal(latents.logvar, LOGVAR)
    assert latents.ids.to_pylist() == IDS
    assert [latents.source_names[code] for code in latents.source_codes] == SOURCES
    assert len(set(latents.source_names)) == 3
    assert latents.length.tolist() == LENGTHS
    assert (latents.end - latents.start).tolist() == LENGTHS
    if ".tsv" not in suffix:
        assert latents.facts["run"] == "run"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_log_variances_are_optional(tmp_path: Path, suffix: str) -> None:
    path = write_latents(tmp_path / f"latent{suffix}", VECTORS)
    assert read_latents(path).logvar is None


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_cut_anywhere_is_one_line(tmp_path: Path, suffix: str) -> None:
    path = write_latents(tmp_path / f"latent{suffix}", VECTORS, ids=IDS)
    whole = path.read_bytes()
    for size in np.linspace(0, len(whole) - 1, 40, dtype=int):
        path.write_bytes(whole[:size])
        if suffix == ".tsv" and whole[:size].count(b"\n") > 1:
            continue  # A table has no end of its own: a shorter one may be whole.
        with pytest.raises(KvaeError) as caught:
            read_latents(path)
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".arrow", ".parquet", ".npz", ".h5ad"])
def test_flipped_bits_are_found_or_harmless(tmp_path: Path, suffix: str) -> None:
    path = write_latents(tmp_path / f"latent{suffix}", VECTORS, ids=IDS)
    whole = path.read_bytes()
    rng = np.random.default_rng(2)
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            latents = read_latents(path)
        except KvaeError as error:
            assert "\n" not in str(error)  # noqa: PT017 - most flips are in the vectors
        else:
            assert np.isfinite(latents.vectors).all()
            assert max(latents.source_codes) < len(latents.source_names)


def test_every_flipped_bit_of_an_arrow_file_is_found_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "latent.arrow"
    write_latents(path, VECTORS, ids=IDS, sources=SOURCES, lengths=LENGTHS, batch=10)
    whole, before = path.read_bytes(), read_latents(path)
    rng = np.random.default_rng(3)
    n_found = 0
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            after = read_latents(path)
        except KvaeError:
            n_found += 1
            continue
        _assert_equal(before, after)
    # All that carries a value, at least.
    assert n_found > VECTORS.nbytes + 3 * 8 * N


def test_a_batch_that_is_gone_or_there_twice_is_missed(tmp_path: Path) -> None:
    path = write_latents(tmp_path / "latent.arrow", VECTORS, ids=IDS, batch=10)
    with pa.ipc.open_file(path) as reader:
        found = [reader.get_batch_with_custom_metadata(i) for i in range(4)]
        schema = reader.schema
    orders = {"gone": [0, 1, 3], "cut": [0, 1, 2], "twice": [0, 1, 1, 3], "swapped": [0, 2, 1, 3]}
    for name, order in orders.items():
        forged = tmp_path / f"{name}.arrow"
        with pa.ipc.new_file(str(forged), schema) as writer:
            for i in order:
                writer.write_batch(found[i][0], custom_metadata=found[i][1])
        with pytest.raises(KvaeError, match=rf"{name}\.arrow: is damaged \(checksums differ\)"):
            read_latents(forged)


def test_an_arrow_file_without_sums_is_read(tmp_path: Path) -> None:
    path = write_latents(tmp_path / "latent.arrow", VECTORS, ids=IDS, batch=10)
    with pa.ipc.open_file(path) as reader:
        table = reader.read_all()
    with pa.ipc.new_file(str(tmp_path / "b.arrow"), table.schema) as writer:
        writer.write_table(table)
    _assert_equal(read_latents(path), read_latents(tmp_path / "b.arrow"))


def _assert_equal(a: Latents, b: Latents) -> None:
    assert a.ids.equals(b.ids)
    assert a.facts == b.facts
    for name in ("vectors", "start", "end", "length"):
        assert np.array_equal(getattr(a, name), getattr(b, name)), name
    sources = [[each.source_names[code] for code in each.source_codes] for each in (a, b)]
    assert sources[0] == sources[1]


def test_other_files_are_refused(tmp_path: Path, feature_file: Path) -> None:
    with pytest.raises(KvaeError, match=r"feats\.arrow: is not a file of latents"):
        read_latents(feature_file)
    with pytest.raises(KvaeError, match=r"unknown format.*\.arrow"):
        read_latents(write(tmp_path / "latent.txt", b"text"))
    with pytest.raises(KvaeError, match=r"no such file.*kvae encode"):
        read_latents(tmp_path / "latent.arrow")
    (tmp_path / "folder.arrow").mkdir()
    with pytest.raises(KvaeError, match="is a directory"):
        read_latents(tmp_path / "folder.arrow")
    (tmp_path / "plain.npz").write_bytes(b"PK")
    with pytest.raises(KvaeError, match="is damaged"):
        read_latents(tmp_path / "plain.npz")


def test_a_damaged_header_of_an_array_is_one_line(tmp_path: Path) -> None:
    path = write_latents(tmp_path / "latent.npz", VECTORS, ids=IDS)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    # Python's tokenizer, which numpy asks, has an exception of its own.
    members["latent.npy"] = members["latent.npy"].replace(b"}", b"(", 1)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(KvaeError, match=r"latent\.npz: is damaged"):
        read_latents(path)


def test_a_file_rewritten_by_another_tool_is_read(tmp_path: Path) -> None:
    written = write_latents(tmp_path / "latent.parquet", VECTORS, ids=IDS, batch=10)
    pl.read_parquet(written).write_parquet(tmp_path / "polars.parquet")
    latents = read_latents(tmp_path / "polars.parquet")
    assert np.array_equal(latents.vectors, VECTORS)
    assert latents.ids.to_pylist() == IDS


def test_pickled_arrays_are_never_loaded(tmp_path: Path) -> None:
    path = write_latents(tmp_path / "latent.npz", VECTORS)
    with np.load(path) as archive:
        content = {name: archive[name] for name in archive.files}
    content["id"] = np.array([print, *range(N - 1)], dtype=object)
    np.savez(path, **content)
    with pytest.raises(KvaeError, match="is damaged"):
        read_latents(path)


def test_vectors_that_are_not_finite_name_the_row(tmp_path: Path) -> None:
    vectors = VECTORS.copy()
    vectors[11, 3] = np.inf
    path = write_latents(tmp_path / "latent.parquet", vectors, ids=IDS)
    with pytest.raises(KvaeError, match=r'row 11 \(record "c3"\): latent not finite'):
        read_latents(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_rows_are_no_latents(tmp_path: Path, suffix: str) -> None:
    path = write_latents(tmp_path / f"latent{suffix}", VECTORS[:0])
    with pytest.raises(KvaeError, match=rf"latent\{suffix}: has no latents: encode again"):
        read_latents(path)


def test_columns_of_different_lengths_are_refused(tmp_path: Path) -> None:
    path = write_latents(tmp_path / "latent.npz", VECTORS)
    with np.load(path) as archive:
        content = {name: archive[name] for name in archive.files}
    content["start"] = content["start"][:-1]
    np.savez(path, **content)
    with pytest.raises(KvaeError, match="different lengths"):
        read_latents(path)
    with zipfile.ZipFile(path, "w") as archive_file:
        archive_file.writestr("latent.npy", b"")
    with pytest.raises(KvaeError, match="latent"):
        read_latents(path)


def test_no_rows_are_refused(tmp_path: Path) -> None:
    path = write_latents(tmp_path / "latent.arrow", VECTORS[:0])
    with pytest.raises(KvaeError, match="has no latents"):
        read_latents(path)
    assert isinstance(pa.ipc.open_file(str(path)).schema, pa.Schema)
