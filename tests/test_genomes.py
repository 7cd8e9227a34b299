"""The features of whole genomes."""

from __future__ import annotations

import gzip
import os
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import kvae
import reference
from feature_tables import (
    read_records,
)


def read_lengths(path: Path) -> tuple[list[tuple[str, int]], dict[str, list[int]]]:
    """Names and lengths of the records, and where letters are no bases."""
    lengths, gaps = [], {}
    for record in gzip.decompress(path.read_bytes()).decode("ascii").split(">")[1:]:
        header, sequence = record.split("\n", 1)
        sequence = sequence.replace("\n", "")
        name = header.split()[0]
        lengths.append((name, len(sequence)))
        gaps[name] = [match.start() for match in re.finditer("[^ACGT]", sequence)]
    return lengths, gaps


def implied_rows(shared_genomes: Path) -> dict[str, list[tuple[str, int, int]]]:
    """The rows of every genome in the manifest: record, start and end."""
    rows = {}
    lines = (shared_genomes / "manifest.tsv").read_text().splitlines()
    header = lines[0].split("\t")
    for line in lines[1:]:
        entry = dict(zip(header, line.split("\t"), strict=False))
        lengths, gaps = read_lengths(shared_genomes / entry["file"])
        assert sum(length for _, length in lengths) == int(entry["total_bp"])
        assert len(lengths) == int(entry["n_contigs"])
        rows[entry["file"]] = [
            (name, start, end)
            for name, length in lengths
            if length >= 1000
            for start, end in reference.windows(length)
            if has_run(gaps[name], start, end)
        ]
    return rows


def has_run(gaps: list[int], start: int, end: int) -> bool:
    """Whether seven bases stand in a row between the gaps of a window."""
    edges = [start - 1, *(gap for gap in gaps if start <= gap < end), end]
    return any(b - a > 7 for a, b in pairwise(edges))


@pytest.mark.timeout(300)
def test_whole_genomes(tmp_path: Path, shared_genomes: Path) -> None:
    output = tmp_path / "feats.arrow"
    result = kvae.featurize(shared_genomes, output)
    try:
        expected = implied_rows(shared_genomes)
        flat = [(file, *row) for file in sorted(expected) for row in expected[file]]
        assert result.rows == len(flat)
        assert result.files == len(expected)
        store = kvae.FeatureStore(output)
        assert len(store) == len(flat)
        sources = [os.path.basename(name) for name in store.source_names]
        columns = [store.column(name).to_pylist() for name in ("id", "start", "end")]
        found = [
            (sources[code], *row) for code, *row in zip(store.source_codes, *columns, strict=True)
        ]
        assert found == flat
        chosen = np.sort(np.random.default_rng(0).choice(len(flat), 200, replace=False))
        features = store.rows(chosen)
        records: tuple[str, dict[str, str]] = ("", {})
        for fields, (file, name, start, end) in zip(
            features, (flat[i] for i in chosen), strict=True
        ):
            if file != records[0]:
                records = (file, dict(read_records(shared_genomes / file)))
            wanted = reference.row(records[1][name][start:end])
            wrong = list(reference.wrong_fields(fields.tolist(), wanted))
            assert wrong == [], f"{file} {name} {start}-{end}"
    finally:
        # Three gigabytes that nobody needs afterwards.
        output.unlink()
