"""Layers that see a whole batch, for processes that hold a part of it each."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from kvae.halves import Halves
from kvae.model.profile_encoder import InputNoise
from kvae.row_sources import Indices, RowSource
from kvae.training.processes import Processes


class SharedBatchNorm(nn.BatchNorm1d):
    """BatchNorm with the mean and variance of all processes' rows.

    It has the parameters and buffers of the layer it takes the place of. torch's
    own is for CUDA alone.
    """

    def __init__(self, layer: nn.BatchNorm1d, processes: Processes) -> None:
        super().__init__(layer.num_features, layer.eps, layer.momentum)
        self.weight, self.bias = layer.weight, layer.bias
        self.running_mean, self.running_var = layer.running_mean, layer.running_var
        self.num_batches_tracked = layer.num_batches_tracked
        self._processes = processes

    def forward(self, x_BH: Tensor) -> Tensor:
        """Normalise the rows of this process."""
        if not self.training:
            return super().forward(x_BH)
        n = self._processes.batch_rows * self._processes.rows_each
        x32_BH = x_BH.float()
        # In two passes, as a difference of large squares would lose the variance.
        mean_H = _sum(x32_BH) / n
        centred_BH = x32_BH - mean_H
        var_H = _sum(centred_BH.square()) / n
        with torch.no_grad():
            momentum = cast(float, self.momentum)
            cast(Tensor, self.running_mean).lerp_(mean_H, momentum)
            cast(Tensor, self.running_var).lerp_(var_H * (n / (n - 1)), momentum)
            cast(Tensor, self.num_batches_tracked).add_(1)
        out_BH = centred_BH * (var_H + self.eps).rsqrt() * self.weight + self.bias
        return out_BH.to(x_BH.dtype)


class SharedDropout(nn.Dropout):
    """Dropout that hides in each row what one process would hide there."""

    def __init__(self, layer: nn.Dropout, processes: Processes) -> None:
        super().__init__(layer.p)
        self._processes = processes

    def forward(self, x_BF: Tensor) -> Tensor:
        """Hide inputs of the rows of this process."""
        if not self.training or self.p == 0.0:
            return x_BF
        kept_BF = x_BF.new_empty(_all_rows(x_BF, self._processes)).bernoulli_(1.0 - self.p)
        return x_BF * _own_rows(kept_BF, self._processes).div_(1.0 - self.p)


class SharedNoise(InputNoise):
    """Noise that each row receives as it would in one process."""

    def __init__(self, layer: InputNoise, processes: Processes) -> None:
        super().__init__(layer.std)
        self._processes = processes

    def forward(self, x_BI: Tensor) -> Tensor:
        """Add noise to the rows of this process."""
        if not self.training or self.std == 0.0:
            return x_BI
        noise_BI = torch.randn(_all_rows(x_BI, self._processes), device=x_BI.device)
        return x_BI + self.std * _own_rows(noise_BI, self._processes).to(x_BI.dtype)


def _all_rows(x_BF: Tensor, processes: Processes) -> tuple[int, int]:
    """Shape of a tensor with the rows of all processes."""
    return processes.rows_each * processes.batch_rows, x_BF.shape[1]


def _own_rows(x_BF: Tensor, processes: Processes) -> Tensor:
    """Rows of this process among all, of each of the halves."""
    halves_EBF = x_BF.view(processes.rows_each, processes.batch_rows, -1)
    return halves_EBF[:, processes.batch_part].reshape(-1, x_BF.shape[1])


def share(model: nn.Module, processes: Processes) -> None:
    """Make a model one that several processes train; one process's stays as it is."""
    if not processes.are_several:
        return
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm1d:
                setattr(module, name, SharedBatchNorm(child, processes))
            elif type(child) is nn.Dropout:
                setattr(module, name, SharedDropout(child, processes))
            elif type(child) is InputNoise:
                setattr(module, name, SharedNoise(child, processes))
    # All start from the same seed; this makes sure of it.
    for tensor in model.state_dict().values():
        dist.broadcast(tensor, 0)


def share_gradients(model: nn.Module, loss: Tensor, processes: Processes) -> Tensor:
    """Sum the gradients over the processes, and the loss, which is returned."""
    loss = loss.detach()
    if not processes.are_several:
        return loss
    gradients = {
        name: parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    total = processes.add_all({**gradients, "": loss})
    for name, gradient in gradients.items():
        gradient.copy_(total[name])
    return total[""]


def shared_rows(source: RowSource, rows: Indices, processes: Processes) -> Tensor:
    """Read some rows, in ascending order, which each process has a part of.

    Returns
    -------
    Tensor
        What the source gives for all of them, in every process.
    """
    if processes.starts is None:
        return torch.from_numpy(source.rows(rows))
    ours = processes.own(rows)
    own_NF = torch.from_numpy(source.rows(rows[ours]))
    n_own = len(rows[ours])
    rows_each = 2 if isinstance(source, Halves) else 1
    all_ENF = own_NF.new_zeros(rows_each, len(rows), own_NF.shape[1])
    all_ENF[:, ours] = own_NF.view(rows_each, n_own, own_NF.shape[1])
    return processes.add(all_ENF).flatten(0, 1)


def _sum(x_BH: Tensor) -> Tensor:
    """Sum of all processes' rows, through which gradients flow back to each."""
    return cast(Tensor, _Sum.apply(x_BH.sum(dim=0)))


class _Sum(torch.autograd.Function):
    """Sum over processes.

    Every process's result is made of every process's input, so an input's gradient
    is the sum of what comes back in all of them.
    """

    @staticmethod
    def forward(ctx: Any, x_H: Tensor) -> Tensor:
        total_H = x_H.clone()
        dist.all_reduce(total_H)
        return total_H

    @staticmethod
    def backward(ctx: Any, *gradients_H: Tensor) -> Tensor:
        total_H = gradients_H[0].clone()
        dist.all_reduce(total_H)
        return total_H
