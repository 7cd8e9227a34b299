"""Checkpoints: all that a run needs to go on, in one safetensors file.

Weights, optimizer moments and the random number generator are tensors; epoch,
scheduler and best result are JSON in the same file's header. One file, written
aside and renamed, is either there as a whole or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from kvae.config import Frozen, parse_config
from kvae.errors import KvaeError
from kvae.model.files import read_tensors, restore, write_tensors

CHECKPOINT_FORMAT = "kvae-checkpoint-1"
_GLOB = "epoch-*.safetensors"


class Best(Frozen):
    """The best epoch so far by validation loss."""

    epoch: int
    loss: float


class PlateauState(Frozen):
    """What ReduceLROnPlateau remembers."""

    best: float
    num_bad_epochs: int
    last_epoch: int
    cooldown_counter: int


class RunState(Frozen):
    """Everything in a checkpoint that is not a tensor.

    ``data`` identifies the rows the run was trained on.
    """

    epoch: Annotated[int, Field(ge=1)]
    step: Annotated[int, Field(ge=1)]
    best: Best
    lrs: tuple[Annotated[float, Field(ge=0.0)], ...]
    plateau: PlateauState
    data: str


def save_checkpoint(
    folder: Path,
    state: RunState,
    model: nn.Module,
    optimizer: Optimizer,
    device: torch.device,
) -> Path:
    """Write a checkpoint and remove the older ones.

    Returns
    -------
    Path
        The file written.
    """
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= _optimizer_tensors(model, optimizer)
    tensors["rng.cpu"] = torch.get_rng_state()
    if device.type == "cuda":
        tensors["rng.cuda"] = torch.cuda.get_rng_state(device)
    path = folder / f"epoch-{state.epoch:06d}.safetensors"
    header = {"format": CHECKPOINT_FORMAT, "state": state.model_dump_json()}
    write_tensors(path, tensors, header)
    for older in folder.glob(_GLOB):
        if older != path:
            older.unlink()
    return path


def latest_checkpoint(folder: Path) -> Path | None:
    """Newest checkpoint of a run, or None."""
    return max(folder.glob(_GLOB), default=None)


def load_checkpoint(
    path: Path,
    model: nn.Module,
    optimizer: Optimizer,
    scheduler: ReduceLROnPlateau,
    device: torch.device,
) -> RunState:
    """Restore a model, its optimizer, its scheduler and torch's random numbers.

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
    for name in tensors:
        raise KvaeError(f"{path}: unknown tensor {name}")
    # In place: the optimizer knows the parameters as the objects they are.
    restore(model, weights, path, assign=False)
    _restore_optimizer(model, optimizer, moments, path)
    if len(state.lrs) != len(optimizer.param_groups):
        raise KvaeError(f"{path}: learning rates do not fit the model's parameters")
    for group, lr in zip(optimizer.param_groups, state.lrs, strict=True):
        group["lr"] = lr
    scheduler.load_state_dict(state.plateau.model_dump())
    try:
        if rng["cpu"] is not None:
            torch.set_rng_state(rng["cpu"])
        if rng["cuda"] is not None and device.type == "cuda":
            torch.cuda.set_rng_state(rng["cuda"], device)
    except (RuntimeError, TypeError) as error:
        raise KvaeError(f"{path}: state of the random numbers: {error}") from None
    return state


def plateau_state(scheduler: ReduceLROnPlateau) -> PlateauState:
    """Read what a scheduler remembers."""
    known: dict[str, Any] = scheduler.state_dict()
    return PlateauState(**{name: known[name] for name in PlateauState.model_fields})


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
        entries = {}
        for key in ("step", "exp_avg", "exp_avg_sq"):
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
