"""What is no feature file, or no whole one, is refused in one line."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

import kvae
from feature_tables import matrix, table
from kvae import FeatureStore, KvaeError
from sequences import fasta, random_sequence, write


def error_of(path: Path) -> str:
    with pytest.raises(KvaeError) as error:
        FeatureStore(path)
    message = str(error.value)
    assert "\n" not in message
    assert str(path) in message
    return message


# --- files that are none -------------------------------------------------------------


def parquet(path: Path) -> None:
    pyarrow.parquet.write_table(pa.table({"a": [1, 2]}), path)


def other_arrow(path: Path) -> None:
    rows = pa.table({"id": ["a"], "features": pa.array([[1.0, 2.0]], pa.list_(pa.float32(), 2))})
    with pa.ipc.new_file(os.fspath(path), rows.schema) as writer:
        writer.write_table(rows)


def arrow_stream(path: Path) -> None:
    rows = pa.table({"a": [1]})
    with pa.ipc.new_stream(os.fspath(path), rows.schema) as writer:
        writer.write_table(rows)


NO_FEATURE_FILES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_bytes(fasta([("a", random_sequence(5_000))])),
    "magic only": lambda path: path.write_bytes(b"ARROW1\0\0"),
    "magic twice": lambda path: path.write_bytes(b"ARROW1\0\0" + bytes(1000) + b"ARROW1"),
    "noise": lambda path: path.write_bytes(random.Random(0).randbytes(10_000)),
    "parquet": parquet,
    "arrow of another tool": other_arrow,
    "arrow stream": arrow_stream,
    "folder": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("kind", NO_FEATURE_FILES)
def test_other_files_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "feats.arrow"
    NO_FEATURE_FILES[kind](path)
    message = error_of(path)
    if kind == "arrow of another tool":
        assert "kvae featurize" in message


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "no such file: make it with kvae featurize" in error_of(tmp_path / "feats.arrow")


# --- files that are damaged ----------------------------------------------------------


def test_truncated_files_are_refused(small_file: Path, tmp_path: Path) -> None:
    content = small_file.read_bytes()
    rng = random.Random(1)
    lengths = {1, 5, 6, 8, 9, 100, 1_000, len(content) - 1, len(content) - 6, len(content) - 10}
    lengths |= {rng.randrange(1, len(content)) for _ in range(200)}
    path = tmp_path / "feats.arrow"
    for length in sorted(lengths):
        path.write_bytes(content[:length])
        error_of(path)


READ_ALL = """
import sys
import numpy as np
from kvae import FeatureStore, KvaeError

for path in sys.argv[1:]:
    try:
        store = FeatureStore(path)
    except KvaeError as error:
        assert path in str(error) and "\\n" not in str(error)
        continue
    try:
        store.rows(np.arange(len(store)))
        store.ids.to_pylist()
        store.source_codes, store.source_names
        for name in store.column_names:
            store.column(name).to_pylist()
    except Exception:
        # What a damaged file says may be wrong, and reading it may fail. It
        # must not take the process with it.
        pass
"""


def test_damaged_files_end_no_process(tmp_path: Path, small_file: Path) -> None:
    """Flips of bytes in all that describes the file: its head, schema and footer."""
    content = small_file.read_bytes()
    paths = []
    for seed in range(300):
        rng = random.Random(seed)
        damaged = bytearray(content)
        for _ in range(rng.choice([1, 2, 5])):
            place = rng.randrange(4_000)
            damaged[place if rng.random() < 0.5 else -place - 1] = rng.randrange(256)
        paths.append(str(write(tmp_path / f"{seed}.arrow", bytes(damaged))))
    result = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", READ_ALL, *paths],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-2000:]


Change = Callable[[dict[str, Any]], object]


def rewritten(small_file: Path, path: Path, change: Change) -> Path:
    """The same rows with other metadata."""
    rows = table(small_file)
    metadata = json.loads(rows.schema.metadata[b"kvae"])
    metadata = change(metadata) or metadata
    text = metadata if isinstance(metadata, str) else json.dumps(metadata)
    rows = rows.replace_schema_metadata({"kvae": text})
    with pa.ipc.new_file(os.fspath(path), rows.schema) as writer:
        writer.write_table(rows)
    return path


def test_a_rewritten_file_is_read(small_file: Path, tmp_path: Path) -> None:
    """Without a change, so that what is refused below is refused for its change."""
    path = rewritten(small_file, tmp_path / "feats.arrow", lambda metadata: None)
    store = FeatureStore(path)
    np.testing.assert_array_equal(
        store.rows(np.arange(len(store))), matrix(table(small_file)["features"])
    )


def test_another_format_is_refused(small_file: Path, tmp_path: Path) -> None:
    path = rewritten(
        small_file, tmp_path / "feats.arrow", lambda metadata: metadata.update(format=999)
    )
    message = error_of(path)
    assert "999" in message
    assert str(json.loads(table(small_file).schema.metadata[b"kvae"])["format"]) in message


def test_another_layout_is_refused_and_both_are_named(small_file: Path, tmp_path: Path) -> None:
    def change(metadata: dict[str, Any]) -> None:
        metadata["layout"]["fingerprint"] = "0123456789abcdef"

    message = error_of(rewritten(small_file, tmp_path / "feats.arrow", change))
    assert "0123456789abcdef" in message
    assert kvae.Layout.from_ks([3]).fingerprint in message


def swap_blocks(metadata: dict[str, Any]) -> None:
    metadata["layout"]["blocks"].reverse()


def widen(metadata: dict[str, Any]) -> None:
    metadata["layout"] = wide_layout(4)


def wide_layout(k: int) -> dict[str, Any]:
    layout = kvae.Layout.from_ks([k])
    blocks = [
        {"name": block.name, "k": block.k, "start": block.start, "stop": block.stop}
        for block in layout.blocks
    ]
    return {"blocks": blocks, "fingerprint": layout.fingerprint, "pseudocount": 1e-6}


WRONG_METADATA: dict[str, Change] = {
    "no JSON": lambda metadata: "{",
    "a list": lambda metadata: "[]",
    "a number": lambda metadata: "1",
    "no format": lambda metadata: metadata.pop("format") and None,
    "no kind": lambda metadata: metadata.pop("store") and None,
    "an unknown kind": lambda metadata: metadata.update(store="parquet"),
    "another kind": lambda metadata: metadata.update(store="counts"),
    "no layout": lambda metadata: metadata.pop("layout") and None,
    "an empty layout": lambda metadata: metadata.update(layout={}),
    "a layout that is text": lambda metadata: metadata.update(layout="7,4,3"),
    "no blocks": lambda metadata: metadata["layout"].update(blocks=[]),
    "odd blocks": lambda metadata: metadata["layout"].update(blocks=[{"k": 7}]),
    "blocks that are numbers": lambda metadata: metadata["layout"].update(blocks=[1, 2]),
    "impossible k": lambda metadata: metadata["layout"]["blocks"][1].update(k=99),
    "negative k": lambda metadata: metadata["layout"]["blocks"][1].update(k=-3),
    "k that is text": lambda metadata: metadata["layout"]["blocks"][1].update(k="3"),
    "another pseudocount": lambda metadata: metadata["layout"].update(pseudocount=1e-3),
    "blocks in another order": swap_blocks,
    "more fields than there are": widen,
}


@pytest.mark.parametrize("wrong", WRONG_METADATA)
def test_wrong_metadata_is_refused(small_file: Path, tmp_path: Path, wrong: str) -> None:
    error_of(rewritten(small_file, tmp_path / "feats.arrow", WRONG_METADATA[wrong]))


@pytest.mark.parametrize(
    "wrong",
    [pa.list_(pa.float64(), 34), pa.list_(pa.float32(), 33), pa.list_(pa.float32())],
    ids=str,
)
def test_features_of_another_type_are_refused(
    small_file: Path, tmp_path: Path, wrong: pa.DataType
) -> None:
    rows = table(small_file)
    width = 33 if str(wrong).endswith("[33]") else 34
    features = pa.array(matrix(rows["features"])[:, :width].tolist(), wrong)
    place = rows.column_names.index("features")
    rows = rows.set_column(place, "features", features)
    path = tmp_path / "feats.arrow"
    with pa.ipc.new_file(os.fspath(path), rows.schema) as writer:
        writer.write_table(rows)
    assert "features" in error_of(path)


def test_a_file_without_rows_is_refused(small_file: Path, tmp_path: Path) -> None:
    rows = table(small_file)
    with pa.ipc.new_file(os.fspath(tmp_path / "feats.arrow"), rows.schema) as writer:
        writer.write_table(rows.slice(0, 0))
    assert "no rows" in error_of(tmp_path / "feats.arrow")


@pytest.mark.parametrize("name", ["id", "source", "start", "end", "length", "gc"])
def test_a_file_without_a_column_is_refused(small_file: Path, tmp_path: Path, name: str) -> None:
    rows = table(small_file).drop_columns([name])
    with pa.ipc.new_file(os.fspath(tmp_path / "feats.arrow"), rows.schema) as writer:
        writer.write_table(rows)
    assert name in error_of(tmp_path / "feats.arrow")
