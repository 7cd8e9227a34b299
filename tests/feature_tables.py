"""Feature files as tables, and what should be in them."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import kvae
import reference
from sequences import fasta, random_sequence, write

RECORDS = [
    ("plain", random_sequence(12_345, 1)),
    ("gaps", random_sequence(11_000, 2, "ACGT" * 30 + "N")),
    ("odd", random_sequence(6_000, 3, "ACGT" * 30 + "RYSWKMBDHV-*")),
    ("short", random_sequence(999, 4)),
    ("shortest", random_sequence(1_000, 5)),
    ("empty-handed", "N" * 2_000),
    ("half", random_sequence(5_000, 6) + "N" * 5_000 + random_sequence(5_000, 7)),
]

GOOD = fasta(RECORDS)
TRUNCATED = gzip.compress(GOOD)[:-2000]


def table(path: Path) -> Any:
    with pa.memory_map(os.fspath(path)) as source:
        return pa.ipc.open_file(source).read_all()


def matrix(column: Any) -> NDArray[Any]:
    values = column.combine_chunks()
    flat: NDArray[Any] = values.flatten().to_numpy()
    return flat.reshape(len(values), -1)


def metadata(path: Path) -> dict[str, Any]:
    described: dict[str, Any] = json.loads(table(path).schema.metadata[b"kvae"])
    return described


def featurized(folder: Path, content: bytes, **kw: Any) -> Any:
    """The rows of a file with this content."""
    kvae.featurize(write(folder / "input.fna", content), folder / "out.arrow", force=True, **kw)
    return table(folder / "out.arrow")


def sequences_of(rows: Any) -> list[str]:
    parts = zip(
        rows["sequence"].to_pylist(),
        rows["invalid"].to_pylist(),
        rows["length"].to_pylist(),
        strict=True,
    )
    return [
        reference.unpack(packed, [(run["start"], run["length"]) for run in runs], length)
        for packed, runs, length in parts
    ]


def check_rows(rows: Any, expected: list[reference.Row], ks: tuple[int, ...] = (7, 4, 3)) -> None:
    """Compare every column but the source with the definitions."""
    assert rows["id"].to_pylist() == [row.id for row in expected]
    assert rows["start"].to_pylist() == [row.start for row in expected]
    assert rows["end"].to_pylist() == [row.end for row in expected]
    assert rows["length"].to_pylist() == [len(row.sequence) for row in expected]
    gc = [np.float32(reference.gc(row.sequence)) for row in expected]
    assert rows["gc"].to_pylist() == gc
    for k in ks:
        windows = [reference.valid_windows(row.sequence, k) for row in expected]
        assert rows[f"n{k}"].to_pylist() == windows
    fields = matrix(rows["features"])
    for i, row in enumerate(expected):
        wrong = list(reference.wrong_fields(fields[i].tolist(), reference.row(row.sequence, ks)))
        assert wrong == [], f"row {i}"
    if "sequence" in rows.column_names:
        assert rows["sequence"].to_pylist() == [reference.pack(row.sequence) for row in expected]
        runs = [
            [(run["start"], run["length"]) for run in runs] for runs in rows["invalid"].to_pylist()
        ]
        assert runs == [reference.invalid(row.sequence) for row in expected]


def read_records(path: Path) -> list[tuple[str, str]]:
    return reference.parse_fasta(gzip.decompress(path.read_bytes()).decode())
