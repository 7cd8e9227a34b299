"""``kvae.export``: what an input is, and what is made of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from kvae.atomic import check_output, keep_inputs
from kvae.errors import KvaeError, refused
from kvae.latents.schema import LATENT_FORMAT
from kvae.progress import Progress
from kvae.remote.uris import as_path
from kvae.sequences import is_feature_file

if TYPE_CHECKING:
    from kvae.model import KmerVAE
    from kvae.row_sources import Features

__all__ = ["Exported", "export"]

WHATS = ("log", "counts", "frequencies")
# A file of features is always .arrow, so these are latents.
_LATENT_SUFFIXES = (".parquet", ".npz", ".tsv", ".tsv.gz", ".h5ad")


@dataclass(frozen=True)
class Exported:
    """What `export` wrote.

    Attributes
    ----------
    output
        The file.
    content
        ``log``, ``counts``, ``frequencies``, ``latents``, ``composition`` or ``encoder``.
    rows, columns
        Size of the matrix: rows or records, and k-mers or units. Of an encoder, the
        fields of a row and its latent units.
    """

    output: Path
    content: str
    rows: int
    columns: int


def export(
    source: Features | KmerVAE,
    output: str | Path,
    *,
    what: str = "log",
    k: Sequence[int] | None = None,
    vamb: bool = False,
    threads: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Exported:
    """Write features, latents or an encoder for other programs.

    Parameters
    ----------
    source
        Features: a feature file, sequence files and folders, or a `kvae.FeatureStore`.
        Latents: a file of `kvae.encode`. For ``.onnx`` a model: a run folder, a
        ``.safetensors`` file, ``pretrained`` or a `kvae.KmerVAE`.
    output
        File to write, ``.parquet``, ``.arrow``, ``.tsv``, ``.tsv.gz``, ``.npz`` or
        ``.h5ad``, or ``.onnx`` for an encoder. Rows keep their order, and every row
        its id, source, start, end and length.
    what
        Of features: ``log``, natural logarithms of frequencies + 1e-6; ``counts``,
        unsigned integers; or ``frequencies``, counts over their sum in the row. A
        column per k-mer, named by it.
    k
        The k-mers to write; all that the features have where omitted.
    vamb
        Write what VAMB reads instead, ``.npz``: of features a composition, of latents
        the matrix of its latents. It has one row per record, not per window: counts of
        a record's windows are added up, latents averaged by length.
    threads
        CPU threads, all that are available where omitted.
    force
        Replace an existing output.
    progress
        Told about every batch.

    Returns
    -------
    Exported

    Raises
    ------
    KvaeError
        For an input that is missing, damaged or of another kind, an unknown format, an
        optional package that is missing, and an output that may not be written.
    """
    output = as_path(output)
    progress = progress or Progress()
    if what not in WHATS:
        raise KvaeError(f"unknown content {what!r}: use {', '.join(WHATS)}")
    check_output(output, force=force)
    keep_inputs(output, source)
    if output.name.lower().endswith(".onnx"):
        from kvae.exporting.onnx import export_encoder

        return Exported(output, "encoder", *export_encoder(source, output, force=force))
    if vamb and output.suffix.lower() != ".npz":
        raise KvaeError(f"{output}: VAMB reads .npz files: give a name that ends so")
    latents = _latent_file(source)
    if latents is not None:
        from kvae.exporting.latents import export_latents

        if k is not None or what != "log":
            raise KvaeError(f"{latents}: holds latents, which have no k-mers: leave out k and what")
        return Exported(output, "latents", *export_latents(latents, output, vamb=vamb, force=force))
    from kvae.exporting.features import export_features, open_features

    store = open_features(source, k=(4,) if vamb else k, threads=threads)
    keep_inputs(output, store)
    if vamb:
        from kvae.exporting.vamb import export_composition

        size = export_composition(store, output, force=force, progress=progress)
        return Exported(output, "composition", *size)
    size = export_features(store, output, what=what, k=k, force=force, progress=progress)
    return Exported(output, what, *size)


def _latent_file(source: object) -> Path | None:
    """Return the path of a source that is a file of latents, None where it is none."""
    if isinstance(source, Sequence) and not isinstance(source, str) and len(source) == 1:
        source = source[0]
    if not isinstance(source, str | Path) or not Path(source).is_file():
        return None
    path = Path(source)
    if path.name.lower().endswith(_LATENT_SUFFIXES):
        return path
    if not is_feature_file(path):
        return None
    try:
        with pa.memory_map(str(path)) as file:
            text = (pa.ipc.open_file(file).schema.metadata or {}).get(b"kvae", b"{}")
        content = json.loads(text)
    except (pa.ArrowException, OSError, ValueError, SystemError) as error:
        if reason := refused(error):
            raise KvaeError(f"{path}: {reason}") from error
        # What is wrong is said by whoever opens it as features.
        return None
    is_latents = isinstance(content, dict) and content.get("format") == LATENT_FORMAT
    return path if is_latents else None
