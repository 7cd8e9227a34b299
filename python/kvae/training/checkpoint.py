"""Checkpoints: all that a run needs to go on, in one safetensors file.

Weights, optimizer moments, the random number generator and the sums behind an
unfinished epoch's metrics are tensors; position, scheduler and best result are
JSON in the same file's header. One file, written aside and renamed, is either
there as a whole or not at all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from kvae.config import Frozen, parse_config
from kvae.config.base import Positive
from kvae.errors import KvaeError
from kvae.model.files import read_tensors, restore, write_tensors

CHECKPOINT_FORMAT = "kvae-checkpoint-1"
_GLOB = "epoch-*.safetensors"
# What AdamW remembers of every parameter.
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class Best(Frozen):
    """The best epoch so far by validation loss."""

    epoch: int
    loss: float


class PlateauState(Frozen):
    """What ReduceLROnPlateau remembers; there is no ``best`` before the first epoch's end."""

    best: float | None
    num_bad_epochs: int
    last_epoch: int
    cooldown_counter: int


class ScalerState(Frozen):
    """The scale of fp16 gradients, and the steps since it last changed."""

    scale: Positive
    growth_tracker: Annotated[int, Field(ge=0)]


class RunState(Frozen):
    """Everything in a checkpoint that is not a tensor.

    ``epoch`` counts the finished epochs, ``position`` the steps of the one after
    them, and ``step`` all steps. ``data`` identifies the rows the run was trained
    on. There is no ``best`` before the first epoch is finished.
    """

    epoch: Annotated[int, Field(ge=0)]
    position: Annotated[int, Field(ge=0)] = 0
    step: Annotated[int, Field(ge=1)]
    best: Best | None = None
    lrs: tuple[Annotated[float, Field(ge=0.0)], ...]
    plateau: PlateauState
    scaler: ScalerState | None = None
    data: str

    @property
    def file_name(self) -> str:
        """Name of the checkpoint: later ones come later in the alphabet."""
        if self.position:
            return f"epoch-{self.epoch + 1:06d}-step-{self.position:08d}.safetensors"
        return f"epoch-{self.epoch:06d}.safetensors"

    def __str__(self) -> str:
        """How far the run has come, for people."""
        steps = f" and {self.position} step(s) of the next" if self.position else ""
        return f"{self.epoch} finished epoch(s){steps}"


def save_checkpoint(
    folder: Path,
    state: RunState,
    model: nn.Module,
    optimizer: Optimizer,
    sums: Mapping[str, Tensor],
    device: torch.device,
    *,
    write: bool = True,
) -> None:
    """Write a checkpoint and remove the older ones.

    Parameters
    ----------
    folder
        Where checkpoints are kept.
    state, model, optimizer
        What to store.
    sums
        Sums of the unfinished epoch, see `kvae.training.metrics.EpochSums`.
    device
        Whose random numbers to store beside the CPU's.
    write
        Whether to write, or only to see that all is well, which another process
        does that writes the same.

    Raises
    ------
    KvaeError
        Where a weight or moment is not finite, before anything is written.
    """
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= _optimizer_tensors(model, optimizer)
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise KvaeError(
                f"{name} was no longer finite after step {state.step}: "
                "the checkpoint before it is kept; a lower --lr often helps"
            )
    if not write:
        return
    tensors["rng.cpu"] = torch.get_rng_state()
    if device.type == "cuda":
        tensors["rng.cuda"] = torch.cuda.get_rng_state(device)
    tensors |= {f"sums.{name}": value for name, value in sums.items()}
    path = folder / state.file_name
    header = {"format": CHECKPOINT_FORMAT, "state": state.model_dump_json()}
    write_tensors(path, tensors, header)
    for older in folder.glob(_GLOB):
        if older != path:
            older.unlink()


def latest_checkpoint(folder: Path) -> Path | None:
    """Newest checkpoint of a run, or None."""
    return max(folder.glob(_GLOB), default=None)


def load_checkpoint(
    path: Path,
    model: nn.Module,
    optimizer: Optimizer,
    scheduler: ReduceLROnPlateau,
    device: torch.device,
) -> tuple[RunState, dict[str, Tensor]]:
    """Restore a model, its optimizer, its scheduler and torch's random numbers.

    Returns
    -------
    RunState
        The rest of the run's state.
    dict
        Sums of the unfinished epoch.

    Raises
    ------
    KvaeError
        Where the file is damaged or belongs to another model.
    """
    tensors, header = read_tensors(path, CHECKPOINT_FORMAT)
    state = parse_config(RunState, header.get("state", ""), str(path))
    rng = {name: tensors.pop(f"rng.{name}", None) for name in ("cpu", "cuda")}
    moments = _take(tensors, "optimizer.")
    weights = _take(tensors, "model.")
    sums = _take(tensors, "sums.")
    for name, value in sums.items():
        if value.dtype != torch.float64 or not torch.isfinite(value).all():
            raise KvaeError(f"{path}: the sum {name} is not finite in double precision")
    if bool(sums) != (state.position > 0):
        raise KvaeError(f"{path}: the sums do not fit position {state.position}")
    for name in tensors:
        raise KvaeError(f"{path}: unknown tensor {name}")
    # In place: the optimizer knows the parameters as the objects they are.
    restore(model, weights, path, assign=False)
    _restore_optimizer(model, optimizer, moments, path)
    if len(state.lrs) != len(optimizer.param_groups):
        raise KvaeError(f"{path}: learning rates do not fit the model's parameters")
    for group, lr in zip(optimizer.param_groups, state.lrs, strict=True):
        group["lr"] = lr
    plateau = state.plateau.model_dump()
    if state.plateau.best is None:
        plateau["best"] = math.inf
    scheduler.load_state_dict(plateau)
    try:
        if rng["cpu"] is not None:
            torch.set_rng_state(rng["cpu"])
        if rng["cuda"] is not None and device.type == "cuda":
            torch.cuda.set_rng_state(rng["cuda"], device)
    except (RuntimeError, TypeError) as error:
        raise KvaeError(f"{path}: state of the random numbers: {error}") from None
    return state, sums


def scaler_state(scaler: GradScaler) -> ScalerState | None:
    """Read what a scaler remembers, None where it does nothing."""
    if not scaler.is_enabled():
        return None
    known: dict[str, Any] = scaler.state_dict()
    return ScalerState(scale=known["scale"], growth_tracker=known["_growth_tracker"])


def restore_scaler(scaler: GradScaler, state: ScalerState | None) -> None:
    """Put back what `scaler_state` read."""
    if state is not None and scaler.is_enabled():
        known: dict[str, Any] = scaler.state_dict()
        known |= {"scale": state.scale, "_growth_tracker": state.growth_tracker}
        scaler.load_state_dict(known)


def plateau_state(scheduler: ReduceLROnPlateau) -> PlateauState:
    """Read what a scheduler remembers."""
    known: dict[str, Any] = scheduler.state_dict()
    kept = {name: known[name] for name in PlateauState.model_fields}
    return PlateauState(**kept | {"best": None if math.isinf(kept["best"]) else kept["best"]})


def _take(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Remove the tensors with a prefix and return them without it."""
    names = [name for name in tensors if name.startswith(prefix)]
    return {name.removeprefix(prefix): tensors.pop(name) for name in names}


def _optimizer_tensors(model: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """State of every parameter by the parameter's name, not by its position."""
    return {
        f"optimizer.{name}.{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def _restore_optimizer(
    model: nn.Module, optimizer: Optimizer, moments: Mapping[str, Tensor], path: Path
) -> None:
    """Put the state of every parameter back, and check that it fits."""
    unused = dict(moments)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            # Checkpoints of versions that trained it have moments of it.
            for key in _MOMENTS:
                unused.pop(f"{name}.{key}", None)
            continue
        entries = {}
        for key in _MOMENTS:
            value = unused.pop(f"{name}.{key}", None)
            shape = torch.Size([]) if key == "step" else parameter.shape
            if value is None or value.shape != shape or not torch.isfinite(value).all():
                raise KvaeError(f"{path}: the optimizer's {key} of {name} does not fit")
            # Only a fused AdamW keeps the step count beside the parameter.
            fused = key != "step" or optimizer.defaults.get("fused")
            entries[key] = value.to(parameter.device if fused else "cpu")
        optimizer.state[parameter] = entries
    for name in unused:
        raise KvaeError(f"{path}: unknown tensor optimizer.{name}")
