"""The execution of a training run: validate, start or resume, run epochs, keep the files."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kvae.epoch_progress import TrainProgress
from kvae.errors import KvaeError
from kvae.halves import halves_of
from kvae.model import KmerVAE
from kvae.model.profile_encoder import ProfileEncoder
from kvae.pretrained import StartingModel
from kvae.row_sources import RowSource
from kvae.run_folder import RunFolder
from kvae.sampling import balanced_rows
from kvae.training.baselines import scan
from kvae.training.checkpoint import (
    RunState,
    latest_checkpoint,
    load_checkpoint,
    restore_scaler,
)
from kvae.training.classes import (
    Classes,
    GroupedBatches,
    class_means,
    related_classes,
    row_classes,
)
from kvae.training.determinism import deterministic
from kvae.training.keeping import Keeper
from kvae.training.memory import memory_advice, moved_to
from kvae.training.precision import resolve_precision
from kvae.training.processes import Processes
from kvae.training.sharing import shared_rows
from kvae.training.split import Split, split_rows
from kvae.training.tensorboard import Curves
from kvae.training.trainer import Trainer

if TYPE_CHECKING:
    from kvae.config import RunConfig

LOGGER = logging.getLogger(__name__)

# Below this many rows a new model's latents are no better than shares of 4-mers.
FEW_ROWS = 5_000
# Rows that a model learns its inputs from before it is trained.
_SAMPLE_ROWS = 8192


@dataclass(frozen=True)
class TrainResult:
    """What a training run came to.

    Attributes
    ----------
    run
        The run folder.
    epochs
        Epochs done, those before a resumption included.
    best_epoch, best_loss
        Epoch with the lowest validation loss, whose weights are
        ``run/model.safetensors``, and that loss.
    n_parameters
        Parameters plus BatchNorm statistics.
    train_rows, validation_rows
        Size of the split.
    metrics
        The last epoch's line of ``metrics.jsonl``.
    """

    run: Path
    epochs: int
    best_epoch: int
    best_loss: float
    n_parameters: int
    train_rows: int
    validation_rows: int
    metrics: Mapping[str, Any]


class Execution:
    """One run of epochs, new or resumed, and the files it leaves behind.

    Building it validates the rows and the model; nothing is written before
    `execute`.

    Parameters
    ----------
    folder
        Where the run is kept.
    config
        Everything that defines the run.
    source
        The rows.
    device, threads
        Where to compute; the number of threads is recorded only.
    processes
        Those that train together; the first one writes the files.
    progress
        Told what happens.
    init
        Gives a new model the weights of another; it learns them from the rows where
        omitted.
    inputs
        The files that the rows are from, as far as there are any; recorded only.

    Raises
    ------
    KvaeError
        Where the rows cannot be split or lack what the model needs, or the device
        lacks the precision.
    """

    def __init__(
        self,
        folder: RunFolder,
        config: RunConfig,
        source: RowSource,
        device: torch.device,
        threads: int,
        processes: Processes,
        progress: TrainProgress,
        init: Callable[[KmerVAE], None] | None = None,
        inputs: Sequence[Path] = (),
    ) -> None:
        self.init = init
        self.inputs = inputs
        self.folder = folder
        self.config = config
        self.source = source
        if config.loss.target == "half":
            self.source = halves_of(source, config.training.seed)
        self.device = device
        self.threads = threads
        self.processes = processes
        self.progress = progress
        training = config.training
        self.precision = resolve_precision(training.precision, device)
        self.split = split_rows(source, training.validation, training.seed)
        self.classes = None
        if config.loss.target == "half":
            self.classes = row_classes(source, training)
        self.data = _data_fingerprint(source, self.split, self.classes)
        torch.manual_seed(training.seed)
        try:
            model = KmerVAE(config.model, source.layout)
        except KvaeError as error:
            raise KvaeError(f"{source.path}: {error}") from None
        self.model = moved_to(model, device)
        for part in training.freeze:
            self.model.get_submodule(part).requires_grad_(False)

    def execute(self, *, resume: bool, is_there: bool = True) -> TrainResult:
        """Run the epochs that are left and store each.

        Parameters
        ----------
        resume
            Continue from the folder's newest checkpoint, if there is one.
        is_there
            Whether there was a folder when it was decided that the run may start.

        Raises
        ------
        KvaeError
            For rows or losses that are not finite, for a checkpoint that is
            damaged or does not belong to these rows, and for batches that the
            device has no memory for.
        TrainingInterrupted
            On SIGINT and SIGTERM, once a checkpoint is written.
        """
        checkpoint = self._checkpoint() if resume else None
        grouped = self._start_from_rows(is_new=checkpoint is None)
        baselines = self._baselines(resume=resume)
        self._announce()
        trainer = Trainer(
            self.model,
            self.config,
            self.source,
            self.split,
            baselines,
            self.device,
            self.precision,
            self.processes,
            self.progress,
            self.classes,
            grouped,
        )
        state = self._resume(trainer, checkpoint) if checkpoint else None
        if state is not None and state.epoch >= self.config.training.epochs:
            done = f"all {state.epoch} epochs are done"
            self.progress.message(f"{done}: give a higher number to go on")
            return self._result(state)
        if self.processes.is_first:
            self._write_start(state, baselines, is_there=is_there)
        batch_size = self.config.training.batch_size
        with (
            self.precision.products(),
            deterministic(self.config.training.deterministic),
            memory_advice(batch_size, self.model, self.device),
        ):
            state = self._epochs(trainer, state)
        return self._result(state)

    def _start_from_rows(self, *, is_new: bool) -> GroupedBatches | None:
        """Let a new model learn what it starts from; what draws batches, if classes do."""
        if is_new:
            self.model.initialise()
        if is_new and self.init is None and self.config.training.init_share:
            # Stopped before the first checkpoint, and gone on with.
            self.init = StartingModel(self.folder.initial).copy_to
        if is_new and self.init is not None:
            self.init(self.model)
        classes = self.classes
        if classes is None:
            return None
        training, rows = self.config.training, self.split.train
        n_classes = len(np.unique(classes.codes[rows])) if classes.are_grouped else 0
        limit = max(_SAMPLE_ROWS, n_classes)
        chosen = balanced_rows(classes.codes, rows, limit, training.seed)
        self.progress.begin("sampling", len(chosen))
        x_NF = shared_rows(self.source, chosen, self.processes)
        codes_N = torch.from_numpy(classes.codes[chosen]).repeat(2)
        encoder = self.model.encoder
        if is_new and self.init is None and isinstance(encoder, ProfileEncoder):
            encoder.to("cpu").learn(x_NF, codes_N)
            encoder.to(self.device)
        if not classes.are_grouped:
            return None
        means_GI = class_means(x_NF.numpy(), codes_N.numpy(), self.source.layout)
        related = related_classes(means_GI)
        return GroupedBatches(
            rows, classes.codes, related, training.batch_size, training.per_class, training.seed
        )

    def _write_start(
        self, state: RunState | None, baselines: dict[str, dict[str, float]], *, is_there: bool
    ) -> None:
        """Make the folder that of a run that starts, or goes on."""
        if state is None:
            self.folder.start(self.config, is_there=is_there)
            self._write_facts(baselines)
            if self.config.training.init_share:
                self.model.save(self.folder.initial)
        else:
            self.folder.write_config(self.config)
            self.folder.cut_metrics(state.epoch)
        self.folder.remove_leftovers()
        self.folder.write_environment(
            self.device, self.threads, self.precision.name, self.processes.size
        )

    def _epochs(self, trainer: Trainer, state: RunState | None) -> RunState:
        """Run the epochs that are left."""
        done = state.epoch if state else 0
        epochs = self.config.training.epochs
        minutes = self.config.training.checkpoint_minutes
        initial, share = None, self.config.training.init_share or 0.0
        if share and self.processes.is_first:
            initial = KmerVAE.load(self.folder.initial, layout=self.source.layout)
        keeper = Keeper(self.folder, trainer, self.data, minutes, state, initial, share)
        curves = Curves(self.folder.tensorboard, done) if self.processes.is_first else None
        with keeper.listening():
            for epoch in range(done + 1, epochs + 1):
                best = keeper.state.best if keeper.state else None
                lowest = best.loss if best else float("inf")
                record = trainer.run_epoch(epoch, lowest, keeper.boundary)
                if curves:
                    self.folder.append_metrics(record.as_json())
                    curves.add(record)
                LOGGER.info(
                    "epoch %d: training loss %.6g, validation loss %.6g, lr %.3g, %.3f s, "
                    "%.0f rows/s",
                    *(epoch, record.train["loss"], record.validation["loss"], record.lr),
                    *(record.seconds, record.rows_per_second),
                )
                keeper.epoch_done(epoch, record.validation["loss"])
                self.progress.epoch(record, record.line(epochs, self.config.model.n_latent))
        assert keeper.state is not None  # epochs >= 1
        return keeper.state

    def _checkpoint(self) -> Path | None:
        """Newest checkpoint, the same one for all processes."""

        def name() -> str:
            path = latest_checkpoint(self.folder.checkpoints)
            return path.name if path else ""

        found = self.processes.first_says(name)
        # The first epoch's figures may be there before its checkpoint.
        if not found and len(self.folder.read_metrics()) > 1:
            raise KvaeError(
                f"{self.folder.checkpoints}: holds no checkpoint to go on from, although epochs of "
                "this run are finished: give --force to start over"
            )
        return self.folder.checkpoints / found if found else None

    def _resume(self, trainer: Trainer, path: Path) -> RunState:
        """Restore a checkpoint."""
        state, sums = load_checkpoint(
            path, self.model, trainer.optimizer, trainer.scheduler, self.device
        )
        if state.data != self.data:
            table = self.config.training.labels
            labels = f", or with other labels than {table} has" if table else ""
            raise KvaeError(
                f"{self.folder.path} was trained on other rows than {self.source.path} "
                f"holds{labels}"
            )
        if state.best is not None and not self.folder.model.exists():
            raise KvaeError(
                f"{self.folder.model}: is missing, and was the best of {state.epoch} epoch(s): "
                "give --force to start over"
            )
        restore_scaler(trainer.scaler, state.scaler)
        trainer.restore(state.step, state.position, sums)
        self.progress.message(f"resuming after {state}")
        return state

    def _baselines(self, *, resume: bool) -> dict[str, dict[str, float]]:
        """Baselines of the split: stored ones for a resumed run, else from a scan."""
        stored = None
        if resume:
            text = self.processes.first_says(
                lambda: json.dumps(self.folder.read_json("baselines.json"))
            )
            stored = json.loads(text)
        names = ("train", "validation")
        if (
            isinstance(stored, dict)
            and stored.get("data") == self.data
            and all(isinstance(stored.get(name), dict) for name in names)
        ):
            return {name: dict(stored[name]) for name in names}
        parts = (self.split.train, self.split.validation)
        n_rows = sum(len(part[self.processes.own(part)]) for part in parts)
        self.progress.begin("reading", n_rows)
        return scan(
            self.source,
            self.split,
            self.model.read_target,
            self.device,
            self.processes,
            self.progress.advance,
        )

    def _write_facts(self, baselines: dict[str, dict[str, float]]) -> None:
        split = self.split
        self.folder.write_data(
            self.inputs,
            rows=len(self.source),
            sources=len(np.unique(self.source.source_codes)),
            bases=int(self.source.column("length").to_numpy().astype(np.int64).sum()),
        )
        self.folder.write_json("baselines.json", {"data": self.data, **baselines})
        self.folder.write_json(
            "split.json",
            {
                "unit": split.unit,
                "train_rows": len(split.train),
                "validation_rows": len(split.validation),
                "held_out": split.held_out,
            },
        )

    def _announce(self) -> None:
        split = self.split
        LOGGER.info(
            "%s with %d threads, %s, %d process(es); rows %s",
            *(self.device, self.threads, self.precision.name, self.processes.size, self.data),
        )
        held = f"{len(split.held_out)} {split.unit}(s)" if split.held_out else "single rows"
        n_parameters = self.model.n_parameters
        several = f" in each of {self.processes.size} processes"
        self.progress.message(
            f"{len(split.train):,} rows to train, {len(split.validation):,} to validate "
            f"({held} held out); {n_parameters:,} parameters, "
            f"{len(split.train) / n_parameters:.2g} rows per parameter; "
            f"{self.precision.name} on {self.device}{several if self.processes.are_several else ''}"
        )
        if self.classes is not None and self.classes.n_labelled is not None:
            training = self.config.training
            self.progress.message(
                f"{training.labels}: {self.classes.n_labelled:,} of {len(self.source):,} rows have"
                f" a {training.positives}; each other contig is a class of its own"
            )
        if share := self.config.training.init_share:
            self.progress.message(
                f"the models that are written keep {share:.0%} of the weights that this run starts "
                "from (training.init_share)"
            )
        learns_inputs = isinstance(self.model.encoder, ProfileEncoder)
        starts_anew = self.init is None and not share
        if learns_inputs and starts_anew and len(split.train) < FEW_ROWS:
            self.progress.message(
                f"{len(split.train):,} rows are few to learn a latent from: --init pretrained "
                "starts from a model that has seen hundreds of species, and kvae encode "
                "--pretrained needs no training at all"
            )

    def _result(self, state: RunState) -> TrainResult:
        assert state.best is not None  # at least one epoch is finished
        records = self.folder.read_metrics()
        return TrainResult(
            run=self.folder.path,
            epochs=state.epoch,
            best_epoch=state.best.epoch,
            best_loss=state.best.loss,
            n_parameters=self.model.n_parameters,
            train_rows=len(self.split.train),
            validation_rows=len(self.split.validation),
            metrics=records[-1] if records else {},
        )


def _data_fingerprint(source: RowSource, split: Split, classes: Classes | None) -> str:
    """Hash of what a run was trained on: layout, input files, rows of each and their classes."""
    digest = hashlib.sha256(source.layout.fingerprint.encode())
    digest.update("\0".join(source.source_names).encode())
    digest.update(source.source_codes.astype("<i4").tobytes())
    digest.update(split.validation.astype("<i8").tobytes())
    if classes is not None and classes.are_grouped:
        digest.update(classes.codes.astype("<i8").tobytes())
    return digest.hexdigest()[:16]
