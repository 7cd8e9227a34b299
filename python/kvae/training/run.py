"""``kvae.train``: from a feature file to a run folder."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from kvae import defaults
from kvae._core import available_threads
from kvae.config import RunConfig, parse_config
from kvae.device import resolve_device, torch_threads
from kvae.divided_rows import DividedRows
from kvae.epoch_progress import TrainProgress
from kvae.errors import KvaeError
from kvae.logs import describe_inputs
from kvae.pretrained import StartingModel
from kvae.remote.uris import RemotePath, as_path
from kvae.row_sources import Features, feature_files, input_files, open_rows
from kvae.run_folder import RunFolder
from kvae.store import FeatureStore
from kvae.training.execution import Execution, TrainResult
from kvae.training.keeping import TrainingInterrupted
from kvae.training.options import configure, continued
from kvae.training.processes import joined, local_device, processes_here

LOGGER = logging.getLogger(__name__)

__all__ = ["TrainResult", "TrainingInterrupted", "train"]


def train(
    features: Features = "feats.arrow",
    output: str | Path = "run",
    *,
    preset: str | None = None,
    config: RunConfig | str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    latent: int | None = None,
    window: int | None = None,
    min_length: int | None = None,
    resample: bool | None = None,
    positives: str | None = None,
    labels: str | Path | None = None,
    init: str | Path | None = None,
    seed: int | None = None,
    precision: str | None = None,
    compile: bool | None = None,
    deterministic: bool | None = None,
    device: str = "auto",
    threads: int | None = None,
    verify: bool = True,
    cache: str | Path | None = None,
    force: bool = False,
    resume: bool = False,
    progress: TrainProgress | None = None,
) -> TrainResult:
    """Train a model on a feature file, or on sequences.

    Processes that torchrun started train one model together; the first of them
    writes and reports.

    Parameters
    ----------
    features
        A feature file; sequence files and folders, which are kept in memory at two
        bits a base while rows are computed from them; an object with rows such as a
        `kvae.FeatureStore`; or an array of rows. Files and folders may be URIs, such as
        ``s3://bucket/shards/``.
    output
        Folder for the run; see `kvae.run_folder` for what it will hold.
    preset
        Design by name, ``kvae`` where neither it nor ``config`` is given.
    config
        Full configuration instead of a preset, or a TOML or JSON file with what
        differs from its preset.
    settings
        Keys of the configuration to values, for example
        ``{"decoder.kind": "lowrank"}``; see `kvae.config.override`.
    window, min_length, resample
        How sequences become rows, see `kvae.config.SequencesConfig`.
    epochs, batch_size, lr, latent, seed, precision, compile, deterministic
        Changes to the preset or configuration; the defaults are those of
        `kvae.config.TrainConfig`.
    positives, labels
        Which rows are alike: those of a ``contig``, a ``source``, or a column of a
        table of labels; see `kvae.config.TrainConfig`.
    init
        A model whose weights to start from, ``pretrained`` or a run or model file; its
        architecture takes the place of the preset's. Where it is ``pretrained`` and there
        are no labels, most of its weights are kept, see `kvae.config.TrainConfig`.
    device
        ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
    threads
        CPU threads, all that are available where omitted. On the CPU the same
        seed and the same number of threads give the same weights.
    verify
        Hold what is read of a feature file against its checksums.
    cache
        Folder for copies of remote feature files; see `kvae.FeatureStore`.
    force
        Replace a run that is already there, once the new one can start.
    resume
        Go on where the run in ``output`` was last stored, with its
        configuration; ``epochs`` may be raised. Where there is no run yet, one
        is started, so the same command can be repeated until it is through.
    progress
        Told what happens; silent where omitted.

    Returns
    -------
    TrainResult

    Raises
    ------
    KvaeError
        For unusable features, an output that may not be written, unknown names,
        contradicting options, a precision that the device lacks, and a loss that is not finite.
    TrainingInterrupted
        On SIGINT (Ctrl-C) and SIGTERM. Every step that was done is in the run
        folder then. A second signal stops at once, and what was done since the
        last checkpoint is lost.
    """
    if resume and force:
        raise KvaeError("give either resume or force: one keeps the run, the other replaces it")
    folder = RunFolder(output)
    named = {
        "training.epochs": epochs,
        "training.batch_size": batch_size,
        "training.lr": lr,
        "training.seed": seed,
        "training.precision": precision,
        "training.compile": compile,
        "training.deterministic": deterministic,
        "model.latent": latent,
        "training.positives": positives,
        # A run is gone on with from anywhere.
        "training.labels": None if labels is None else _whole_path(labels),
        "sequences.window": window,
        "sequences.min_length": min_length,
        "sequences.resample": resample,
    }
    changes = {**(settings or {})}
    changes |= {key: value for key, value in named.items() if value is not None}
    is_cut = window is not None or min_length is not None
    if is_cut and (files := feature_files(features)):
        raise KvaeError(
            f"{files[0]}: holds rows, and a window and a minimum length cut sequences: give"
            " sequence files, or leave --window and --min-length out"
        )
    torch_device = resolve_device(local_device(device))
    with joined(torch_device) as processes, folder.reserved():
        listener = (progress if processes.is_first else None) or TrainProgress()

        was_there = folder.path.exists()

        def decide() -> str:
            folder.reserve()
            if resume and folder.is_run:
                return "resume" + continued(folder, preset, config, changes).model_dump_json()
            if resume:
                listener.message(f"no run to resume in {folder.path}: starting one")
            folder.check_free(force=force)
            started = configure(preset, config, changes)
            if init is not None:
                if started.model != configure(preset, config).model:
                    raise KvaeError(
                        f"{init} brings its own architecture: leave out --latent and settings of "
                        "the model"
                    )
                started = _starting_from(StartingModel(init), started)
            elif started.training.init_share:
                raise KvaeError(
                    "training.init_share is of the weights that a run starts from: name a model "
                    "with --init, or set it to 0"
                )
            return "start." + started.model_dump_json()

        # By one for all: the others may come when it has begun to write.
        decision = processes.first_says(decide)
        run_config = parse_config(RunConfig, decision[6:], str(folder.config))
        n_threads = max(1, available_threads() // processes_here()) if threads is None else threads
        for line in describe_inputs(input_files(features) or ()):
            LOGGER.info("input: %s", line)
        if labels is not None and run_config.training.positives in ("contig", "source"):
            raise KvaeError(
                f"{labels}: a table of labels is read for one of its columns: name it with "
                "--positives"
            )
        LOGGER.info("%s in %s: %s", decision[:6].strip("."), folder.path, decision[6:])
        start = time.perf_counter()
        source = open_rows(
            features,
            k=run_config.model.ks,
            cutting=run_config.sequences,
            seed=run_config.training.seed,
            threads=n_threads,
            verify=verify,
            cache=cache,
            progress=listener,
            part=(processes.rank + 1, processes.size) if processes.are_several else None,
        )
        processes.meet()
        if isinstance(source, FeatureStore) and source.starts is not None:
            processes.starts = source.starts
            own = len(source)
            source = DividedRows(source, processes)
            listener.message(
                f"{own:,} of {len(source):,} rows are read by the first of {processes.size}"
                " processes, which fetch shards of their own"
            )
        LOGGER.info("opened %d rows in %.3f s", len(source), time.perf_counter() - start)
        with torch_threads(n_threads), own_random_state(torch_device):
            execution = Execution(
                folder,
                run_config,
                source,
                torch_device,
                n_threads,
                processes,
                listener,
                None if init is None else StartingModel(init).copy_to,
                input_files(features),
            )
            return execution.execute(resume=decision.startswith("resume"), is_there=was_there)


def _starting_from(model: StartingModel, config: RunConfig) -> RunConfig:
    """Take over a model's architecture, and settle how much of its weights is kept."""
    training = config.training
    is_labelled = training.positives not in ("contig", "source")
    if training.init_share is None and model.is_pretrained and not is_labelled:
        # Contigs without labels say little against all that it was trained with.
        training = training.model_copy(update={"init_share": defaults.INIT_SHARE})
    return config.model_copy(update={"model": model.config, "training": training})


def _whole_path(path: str | Path) -> str:
    name = as_path(path)
    return str(name if isinstance(name, RemotePath) else name.absolute())


@contextmanager
def own_random_state(device: torch.device) -> Iterator[None]:
    """Leave torch's global random numbers to the caller as they were."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield
