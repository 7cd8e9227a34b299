"""``kvae.describe``: statistics of k-mers and rows, in one pass over a feature file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from kvae.atomic import atomic_output, check_outputs
from kvae.description.moments import Moments
from kvae.description.tables import table_format, write_table
from kvae.errors import KvaeError
from kvae.progress import Progress
from kvae.remote.uris import RemotePath, as_path
from kvae.store import FeatureStore

__all__ = ["Description", "describe"]

Array = NDArray[Any]

# Rows at a time: their float64 copies stay below 40 MB each.
_BATCH = 512
# An absent k-mer is ln(pseudocount), to the last places of float32. One that is
# present lies above this even where it occurs once among 10^11 windows.
_ABSENT_MARGIN = 4e-6
_QUANTILES = {
    "min": 0.0,
    "5%": 0.05,
    "25%": 0.25,
    "median": 0.5,
    "75%": 0.75,
    "95%": 0.95,
    "max": 1.0,
}
_PICTURES = ("kmers.png", "kmers.svg")


@dataclass(frozen=True)
class Description:
    """What `describe` found.

    Attributes
    ----------
    features
        The feature file.
    k
        Of the k-mers described.
    kmers
        Per k-mer, by column: ``kmer``, ``gc`` (share of G and C among its letters),
        ``total_variance`` of its log-space field, ``presence_rate`` (share of rows
        it occurs in), ``variance_when_present`` and ``mean_when_present`` of the
        field in those rows (NaN where there are none), ``presence_share`` (part of
        the total variance that vanishes once presence is known), and
        ``mean_frequency``.
    rows
        Per row: ``length``, ``gc``, ``present_kmers`` and ``valid_windows`` (share of
        the row's windows without a letter other than A, C, G and T).
    sources, bases
        Input files and letters of all rows.
    other_letters
        Share of letters other than A, C, G and T, None where the file keeps no
        sequences.
    """

    features: Path
    k: int
    kmers: Mapping[str, Array]
    rows: Mapping[str, Array]
    sources: int
    bases: int
    other_letters: float | None

    def quantiles(self) -> dict[str, dict[str, float]]:
        """Distribution of every figure of `rows` and `kmers`, without the k-mers' own GC."""
        found = {f"row_{name}": values for name, values in self.rows.items()}
        found |= {k: v for k, v in self.kmers.items() if k not in ("kmer", "gc")}
        return {name: _quantiles(values) for name, values in found.items()}

    def summary(self) -> dict[str, Any]:
        """Everything but the tables, as it stands in ``summary.json``."""
        rate = self.kmers["presence_rate"]
        return {
            "features": str(self.features),
            "rows": len(self.rows["length"]),
            "sources": self.sources,
            "bases": self.bases,
            "other_letters": self.other_letters,
            "k": self.k,
            "kmers": len(rate),
            "kmers_never_present": int((rate == 0).sum()),
            "kmers_always_present": int((rate == 1).sum()),
            "quantiles": self.quantiles(),
        }

    def as_json(self) -> str:
        """Write the summary as JSON, which knows no NaN: null stands for it."""
        return json.dumps(_without_nan(self.summary()), indent=2, ensure_ascii=False)


def describe(
    features: str | Path | Sequence[str | Path] = "feats.arrow",
    output: str | Path | None = None,
    *,
    k: int | None = None,
    table: str = "kmers.tsv",
    verify: bool = True,
    cache: str | Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Description:
    """Describe the k-mer space of a feature file.

    Computed in float64 from the log-space rows of any kind of store, in one pass
    and in memory that grows with the rows by a few numbers each.

    Parameters
    ----------
    features
        A file that `kvae.featurize` wrote, or the folder of its shards, or their files.
        Each may be a URI.
    output
        Folder to write to, or its URI: ``summary.json``, the table of k-mers, ``kmers.png`` and
        ``kmers.svg``. Nothing is written where omitted.
    k
        Of the k-mers to describe, the file's largest where omitted.
    table
        Name of the table in the folder; its suffix is the format: ``.tsv``,
        ``.parquet`` or ``.arrow``.
    verify
        Hold what is read of a feature file against its checksums.
    cache
        Folder for copies of remote feature files; see `kvae.FeatureStore`.
    force
        Replace existing files.
    progress
        Told about every batch.

    Raises
    ------
    KvaeError
        If the file is no feature file, has no such k-mers or values that are not
        finite, or if the output cannot be written.
    """
    folder = None if output is None else as_path(output)
    if folder is not None:
        _check_outputs(folder, table, force=force)
    store = FeatureStore(features, verify=verify, cache=cache, progress=progress)
    if k is None:
        k = max(store.layout.ks)
    elif k not in store.layout.ks:
        known = ", ".join(map(str, store.layout.ks))
        raise KvaeError(f"{store.path}: has no {k}-mers; its k are {known}")
    described = _describe(store, k, progress or Progress())
    if folder is not None:
        _write(described, folder, table, force=force)
    return described


def _describe(store: FeatureStore, k: int, progress: Progress) -> Description:
    block = store.layout.block(f"{k}-mers")
    floor = math.log(store.layout.pseudocount)
    every, when_present = Moments(block.size), Moments(block.size)
    frequency = np.zeros(block.size)
    n_present = np.empty(len(store), dtype=np.int64)
    progress.begin("reading", len(store))
    for start in range(0, len(store), _BATCH):
        rows = np.arange(start, min(start + _BATCH, len(store)), dtype=np.int64)
        values = store.rows(rows)[:, block.slice].astype(np.float64)
        _check_finite(store, start, values)
        present = values > floor + _ABSENT_MARGIN
        every.add(values)
        when_present.add(values, present)
        frequency += (np.exp(values) - store.layout.pseudocount).sum(axis=0, where=present)
        n_present[rows] = present.sum(axis=1)
        progress.advance(len(rows))
    length = store.column("length").to_numpy()
    names = store.layout.kmers(k)
    with np.errstate(invalid="ignore"):
        within = when_present.variance * when_present.n / len(store)
        known = np.where(every.variance > 0, 1.0 - np.nan_to_num(within) / every.variance, 0.0)
    return Description(
        features=store.path,
        k=k,
        kmers={
            "kmer": np.array(names),
            "gc": np.array([(name.count("G") + name.count("C")) / k for name in names]),
            "total_variance": every.variance,
            "presence_rate": when_present.n / len(store),
            "variance_when_present": when_present.variance,
            "mean_when_present": np.where(when_present.n > 0, when_present.mean, np.nan),
            "presence_share": known,
            "mean_frequency": frequency / len(store),
        },
        rows={
            "length": length,
            "gc": store.column("gc").to_numpy(),
            "present_kmers": n_present,
            "valid_windows": store.column(f"n{k}").to_numpy() / np.maximum(length - (k - 1.0), 1.0),
        },
        sources=len(np.unique(store.source_codes)),
        bases=int(length.sum()),
        other_letters=_other_letters(store, int(length.sum())),
    )


def _check_finite(store: FeatureStore, start: int, values: Array) -> None:
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        row = start + int(finite.argmin())
        raise KvaeError(
            f"{store.path}: row {row} (record {store.ids[row]}): features are not finite"
        )


def _other_letters(store: FeatureStore, bases: int) -> float | None:
    """Share of letters that are no bases, from the runs that the file lists."""
    if "invalid" not in store.column_names:
        return None
    runs = pc.list_flatten(store.column("invalid"))
    return float((pc.sum(pc.struct_field(runs, "length")).as_py() or 0) / bases)


def _quantiles(values: Array) -> dict[str, float]:
    known = values[~np.isnan(values)].astype(np.float64)
    if not len(known):
        return dict.fromkeys((*_QUANTILES, "mean"), math.nan)
    found = np.quantile(known, list(_QUANTILES.values()))
    return dict(zip(_QUANTILES, found.tolist(), strict=True)) | {"mean": float(known.mean())}


def _check_outputs(folder: Path, table: str, *, force: bool) -> None:
    """Refuse outputs that cannot be written before anything is read."""
    if Path(table).name != table:
        raise KvaeError(f"{table}: name the table alone, the folder is {folder}")
    table_format(table)
    check_outputs(folder, ("summary.json", table, *_PICTURES), force=force)


def _write(described: Description, folder: Path, table: str, *, force: bool) -> None:
    from kvae.description.picture import draw

    if not isinstance(folder, RemotePath):
        folder.mkdir(exist_ok=True)
    with atomic_output(folder / table, force=force) as temporary:
        write_table(described.kmers, temporary, table)
    with atomic_output(folder / "summary.json", force=force) as temporary:
        temporary.write_text(described.as_json() + "\n", encoding="utf-8", newline="\n")
    for name in _PICTURES:
        with atomic_output(folder / name, force=force) as temporary:
            draw(temporary, name.rpartition(".")[2], described)


def _without_nan(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _without_nan(value) for key, value in tree.items()}
    return None if isinstance(tree, float) and math.isnan(tree) else tree
