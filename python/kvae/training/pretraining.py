"""``kvae.pretrain``: an autoencoder of the 7-mers alone, for a `pretrained` readout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from kvae import defaults
from kvae.atomic import check_output, keep_inputs
from kvae.config import AutoencoderConfig, TrainConfig, override
from kvae.device import resolve_device, torch_threads
from kvae.errors import KvaeError
from kvae.loading import BatchLoader
from kvae.model.autoencoder import KmerAutoencoder, save_autoencoder
from kvae.progress import Progress
from kvae.row_sources import Indices, RowSource, describe_row, open_rows
from kvae.training.batches import shuffled, split_batches
from kvae.training.idle import clear_constant, keep_idle_biases, varying
from kvae.training.run import own_random_state
from kvae.training.split import Split, split_rows
from kvae.training.trainer import set_batch_norm_momentum


@dataclass(frozen=True)
class PretrainResult:
    """What `pretrain` wrote.

    Attributes
    ----------
    output
        The file.
    best_epoch, best_mse
        Epoch whose weights it holds, and their squared error on the validation
        rows, a mean over all log frequencies.
    constant_mse
        The same error of the training rows' mean profile.
    """

    output: Path
    best_epoch: int
    best_mse: float
    constant_mse: float


def pretrain(
    features: str | Path | RowSource = "feats.arrow",
    output: str | Path = "kmers.safetensors",
    *,
    code: int = 128,
    epochs: int = defaults.EPOCHS,
    batch_size: int = defaults.BATCH_SIZE,
    lr: float = defaults.LR,
    seed: int = defaults.SEED,
    device: str = "auto",
    threads: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> PretrainResult:
    """Train an autoencoder of 7-mers, whose decoder a model can take over frozen.

    The loss is the squared error of log frequencies. The split is that of
    `kvae.train` with the same seed, so rows held out here are held out there.

    Parameters
    ----------
    features
        Feature file, or an object with rows such as a `kvae.FeatureStore`.
    output
        File to write, named as ``decoder.sparse.readout.weights`` later on.
    code
        Numbers that the 7-mers of a row become.
    epochs, batch_size, lr, seed
        As in `kvae.config.TrainConfig`.
    device, threads
        Where to compute, as for `kvae.train`.
    force
        Replace an existing file.
    progress
        Told what happens; silent where omitted.

    Raises
    ------
    KvaeError
        For unusable features or numbers, and an output that may not be written.
        Nothing is written then.
    """
    target = check_output(output, force=force)
    keep_inputs(output, features)
    settings = override(
        TrainConfig(),
        {"epochs": epochs, "batch_size": batch_size, "lr": lr, "seed": seed},
        "pretraining",
    )
    config = override(AutoencoderConfig(), {"code": code}, "pretraining")
    progress = progress or Progress()
    torch_device = resolve_device(device)
    source = open_rows(features)
    keep_inputs(output, source)
    split = split_rows(source, settings.validation, settings.seed)
    with torch_threads(threads), own_random_state(torch_device):
        torch.manual_seed(settings.seed)
        model = KmerAutoencoder(config, source.layout).to(torch_device)
        loop = _Loop(model, settings, source, split, torch_device, progress)
        constant = loop.constant_mse()
        best_epoch, best_mse = 0, float("inf")
        weights: Mapping[str, Tensor] = {}
        for epoch in range(1, settings.epochs + 1):
            train_mse, mse = loop.run_epoch(epoch)
            better = mse < best_mse
            if better:
                best_epoch, best_mse = epoch, mse
                weights = {name: t.detach().clone() for name, t in model.state_dict().items()}
            progress.message(
                f"epoch {epoch}/{settings.epochs} mse {train_mse:.4f} (val {mse:.4f}, "
                f"constant {constant:.4f})" + (" *" if better else "")
            )
    save_autoencoder(
        dict(weights), model, target, {"epoch": best_epoch, "validation_mse": best_mse}
    )
    return PretrainResult(Path(output), best_epoch, best_mse, constant)


class _Loop:
    """Passes over the rows."""

    def __init__(
        self,
        model: KmerAutoencoder,
        settings: TrainConfig,
        source: RowSource,
        split: Split,
        device: torch.device,
        progress: Progress,
    ) -> None:
        self._model = model
        self._settings = settings
        self._source = source
        self._split = split
        self._progress = progress
        self._loader = BatchLoader(source, device)
        keep_idle_biases(model)
        self._optimizer = AdamW(model.parameters(), lr=settings.lr, weight_decay=0.0)
        self._step = 0

    def run_epoch(self, epoch: int) -> tuple[float, float]:
        """Train and validate: mean squared errors of both parts."""
        self._model.train()
        order = shuffled(self._split.train, self._settings.seed, epoch)
        train = self._pass(f"epoch {epoch}", order, learn=True)
        self._model.eval()
        return train, self._pass("validation", self._split.validation, learn=False)

    def _pass(self, label: str, rows: Indices, *, learn: bool) -> float:
        total = torch.zeros((), dtype=torch.float64)
        self._progress.begin(label, len(rows))
        for batch in self._loader(split_batches(rows, self._settings.batch_size)):
            log_BK = batch.x[:, self._model.fields]
            with torch.set_grad_enabled(learn):
                if learn:
                    set_batch_norm_momentum(
                        self._model, self._model.config.batch_norm_momentum, self._step
                    )
                loss = (self._model(log_BK) - log_BK).square().mean()
            if not torch.isfinite(loss):
                raise KvaeError(
                    f"the error became {float(loss.detach())} ({label}): a lower --lr often helps"
                )
            if learn:
                self._optimizer.zero_grad(set_to_none=True)
                torch.autograd.backward(loss)
                first = cast(nn.Linear, self._model.encode[0])
                clear_constant(first, varying(log_BK))
                self._optimizer.step()
                self._step += 1
            total += loss.detach().cpu().double() * len(batch.rows)
            self._progress.advance(len(batch.rows))
        return float(total) / len(rows)

    def constant_mse(self) -> float:
        """Error of the training rows' mean profile on the validation rows.

        Reads every row once, and finds those that are not finite.
        """
        sums = []
        for rows in (self._split.train, self._split.validation):
            self._progress.begin("reading", len(rows))
            total = torch.zeros(2, self._model.expand.out_features, dtype=torch.float64)
            for batch in self._loader(split_batches(rows, self._settings.batch_size)):
                log_BK = batch.x[:, self._model.fields].cpu().double()
                finite_B = torch.isfinite(log_BK).all(dim=1)
                if not finite_B.all():
                    row = int(batch.rows[int(torch.argmin(finite_B.int()))])
                    raise KvaeError(f"{describe_row(self._source, row)}: features are not finite")
                total += torch.stack([log_BK.sum(0), log_BK.square().sum(0)])
                self._progress.advance(len(batch.rows))
            sums.append(total / len(rows))
        (mean_K, _), (validation_K, square_K) = sums
        return float((square_K - 2.0 * mean_K * validation_K + mean_K.square()).mean())
