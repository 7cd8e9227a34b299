"""A step's loss, compiled where that pays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from kvae.errors import KvaeError
from kvae.model.losses import Elbo
from kvae.training.processes import Processes

LossOf = Callable[..., Elbo]


class CompiledLoss:
    """A function from a batch to its loss that compiles itself, or says why not.

    What is compiled is a function that uses the model, not the model: the names
    of its parameters stay what they are.

    Parameters
    ----------
    loss_of
        The function.
    model
        What it computes with, put back as it was when a trial fails.
    tell
        Receives one line where the function stays as it was.
    backend
        Compiler, as for `torch.compile`.
    """

    def __init__(
        self,
        loss_of: LossOf,
        model: nn.Module,
        tell: Callable[[str], None],
        backend: str = "inductor",
    ) -> None:
        self._plain = self._active = loss_of
        self._model = model
        self._tell = tell
        # As a whole or not at all: half of a function that fails later would have
        # moved the running statistics already.
        self._compiled: LossOf = torch.compile(loss_of, fullgraph=True, backend=backend)
        self._tried = False

    def __call__(self, *args: Any) -> Elbo:
        """Loss of a batch."""
        if not self._tried:
            self._tried = True
            self._try(*args)
        return self._active(*args)

    def _try(self, *args: Any) -> None:
        """Run the function and its gradient once, as if it had not been."""
        buffers = {name: buffer.clone() for name, buffer in self._model.named_buffers()}
        device = next(self._model.parameters()).device
        try:
            # A run that is resumed makes another trial, and is to draw what it would have drawn.
            with torch.random.fork_rng([device] if device.type == "cuda" else []):
                torch.autograd.backward(self._compiled(*args).loss)
        except (KvaeError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - told in a warning
            # The compiler can fail in every way that a compiler, a linker and
            # Python can; none of them is a reason not to train.
            cause = getattr(error, "inner_exception", error)
            reason = (str(cause).strip() or "no reason given").splitlines()[0]
            self._tell(f"not compiled ({type(cause).__name__}: {reason}): slower, but the same")
        else:
            self._active = self._compiled
        with torch.no_grad():
            for name, buffer in self._model.named_buffers():
                buffer.copy_(buffers[name])
        for parameter in self._model.parameters():
            parameter.grad = None


def wants_compilation(wanted: bool | None, device: torch.device, processes: Processes) -> bool:
    """Whether to compile: as asked for, else on CUDA alone.

    On a CPU, where a step is mostly products of large matrices, compiling takes
    longer than it saves.

    Raises
    ------
    KvaeError
        Where several processes, which exchange sums within a step, are to compile.
    """
    if wanted and processes.are_several:
        raise KvaeError("several processes do not compile their steps: leave out --compile")
    if wanted is None:
        return device.type == "cuda" and not processes.are_several
    return wanted
