"""The training loop: epochs of steps, each followed by a validation pass.

The loop knows nothing of files; `kvae.training.run` feeds it and stores what it
returns.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import ReduceLROnPlateau

from kvae.epoch_progress import EpochRecord, TrainProgress
from kvae.errors import KvaeError
from kvae.halves import Halves
from kvae.loading import Batch, BatchLoader
from kvae.resampling import ResampledRows
from kvae.row_sources import Indices, RowSource, describe_row
from kvae.training.batches import shuffled, shuffled_blocks, split_batches
from kvae.training.classes import Classes, GroupedBatches
from kvae.training.compilation import CompiledLoss, wants_compilation
from kvae.training.idle import clear_idle_weights, keep_idle_biases
from kvae.training.metrics import EpochSums
from kvae.training.sharing import share, share_gradients

if TYPE_CHECKING:
    from kvae.config import RunConfig, TrainConfig
    from kvae.model import KmerVAE
    from kvae.model.losses import Elbo
    from kvae.model.one_pass import Watch
    from kvae.training.precision import Precision
    from kvae.training.processes import Processes
    from kvae.training.split import Split

# Validation draws its latent noise from a stream of its own, the same in every
# epoch: differences between epochs are then the model's, and training does not
# depend on how often it is validated.
_VALIDATION_STREAM = 0x7A11
# Share of a run in which the learning rate of a cosine schedule rises.
_RISE = 0.05


class Trainer:
    """Trains a model on one part of a split and validates it on the other.

    Parameters
    ----------
    model
        The model, already on ``device``.
    config
        Loss and training settings.
    source, split
        The rows and which of them train.
    baselines
        Scores of the trivial predictors, see `kvae.training.baselines.scan`.
    device, precision
        Where and in which numbers to compute.
    processes
        Those that train together.
    progress
        Told about every batch.
    classes
        Classes of the rows, where the loss contrasts them.
    grouped
        What draws the batches of an epoch; all rows in a random order where omitted.

    Attributes
    ----------
    optimizer, scheduler, scaler
        AdamW, ReduceLROnPlateau on the validation loss, and the scale of the
        gradients in fp16.
    device, processes
        Where it computes, and who does.
    step
        Optimizer steps done.
    position
        Those of the epoch that is not finished yet.
    """

    def __init__(
        self,
        model: KmerVAE,
        config: RunConfig,
        source: RowSource,
        split: Split,
        baselines: dict[str, dict[str, float]],
        device: torch.device,
        precision: Precision,
        processes: Processes,
        progress: TrainProgress,
        classes: Classes | None = None,
        grouped: GroupedBatches | None = None,
    ) -> None:
        training = config.training
        share(model, processes)
        keep_idle_biases(model)
        self.model = model
        self.optimizer = AdamW(
            parameter_groups(model, training),
            # One kernel for all parameters: twice as fast on the CPU, too.
            fused=device.type in ("cpu", "cuda"),
        )
        self.scheduler = ReduceLROnPlateau(
            self.optimizer,
            factor=training.factor,
            patience=training.patience,
            min_lr=training.min_lr,
        )
        self.scaler = precision.scaler()
        self.device = device
        self.processes = processes
        self.step = self.position = 0
        self._config = config
        self._source = source
        self._split = split
        self._baselines = baselines
        self._progress = progress
        self._classes = classes
        self._grouped = grouped
        self._rows_each = processes.rows_each = 2 if isinstance(source, Halves) else 1
        self._loader = BatchLoader(source, device)
        self._n_parameters = model.n_parameters
        self._precision = precision
        self._compiled: CompiledLoss | None = None
        if wants_compilation(training.compile, device, processes):
            self._compiled = CompiledLoss(self._loss_of, model, progress.message)
        self._guard = _LossGuard(source)
        self._sums: EpochSums | None = None
        self._restored: Mapping[str, Tensor] = {}

    @property
    def lr(self) -> float:
        """Learning rate of the next step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def restore(self, step: int, position: int, sums: Mapping[str, Tensor]) -> None:
        """Go on after a number of steps, and within an epoch after some of its own.

        Parameters
        ----------
        step, position
            Steps done, and those of the next epoch among them.
        sums
            What `sums_so_far` returned there.
        """
        self.step, self.position = step, position
        self._restored = sums

    def sums_so_far(self) -> dict[str, Tensor]:
        """Return the sums behind the metrics of the epoch that is not finished yet.

        Raises
        ------
        KvaeError
            Where the last loss was not finite: nothing of it should be stored.
        """
        self._guard.check()
        return self._sums.state() if self._sums else {}

    def run_epoch(
        self, epoch: int, best: float, boundary: Callable[[], None] = lambda: None
    ) -> EpochRecord:
        """Train for one epoch, or what is left of it, and validate.

        Parameters
        ----------
        epoch
            Counted from 1; decides the order of the rows and the KL weight.
        best
            Lowest validation loss so far.
        boundary
            Called after every step and every batch of the validation, when the
            state is whole and could be stored.

        Raises
        ------
        KvaeError
            Where a loss is not finite.
        """
        beta = self._config.loss.kl_weight(epoch)
        started = time.perf_counter()
        train, n_rows = self._train(epoch, beta, boundary)
        trained = time.perf_counter()
        lr = self.lr
        # At the weight that the divergence will have: epochs are compared by it, and the rate.
        validation = self._validate(epoch, self._config.loss.beta, boundary)
        self.position, self._sums = 0, None
        loss = validation["loss"]
        if self._config.training.schedule == "plateau":
            self.scheduler.step(loss)
        n_train = len(self._split.train)
        return EpochRecord(
            epoch=epoch,
            lr=lr,
            seconds=time.perf_counter() - started,
            rows_per_second=n_rows / (trained - started),
            samples_per_parameter=n_train / self._n_parameters,
            is_best=loss < best,
            train=train | self._baselines["train"],
            validation=validation | self._baselines["validation"],
        )

    def _train(
        self, epoch: int, beta: float, boundary: Callable[[], None]
    ) -> tuple[dict[str, float], int]:
        """Metrics of an epoch, and the rows that were trained on for them just now."""
        self.model.train()
        for part in self._config.training.freeze:
            self.model.get_submodule(part).eval()
        if isinstance(self._source, ResampledRows | Halves):
            self._source.redraw(epoch)
        sums = self._sums = self._new_sums(beta)
        if self.position:
            sums.restore(self._restored, self.device)
        batches = self._epoch_batches(epoch)
        n_rows = 0
        for batch in self._batches(f"epoch {epoch}", batches, self.position):
            self._set_lr(epoch, len(batches))
            elbo, loss = self._step(batch, beta, sums.watch)
            self._guard.watch(loss, f"step {self.step} (epoch {epoch})", batch.rows)
            sums.update(elbo)
            n_rows += len(batch.rows)
            boundary()
        self._guard.check()
        return sums.result(), n_rows

    def _epoch_batches(self, epoch: int) -> list[Indices]:
        """Batches of an epoch, which depend on the seed and the epoch alone."""
        if self._grouped is not None:
            return self._grouped(epoch)
        training = self._config.training
        shuffle = shuffled_blocks if training.shuffle == "blocks" else shuffled
        order = shuffle(self._split.train, training.seed, epoch)
        return split_batches(order, training.batch_size)

    def _validation_batches(self) -> list[Indices]:
        """Batches of the validation, the same in every epoch.

        Where rows are contrasted they are mixed: those of one class follow each other in
        storage, and batches of one class have the least contrast where all latents are alike.
        """
        training, rows = self._config.training, self._split.validation
        if self._config.loss.contrast_weight > 0.0:
            shuffle = shuffled_blocks if training.shuffle == "blocks" else shuffled
            rows = shuffle(rows, training.seed ^ _VALIDATION_STREAM, 0)
        return split_batches(rows, training.batch_size)

    def _set_lr(self, epoch: int, n_batches: int) -> None:
        """Set the rate of the next step, where it follows from how far the run is."""
        training = self._config.training
        if training.schedule != "cosine":
            return
        done = (epoch - 1 + self.position / n_batches) / training.epochs
        share = cosine_share(done)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * share

    def _step(self, batch: Batch, beta: float, watch: Watch) -> tuple[Elbo, Tensor]:
        """Learn from a batch: what this process computed, and the loss of the whole batch."""
        momentum = self._config.model.batch_norm_momentum
        set_batch_norm_momentum(self.model, momentum, self.step)
        # Compiled code is made for one momentum: it has to wait until that is settled.
        settled = self.step + 1 >= 1.0 / momentum
        loss_of = self._compiled if self._compiled and settled else self._loss_of
        noise_BL = self._noise(len(batch.rows))
        with self._precision.autocast():
            elbo = loss_of(batch.x, noise_BL, beta, self._classes_of(batch.rows), watch)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(self.scaler.scale(elbo.loss))
        loss = share_gradients(self.model, elbo.loss, self.processes)
        clear_idle_weights(self.model.encoder, batch.x, self.processes)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        self.position += 1
        return elbo, loss

    def _loss_of(
        self,
        x_BF: Tensor,
        noise_BL: Tensor,
        beta: float,
        classes_B: Tensor | None,
        watch: Watch,
    ) -> Elbo:
        pool = self.processes.add if self.processes.are_several else None
        loss = self._config.loss
        return self.model.elbo(
            x_BF,
            loss,
            beta=beta,
            noise_BL=noise_BL,
            pool=pool,
            classes_B=classes_B,
            watch=watch,
        )

    def _classes_of(self, rows: Indices) -> Tensor | None:
        """Classes of this process's part of a batch."""
        if self._classes is None:
            return None
        ours = self._classes.codes[rows[self.processes.batch_part]]
        return torch.from_numpy(ours).to(self.device).repeat(self._rows_each)

    def _noise(self, n_rows: int, generator: torch.Generator | None = None) -> Tensor:
        """Noise of the latents of this process's part of the batch at hand.

        Drawn out here in float32: the same whatever the precision is and whoever
        compiles the rest.
        """
        shape = n_rows, self._rows_each, self._config.model.n_latent
        noise_BEL = torch.randn(shape, generator=generator, device=self.device)
        ours_BEL = noise_BEL[self.processes.batch_part]
        return ours_BEL.transpose(0, 1).reshape(-1, shape[2])

    @torch.no_grad()
    def _validate(self, epoch: int, beta: float, boundary: Callable[[], None]) -> dict[str, float]:
        self.model.eval()
        if isinstance(self._source, ResampledRows | Halves):
            self._source.restore()
        sums = self._new_sums(beta, at_thresholds=True)
        guard = _LossGuard(self._source)
        generator = torch.Generator(self.device)
        generator.manual_seed(self._config.training.seed ^ _VALIDATION_STREAM)
        for batch in self._batches("validation", self._validation_batches()):
            noise_BL = self._noise(len(batch.rows), generator)
            with self._precision.autocast():
                classes_B = self._classes_of(batch.rows)
                elbo = self._loss_of(batch.x, noise_BL, beta, classes_B, sums.watch)
            loss = self.processes.add(elbo.loss)
            guard.watch(loss, f"the validation of epoch {epoch}", batch.rows)
            sums.update(elbo)
            boundary()
        guard.check()
        return sums.result()

    def _batches(self, label: str, batches: Sequence[Indices], skip: int = 0) -> Iterator[Batch]:
        """Give all batches but the first few, reported as they are done with.

        Their rows are those of all processes, their features those of this one.
        """
        self._progress.begin(label, sum(map(len, batches)))
        if skip:
            self._progress.advance(sum(map(len, batches[:skip])))
        parts = [rows[self.processes.own(rows)] for rows in batches[skip:]]
        # Of a batch a process may have no rows.
        loaded = self._loader([part for part in parts if len(part)])
        nothing_BF = torch.empty(0, self._source.layout.n_fields, device=self.device)
        for rows, part in zip(batches[skip:], parts, strict=True):
            self.processes.begin(rows)
            yield Batch(rows, next(loaded).x if len(part) else nothing_BF)
            self._progress.advance(len(rows))
        # Lets the loader finish: it is one batch behind until it is asked again.
        next(loaded, None)

    def _new_sums(self, beta: float, *, at_thresholds: bool = False) -> EpochSums:
        return EpochSums(
            self._config.loss,
            beta,
            self.model.read_target.n_target,
            self.model.layout.pseudocount,
            self.processes,
            at_thresholds=at_thresholds,
        )


class _LossGuard:
    """Stops a run whose loss is no longer finite.

    A loss is looked at one batch late, when an accelerator has long finished it:
    looking at once would make every step wait for the previous one.
    """

    def __init__(self, source: RowSource) -> None:
        self._source = source
        self._pending: tuple[Tensor, str, Indices] | None = None

    def watch(self, loss: Tensor, where: str, rows: Indices) -> None:
        """Check the previous loss and remember this one."""
        self.check()
        self._pending = (loss.detach(), where, rows)

    def check(self) -> None:
        """Check the remembered loss."""
        if self._pending is None:
            return
        loss, where, rows = self._pending
        self._pending = None
        if not torch.isfinite(loss):
            raise KvaeError(
                f"the loss became {float(loss)} in {where}, on {len(rows)} rows from "
                f"{describe_row(self._source, int(rows[0]))} to row {rows[-1]}; "
                "a lower --lr often helps"
            )


def set_batch_norm_momentum(model: nn.Module, momentum: float, step: int) -> None:
    """Average the running statistics over all steps until the momentum takes over.

    They start at mean 0 and variance 1, which is nowhere near the log-space
    rows: with the momentum alone, a model trained for few steps would validate
    and encode with statistics that are mostly made up.

    Parameters
    ----------
    model
        Its BatchNorm layers are set.
    momentum
        The momentum in the long run.
    step
        Optimizer steps done.
    """
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.momentum = max(momentum, 1.0 / (step + 1))


def parameter_groups(model: KmerVAE, training: TrainConfig) -> list[dict[str, Any]]:
    """Parameters in groups of equal weight decay and learning rate.

    Only the weights of linear layers decay. Biases and BatchNorm need none, and
    the readout of the values must not: it carries the scale of the frequencies,
    and shrinking it pulls every 7-mer towards softplus(0) = 0.69.

    The readout of linear values also learns more slowly. Where frequencies are
    about 1e-4, softplus is an exponential, and one of Adam's steps of equal size
    in every weight can move all logits of a row by more than 1, a factor of e: at
    the full rate values overshoot, sooner or later to 0, where softplus has no
    gradient to bring them back.
    """
    slow: list[nn.Parameter] = []
    if model.config.output_space == "linear":
        slow = list(model.decoder.sparse.value_readout.parameters())
    linear = [m.weight for m in model.modules() if isinstance(m, nn.Linear)]
    taken = {id(parameter) for parameter in slow}
    decayed = [p for p in linear if id(p) not in taken]
    taken |= {id(parameter) for parameter in decayed}
    others = [p for p in model.parameters() if id(p) not in taken]
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": training.weight_decay, "lr": training.lr},
        {"params": others, "weight_decay": 0.0, "lr": training.lr},
        {"params": slow, "weight_decay": 0.0, "lr": training.lr * training.value_lr_factor},
    ]
    # What a schedule that starts from a rate has to start from.
    return [{**group, "initial_lr": group["lr"]} for group in groups if group["params"]]


def cosine_share(done: float) -> float:
    """Share of the learning rate after a share of a run: a short rise, then half a cosine."""
    if done < _RISE:
        return (done + 0.02 * _RISE) / (1.02 * _RISE)
    return 0.5 + 0.5 * math.cos(math.pi * (done - _RISE) / (1.0 - _RISE))
