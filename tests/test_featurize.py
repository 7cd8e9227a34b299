"""Feature files: every column, rows, blocks and the Arrow format."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvae
import reference
from feature_tables import (
    RECORDS,
    check_rows,
    featurized,
    matrix,
    metadata,
    read_records,
    sequences_of,
    table,
)
from sequences import (
    fasta,
    listing,
    random_sequence,
    write,
)

# --- columns -----------------------------------------------------------------------


def test_every_column_of_real_genomes(feature_file: Path, data_files: list[Path]) -> None:
    rows = table(feature_file)
    expected, sources = [], []
    for path in data_files:
        cut = reference.cut(read_records(path))
        expected += cut.rows
        sources += [str(path)] * len(cut.rows)
    assert len(rows) == len(expected) >= 60
    assert rows["source"].to_pylist() == sources
    check_rows(rows, expected)


def test_sequences_come_back(feature_file: Path, data_files: list[Path]) -> None:
    expected = [
        row.sequence for path in data_files for row in reference.cut(read_records(path)).rows
    ]
    assert sequences_of(table(feature_file)) == [reference.normalize(x) for x in expected]
    assert any(set(sequence) - set("ACGTN") for sequence in expected), "IUPAC codes are tested too"


def test_types_of_the_columns(feature_file: Path) -> None:
    uint64, uint32 = pa.uint64(), pa.uint32()
    expected = {
        "id": pa.string(),
        "source": pa.dictionary(pa.int32(), pa.string()),
        "start": uint64,
        "end": uint64,
        "length": uint64,
        "gc": pa.float32(),
        "n7": uint64,
        "n4": uint64,
        "n3": uint64,
        "features": pa.list_(pa.field("item", pa.float32(), nullable=False), 8362),
        "sequence": pa.large_binary(),
        "invalid": pa.list_(
            pa.field(
                "item",
                pa.struct(
                    [
                        pa.field("start", uint32, nullable=False),
                        pa.field("length", uint32, nullable=False),
                    ]
                ),
                nullable=False,
            )
        ),
    }
    schema = table(feature_file).schema
    assert dict(zip(schema.names, schema.types, strict=True)) == expected
    assert all(column.null_count == 0 for column in table(feature_file).columns)
    table(feature_file).validate(full=True)


def test_metadata(tmp_path: Path, feature_file: Path) -> None:
    described = metadata(feature_file)
    assert described["version"] == kvae.__version__
    assert (described["window"], described["min_length"]) == (5000, 1000)
    assert isinstance(described["format"], int)
    layout = kvae.Layout.from_ks((7, 4, 3))
    assert kvae.Layout.from_dict(described["layout"]) == layout
    assert described["layout"]["fingerprint"] == layout.fingerprint
    assert described["layout"]["pseudocount"] == 1e-6
    names = [(b["name"], b["k"], b["start"], b["stop"]) for b in described["layout"]["blocks"]]
    assert names == [(b.name, b.k, b.start, b.stop) for b in layout.blocks]

    featurized(tmp_path, fasta(RECORDS), window=700, min_length=0, k=(5, 7))
    described = metadata(tmp_path / "out.arrow")
    assert (described["window"], described["min_length"]) == (700, 0)
    assert kvae.Layout.from_dict(described["layout"]) == kvae.Layout.from_ks((5, 7))


def test_features_times_windows_are_counts_again(feature_file: Path) -> None:
    rows = table(feature_file)
    features = matrix(rows["features"]).astype(np.float64)
    layout = kvae.Layout.from_ks((7, 4, 3))
    sequences = sequences_of(rows)
    for k in layout.ks:
        n = rows[f"n{k}"].to_numpy().astype(np.float64)
        frequencies = np.exp(features[:, layout.block(f"{k}-mers").slice]) - layout.pseudocount
        counts = frequencies * n[:, None]
        exact = np.rint(counts)
        assert np.abs(counts - exact).max() < 0.02
        np.testing.assert_array_equal(exact, kvae.count_kmers(sequences, k))


def test_in_memory_and_file_agree(feature_file: Path) -> None:
    rows = table(feature_file)
    np.testing.assert_array_equal(
        kvae.featurize_sequences(sequences_of(rows)), matrix(rows["features"])
    )


def test_no_sequence(tmp_path: Path) -> None:
    rows = featurized(tmp_path, fasta(RECORDS), sequence=False)
    assert "sequence" not in rows.column_names
    assert "invalid" not in rows.column_names
    whole = featurized(tmp_path, fasta(RECORDS)).drop_columns(["sequence", "invalid"])
    assert rows.equals(whole)


# --- rows --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "windows"),
    [
        (1_000, [1_000]),
        (4_999, [4_999]),
        (5_000, [5_000]),
        (9_999, [9_999]),
        (10_000, [5_000, 5_000]),
        (14_999, [5_000, 9_999]),
        (15_000, [5_000, 5_000, 5_000]),
        (27_001, [5_000, 5_000, 5_000, 5_000, 7_001]),
    ],
)
def test_the_remainder_joins_the_last_window(
    tmp_path: Path, length: int, windows: list[int]
) -> None:
    sequence = random_sequence(length)
    rows = featurized(tmp_path, fasta([("a", sequence)]), k=[7])
    assert rows["length"].to_pylist() == windows
    assert "".join(sequences_of(rows)) == sequence
    assert rows["start"].to_pylist() == [sum(windows[:i]) for i in range(len(windows))]
    assert rows["end"].to_pylist() == [sum(windows[: i + 1]) for i in range(len(windows))]


def test_window_0_makes_every_record_a_row(tmp_path: Path) -> None:
    rows = featurized(tmp_path, fasta(RECORDS), window=0)
    expected = reference.cut(RECORDS, window=0).rows
    assert [row.id for row in expected] == ["plain", "gaps", "odd", "shortest", "half"]
    check_rows(rows, expected)


def test_what_is_left_out_is_counted_per_reason(tmp_path: Path) -> None:
    path = write(tmp_path / "a.fna", fasta(RECORDS))
    result = kvae.featurize(path, tmp_path / "out.arrow")
    cut = reference.cut(RECORDS)
    assert (result.files, result.records) == (1, len(RECORDS))
    assert result.rows == len(cut.rows) == len(table(tmp_path / "out.arrow"))
    assert result.bases == sum(len(row.sequence) for row in cut.rows)
    assert (result.too_short, result.without_kmer) == (cut.too_short, cut.without_kmer) == (1, 2)
    assert (result.warnings, result.bad) == ([], [])
    assert result.seconds > 0


@pytest.mark.parametrize("min_length", [0, 999, 1_000, 6_000, 12_345])
def test_min_length(tmp_path: Path, min_length: int) -> None:
    path = write(tmp_path / "a.fna", fasta(RECORDS))
    result = kvae.featurize(path, tmp_path / "out.arrow", min_length=min_length)
    cut = reference.cut(RECORDS, min_length=min_length)
    assert (result.rows, result.too_short) == (len(cut.rows), cut.too_short)
    assert table(tmp_path / "out.arrow")["id"].to_pylist() == [row.id for row in cut.rows]


def test_min_length_0_keeps_whatever_has_a_7_mer(tmp_path: Path) -> None:
    records = [("a", "ACGTACG"), ("b", "ACGTAC"), ("c", "NNACGTACGNN"), ("d", "ACGNTACG")]
    rows = featurized(tmp_path, fasta(records), min_length=0)
    assert rows["id"].to_pylist() == ["a", "c"]
    assert rows["n7"].to_pylist() == [1, 1]


letters = st.text("ACGTacgtU" * 6 + "NRYn-*", max_size=120)


@given(
    sequences=st.lists(letters, min_size=1, max_size=6),
    window=st.integers(0, 40),
    min_length=st.integers(0, 40),
    width=st.integers(1, 90),
    more=st.sets(st.sampled_from([1, 2, 3, 4, 5])),
)
@settings(max_examples=60)
def test_rows_are_those_of_the_definition(
    sequences: list[str], window: int, min_length: int, width: int, more: set[int]
) -> None:
    records = [(f"r{i}", sequence) for i, sequence in enumerate(sequences)]
    cut = reference.cut(records, window, min_length)
    ks = (7, *more)
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "a.fna", fasta(records, width=width))
        output = Path(folder) / "out.arrow"
        options: dict[str, Any] = {"window": window, "min_length": min_length, "k": ks}
        if not cut.rows:
            with pytest.raises(kvae.KvaeError, match="no row is left"):
                kvae.featurize(path, output, **options)
            assert os.listdir(folder) == ["a.fna"]
            return
        result = kvae.featurize(path, output, **options)
        check_rows(table(output), cut.rows, ks)
    left_out = (result.too_short + result.without_kmer, result.records)
    assert left_out == (cut.too_short + cut.without_kmer, len(records))


# --- blocks ------------------------------------------------------------------------


def test_more_blocks_move_nothing(tmp_path: Path) -> None:
    default = featurized(tmp_path, fasta(RECORDS))
    rows = featurized(tmp_path, fasta(RECORDS), k=[7, 6, 5, 4, 3])
    features = matrix(rows["features"])
    assert features.shape == (len(default), 10954)
    np.testing.assert_array_equal(features[:, :8362], matrix(default["features"]))
    check_rows(rows, reference.cut(RECORDS).rows, (7, 6, 5, 4, 3))


def test_4_mers_alone(tmp_path: Path) -> None:
    rows = featurized(tmp_path, fasta(RECORDS), k=[4])
    features = matrix(rows["features"])
    default = matrix(featurized(tmp_path, fasta(RECORDS))["features"])
    assert features.shape == (len(default), 138)
    np.testing.assert_array_equal(
        features, np.hstack([default[:, :1], default[:, 8193:8329], default[:, 8361:]])
    )


@pytest.mark.parametrize("ks", [(1,), (2, 8), (3, 4, 7), (1, 2, 3, 4, 5, 6, 7, 8)])
def test_any_blocks(tmp_path: Path, ks: tuple[int, ...]) -> None:
    records = [("a", random_sequence(3_000, letters="ACGT" * 50 + "N"))]
    check_rows(featurized(tmp_path, fasta(records), k=ks), reference.cut(records).rows, ks)


@pytest.mark.parametrize("ks", [[], [0], [9], [4, 4]])
def test_impossible_blocks(tmp_path: Path, ks: list[int]) -> None:
    path = write(tmp_path / "a.fna", fasta(RECORDS))
    before = listing(tmp_path)
    with pytest.raises(kvae.KvaeError):
        kvae.featurize(path, tmp_path / "out.arrow", k=ks)
    assert listing(tmp_path) == before


# --- counts and packed sequences ---------------------------------------------------


def test_stored_counts(tmp_path: Path) -> None:
    rows = featurized(tmp_path, fasta(RECORDS), store="counts")
    expected = reference.cut(RECORDS).rows
    assert "features" not in rows.column_names
    for k in (7, 4, 3):
        assert rows.schema.field(f"k{k}").type.value_type == pa.uint16()
        counts = [reference.count_all(row.sequence, k) for row in expected]
        assert matrix(rows[f"k{k}"]).tolist() == counts


def test_stored_counts_are_wider_where_rows_may_be_long(tmp_path: Path) -> None:
    record = ("a", "A" * 70_006)
    rows = featurized(tmp_path, fasta([record]), store="counts", window=0, k=[7])
    assert rows.schema.field("k7").type.value_type == pa.uint32()
    assert matrix(rows["k7"])[0, 0] == 70_000
    rows = featurized(tmp_path, fasta([record]), store="counts", window=40_000, k=[7])
    assert matrix(rows["k7"])[:, 0].tolist() == [70_000]


def test_packed(tmp_path: Path) -> None:
    rows = featurized(tmp_path, fasta(RECORDS), store="packed")
    assert not {"features", "k7"} & set(rows.column_names)
    columns = ["id", "source", "start", "end", "length", "gc", "n7", "sequence", "invalid"]
    assert rows.select(columns).equals(featurized(tmp_path, fasta(RECORDS)).select(columns))
    with pytest.raises(kvae.KvaeError, match="packed"):
        featurized(tmp_path, fasta(RECORDS), store="packed", sequence=False)
    with pytest.raises(kvae.KvaeError, match="parquet"):
        featurized(tmp_path, fasta(RECORDS), store="parquet")


# --- the Arrow file ----------------------------------------------------------------


@pytest.fixture(scope="module")
def many_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,300 short rows of three blocks, in batches."""
    folder = tmp_path_factory.mktemp("many")
    source = write(folder / "a.fna", fasta([("a", random_sequence(130_050))]))
    kvae.featurize(source, folder / "many.arrow", window=100, k=[4, 3, 2])
    return folder / "many.arrow"


def test_batches_have_as_many_rows_but_the_last(many_rows: Path) -> None:
    with pa.memory_map(os.fspath(many_rows)) as source:
        reader = pa.ipc.open_file(source)
        rows = [reader.get_batch(i).num_rows for i in range(reader.num_record_batches)]
    assert rows == [512, 512, 276]


def test_files_can_be_mapped_without_a_copy(many_rows: Path, feature_file: Path) -> None:
    before = pa.total_allocated_bytes()
    for path in (many_rows, feature_file):
        with pa.memory_map(os.fspath(path)) as source:
            reader = pa.ipc.open_file(source)
            for i in range(reader.num_record_batches):
                column: Any = reader.get_batch(i).column("features")
                values = column.flatten()
                assert values.buffers()[1].address % 64 == 0
                assert values.to_numpy(zero_copy_only=True).size
    assert pa.total_allocated_bytes() == before


def test_other_readers_see_the_same(many_rows: Path, feature_file: Path) -> None:
    for path in (many_rows, feature_file):
        arrow = table(path)
        features = matrix(arrow["features"])

        frame = pl.read_ipc(path)
        np.testing.assert_array_equal(frame["features"].to_numpy(), features)
        for name in ("id", "start", "end", "length", "gc", "n4", "n3", "sequence", "invalid"):
            assert frame[name].to_list() == arrow[name].to_pylist(), name
        assert frame["source"].cast(pl.String).to_list() == arrow["source"].to_pylist()

        pandas = pd.read_feather(path)
        np.testing.assert_array_equal(np.stack(list(pandas["features"])), features)
        for name in ("id", "source", "start", "end", "length", "gc", "n4", "n3", "sequence"):
            assert pandas[name].tolist() == arrow[name].to_pylist(), name


def test_rows_can_be_read_in_a_stream(feature_file: Path) -> None:
    """Without mapping, and any column by itself."""
    with open(feature_file, "rb") as file:
        assert pa.ipc.open_file(file).read_all().equals(table(feature_file))
    lazy = pl.scan_ipc(feature_file).select("id", "gc").collect()
    assert lazy["gc"].to_list() == table(feature_file)["gc"].to_pylist()
