"""``kvae.encode``: from feature rows to latents."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from kvae import defaults
from kvae.atomic import atomic_output, check_output, keep_inputs
from kvae.config import SequencesConfig
from kvae.device import resolve_device, torch_threads
from kvae.errors import KvaeError
from kvae.featurizing import DEFAULT_KS
from kvae.latents import latent_format, latent_schema
from kvae.loading import Batch, BatchLoader
from kvae.model import KmerVAE
from kvae.model.files import check_layout, model_fingerprint, read_model_config
from kvae.pretrained import run_or_pretrained
from kvae.progress import Progress
from kvae.remote.uris import as_path
from kvae.row_sources import Features, RowSource, describe_row, open_rows
from kvae.run_folder import RunFolder

LOGGER = logging.getLogger(__name__)

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
    run: str | Path | KmerVAE,
    features: Features,
    output: None = ...,
    *,
    with_logvar: Literal[False] = ...,
    batch_size: int = ...,
    device: str = ...,
    threads: int | None = ...,
    verify: bool = ...,
    cache: str | Path | None = ...,
    force: bool = ...,
    progress: Progress | None = ...,
) -> Matrix: ...


@overload
def encode(
    run: str | Path | KmerVAE,
    features: Features,
    output: None = ...,
    *,
    with_logvar: Literal[True],
    batch_size: int = ...,
    device: str = ...,
    threads: int | None = ...,
    verify: bool = ...,
    cache: str | Path | None = ...,
    force: bool = ...,
    progress: Progress | None = ...,
) -> tuple[Matrix, Matrix]: ...


@overload
def encode(
    run: str | Path | KmerVAE,
    features: Features,
    output: str | Path,
    *,
    with_logvar: bool = ...,
    batch_size: int = ...,
    device: str = ...,
    threads: int | None = ...,
    verify: bool = ...,
    cache: str | Path | None = ...,
    force: bool = ...,
    progress: Progress | None = ...,
) -> Encoded: ...


def encode(
    run: str | Path | KmerVAE,
    features: Features,
    output: str | Path | None = None,
    *,
    with_logvar: bool = False,
    batch_size: int = defaults.ENCODE_BATCH_SIZE,
    device: str = "auto",
    threads: int | None = None,
    verify: bool = True,
    cache: str | Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Matrix | tuple[Matrix, Matrix] | Encoded:
    """Encode rows with a trained model.

    Parameters
    ----------
    run
        A run folder, a ``model.safetensors``, ``"pretrained"`` for the model that
        comes with the package, or a model.
    features
        A feature file, or its shards; sequence files and folders, which are cut as those of the
        run were, and whose rows are computed without being stored; an object with
        rows such as a `kvae.FeatureStore`; or an array of rows. Files and folders may be
        URIs, such as ``s3://bucket/feats.arrow``.
    output
        File to write, or its URI: ``.arrow``, ``.parquet``, ``.npz``, ``.h5ad``, ``.tsv`` or
        ``.tsv.gz``.
        It holds ``id``, ``source``, ``start``, ``end``, ``length`` and ``latent``
        of every row, in the order of the features. Memory stays bounded.
    with_logvar
        Also the logarithms of the posterior variances.
    batch_size
        Rows encoded at a time.
    device
        ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``. A model that is given stays
        where it is with ``auto``, and is moved otherwise.
    threads
        CPU threads, all that are available where omitted.
    verify
        Hold what is read of a feature file against its checksums.
    cache
        Folder for copies of remote feature files; see `kvae.FeatureStore`.
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
    if output is not None:
        check_output(output, force=force)
        keep_inputs(output, run, features)
    model, source = open_model_and_rows(
        run,
        features,
        device=device,
        threads=threads,
        verify=verify,
        cache=cache,
        progress=progress,
    )
    LOGGER.info(
        "encoding %d rows of %s with a model of %d parameters, layout %s, on %s, %d rows at a time",
        *(len(source), source.path, model.n_parameters, model.layout.fingerprint),
        *(next(model.parameters()).device, batch_size),
    )
    with torch_threads(threads), evaluating(model):
        batches = _posteriors(model, source, batch_size, progress)
        if output is not None:
            name = "model" if isinstance(run, KmerVAE) else Path(run).resolve().name
            return _write(model, source, batches, name, as_path(output), with_logvar, force)
        shape = (len(source), model.config.n_latent)
        mean, log_var = np.empty(shape, np.float32), np.empty(shape, np.float32)
        for rows, mean_BL, log_var_BL in batches:
            mean[rows], log_var[rows] = mean_BL, log_var_BL
    return (mean, log_var) if with_logvar else mean


def open_model_and_rows(
    run: str | Path | KmerVAE,
    features: Features,
    *,
    device: str,
    threads: int | None,
    verify: bool = True,
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> tuple[KmerVAE, RowSource]:
    """Open rows that fit a model, and the model, on the device that computes.

    The parameters are those of `encode`, and so are the errors.
    """
    if isinstance(run, KmerVAE):
        source = open_rows(
            features,
            k=run.layout.ks,
            threads=threads,
            layout=run.layout,
            verify=verify,
            cache=cache,
            progress=progress,
        )
        check_layout(run.layout.fingerprint, source.layout, str(source.path))
        return (run if device == "auto" else run.to(resolve_device(device))), source
    torch_device = resolve_device(device)
    folder = RunFolder(run_or_pretrained(run, cache=cache))
    k, cutting = _kind_of_rows(folder)
    source = open_rows(
        features,
        k=k,
        cutting=cutting,
        threads=threads,
        verify=verify,
        cache=cache,
        progress=progress,
    )
    return folder.load_model(source.layout).to(torch_device), source


@contextmanager
def evaluating(model: KmerVAE) -> Iterator[None]:
    """Let a model compute as it does after training, whatever it did before."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def row_batches(
    model: KmerVAE, source: RowSource, batch_size: int, progress: Progress, label: str
) -> Iterator[Batch]:
    """All rows in order, batch by batch, on the device where a model is."""
    n_rows = len(source)
    progress.begin(label, n_rows)
    starts = range(0, n_rows, batch_size)
    parts = [np.arange(a, min(a + batch_size, n_rows), dtype=np.int64) for a in starts]
    for batch in BatchLoader(source, next(model.parameters()).device)(parts):
        yield batch
        progress.advance(len(batch.rows))


def check_finite(source: RowSource, batch: Batch, *results: torch.Tensor) -> None:
    """Refuse rows that are not finite, or make what is not.

    Raises
    ------
    KvaeError
        Naming the first one.
    """
    finite_B = torch.isfinite(batch.x).all(dim=1)
    for result_BX in results:
        finite_B &= torch.isfinite(result_BX).all(dim=1)
    if not finite_B.all():
        row = int(batch.rows[int(torch.argmin(finite_B.int()))])
        raise KvaeError(f"{describe_row(source, row)}: features or latent not finite")


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
    model: KmerVAE, source: RowSource, batch_size: int, progress: Progress
) -> Iterator[tuple[slice, Matrix, Matrix]]:
    """Means and log variances of all rows, batch by batch, in order."""
    for batch in row_batches(model, source, batch_size, progress, "encoding"):
        latent = model.inference(batch.x)
        check_finite(source, batch, latent.mean, latent.log_var)
        rows = slice(int(batch.rows[0]), int(batch.rows[-1]) + 1)
        yield rows, latent.mean.cpu().numpy(), latent.log_var.cpu().numpy()


def _write(
    model: KmerVAE,
    source: RowSource,
    batches: Iterator[tuple[slice, Matrix, Matrix]],
    run: str,
    output: Path,
    with_logvar: bool,
    force: bool,
) -> Encoded:
    open_writer = latent_format(output)
    keep_inputs(output, source)
    facts = {
        "model": model_fingerprint(model),
        "run": run,
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
