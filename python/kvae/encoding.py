"""``kvae.encode``: from feature rows to latents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from kvae import defaults
from kvae.atomic import atomic_output
from kvae.config import SequencesConfig
from kvae.device import resolve_device, torch_threads
from kvae.errors import KvaeError
from kvae.featurizing import DEFAULT_KS
from kvae.latents import latent_format, latent_schema
from kvae.loading import BatchLoader, Features, RowSource, describe_row, open_rows
from kvae.model import KmerVAE
from kvae.model.files import model_fingerprint, read_model_config
from kvae.pretrained import run_or_pretrained
from kvae.progress import Progress
from kvae.run_folder import RunFolder

Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class Encoded:
    """What `encode` wrote.

    Attributes
    ----------
    output
        The file.
    rows, latent
        Its size: rows and latent units.
    """

    output: Path
    rows: int
    latent: int


@overload
def encode(
    run: str | Path,
    features: Features,
    output: None = ...,
    *,
    with_logvar: Literal[False] = ...,
    batch_size: int = ...,
    device: str = ...,
    threads: int | None = ...,
    force: bool = ...,
    progress: Progress | None = ...,
) -> Matrix: ...


@overload
def encode(
    run: str | Path,
    features: Features,
    output: None = ...,
    *,
    with_logvar: Literal[True],
    batch_size: int = ...,
    device: str = ...,
    threads: int | None = ...,
    force: bool = ...,
    progress: Progress | None = ...,
) -> tuple[Matrix, Matrix]: ...


@overload
def encode(
    run: str | Path,
    features: Features,
    output: str | Path,
    *,
    with_logvar: bool = ...,
    batch_size: int = ...,
    device: str = ...,
    threads: int | None = ...,
    force: bool = ...,
    progress: Progress | None = ...,
) -> Encoded: ...


def encode(
    run: str | Path,
    features: Features,
    output: str | Path | None = None,
    *,
    with_logvar: bool = False,
    batch_size: int = defaults.ENCODE_BATCH_SIZE,
    device: str = "auto",
    threads: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Matrix | tuple[Matrix, Matrix] | Encoded:
    """Encode rows with a trained model.

    Parameters
    ----------
    run
        A run folder, a ``model.safetensors``, or ``"pretrained"`` for the model that
        comes with the package.
    features
        A feature file; sequence files and folders, which are cut as those of the
        run were, and whose rows are computed without being stored; or an object
        with rows such as a `kvae.FeatureStore`.
    output
        File to write: ``.arrow``, ``.parquet``, ``.npz``, ``.tsv`` or ``.tsv.gz``.
        It holds ``id``, ``source``, ``start``, ``end``, ``length`` and ``latent``
        of every row, in the order of the features. Memory stays bounded.
    with_logvar
        Also the logarithms of the posterior variances.
    batch_size
        Rows encoded at a time.
    device
        ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
    threads
        CPU threads, all that are available where omitted.
    force
        Replace an existing output.
    progress
        Told about every batch.

    Returns
    -------
    ndarray, tuple of ndarray, or Encoded
        Without ``output`` the posterior means, float32 of shape (rows, latent
        units), with ``with_logvar`` also the log variances; with ``output`` what
        was written.

    Raises
    ------
    KvaeError
        For a folder that is no run, a damaged model, features of another layout
        or with values that are not finite, and an output that may not be written.
    """
    progress = progress or Progress()
    if batch_size < 1:
        raise KvaeError(f"batch size must be at least 1, got {batch_size}")
    torch_device = resolve_device(device)
    folder = RunFolder(run_or_pretrained(run))
    k, cutting = _kind_of_rows(folder)
    source = open_rows(features, k=k, cutting=cutting, threads=threads)
    model = folder.load_model(source.layout).to(torch_device)
    with torch_threads(threads):
        batches = _posteriors(model, source, batch_size, torch_device, progress)
        if output is not None:
            return _write(model, source, batches, Path(run), Path(output), with_logvar, force)
        shape = (len(source), model.config.n_latent)
        mean, log_var = np.empty(shape, np.float32), np.empty(shape, np.float32)
        for rows, mean_BL, log_var_BL in batches:
            mean[rows], log_var[rows] = mean_BL, log_var_BL
    return (mean, log_var) if with_logvar else mean


def _kind_of_rows(folder: RunFolder) -> tuple[Sequence[int], SequencesConfig]:
    """Return the k-mers of a model's rows, and how sequences were cut to train it."""
    if folder.path.is_file():
        return read_model_config(folder.path).ks, SequencesConfig()
    if not folder.is_run:
        # There is nothing to encode with: loading the model will say so.
        return DEFAULT_KS, SequencesConfig()
    config = folder.read_config()
    return config.model.ks, config.sequences.model_copy(update={"resample": False})


@torch.inference_mode()
def _posteriors(
    model: KmerVAE,
    source: RowSource,
    batch_size: int,
    device: torch.device,
    progress: Progress,
) -> Iterator[tuple[slice, Matrix, Matrix]]:
    """Means and log variances of all rows, batch by batch, in order."""
    n_rows = len(source)
    starts = range(0, n_rows, batch_size)
    progress.begin("encoding", n_rows)
    parts = [np.arange(a, min(a + batch_size, n_rows), dtype=np.int64) for a in starts]
    for batch in BatchLoader(source, device)(parts):
        latent = model.inference(batch.x)
        finite_B = (torch.isfinite(latent.mean) & torch.isfinite(latent.log_var)).all(dim=1)
        finite_B &= torch.isfinite(batch.x).all(dim=1)
        if not finite_B.all():
            row = int(batch.rows[int(torch.argmin(finite_B.int()))])
            raise KvaeError(f"{describe_row(source, row)}: features or latent not finite")
        rows = slice(int(batch.rows[0]), int(batch.rows[-1]) + 1)
        yield rows, latent.mean.cpu().numpy(), latent.log_var.cpu().numpy()
        progress.advance(len(batch.rows))


def _write(
    model: KmerVAE,
    source: RowSource,
    batches: Iterator[tuple[slice, Matrix, Matrix]],
    run: Path,
    output: Path,
    with_logvar: bool,
    force: bool,
) -> Encoded:
    open_writer = latent_format(output)
    if output.exists() and Path(source.path).exists() and output.samefile(source.path):
        raise KvaeError(f"{output} is the input: give another -o")
    facts = {
        "model": model_fingerprint(model),
        "run": run.resolve().name,
        "layout": source.layout.fingerprint,
    }
    n_latent = model.config.n_latent
    schema = latent_schema(n_latent, facts, with_logvar=with_logvar)
    names = pa.array(source.source_names, pa.string())
    columns = {name: source.column(name) for name in ("id", "start", "end", "length")}
    with atomic_output(output, force=force) as temporary:  # noqa: SIM117 - written, then moved
        with open_writer(Path(temporary), schema) as writer:
            for rows, mean_BL, log_var_BL in batches:
                codes = pa.array(source.source_codes[rows], pa.int32())
                arrays = {
                    name: column.slice(rows.start, rows.stop - rows.start).combine_chunks()
                    for name, column in columns.items()
                }
                arrays["source"] = pa.DictionaryArray.from_arrays(codes, names)
                arrays["latent"] = _vectors(mean_BL, schema.field("latent").type)
                if with_logvar:
                    arrays["logvar"] = _vectors(log_var_BL, schema.field("logvar").type)
                writer.write(
                    pa.record_batch([arrays[field.name] for field in schema], schema=schema)
                )
    return Encoded(output, len(source), n_latent)


def _vectors(matrix_BL: Matrix, type_: Any) -> Any:
    values = pa.array(np.ascontiguousarray(matrix_BL).reshape(-1), pa.float32())
    return pa.FixedSizeListArray.from_arrays(values, type=type_)
