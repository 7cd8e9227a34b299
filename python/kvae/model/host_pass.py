"""The pass of `kvae.model.one_pass` on the host, as one call of the crate for some rows.

What torch does in some fifty operations on a few rows at a time is one loop there, which takes
a third of the time or less. Only for float32 in the host's memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kvae import _core

__all__ = ["HostCriterion", "errors_on_host", "fits_host", "profiles_on_host"]

# What the crate sums, by the names of `kvae.model.one_pass`.
_NAMES = {
    "present": "present",
    "out": "output_error",
    "out_present": "output_error_present",
    "gate_hits": "gate_hits",
    "log_error": "log_error",
    "log_error_nonzero": "log_error_nonzero",
    "nonzero": "nonzero",
    "total valMSE": "value_error_present",
    "total mse7": "value_error",
    "total BCE": "bce",
    "total nats": "nats",
}


class HostCriterion(NamedTuple):
    """Constants of a loss and its metrics.

    Attributes
    ----------
    pseudocount
        What was added to frequencies before their logarithms were taken.
    threshold, threshold_cut
        Frequency above which a k-mer is present, and what an output exceeds then.
    target_floor
        No lower logarithm of a row is wanted.
    floor
        Least logarithm of a frequency that is said.
    nonzero
        Frequency above which a k-mer counts as non-zero.
    cuts
        Further frequencies, each with what an output exceeds where its frequency does.
    """

    pseudocount: float
    threshold: float
    threshold_cut: float
    target_floor: float
    floor: float
    nonzero: float
    cuts: list[tuple[float, float]]


def fits_host(x_BK: Tensor, value_BK: Tensor, gate_BK: Tensor | None) -> bool:
    """Tell whether rows and outputs are float32 in the host's memory, as the crate reads them."""
    outputs = [value_BK] if gate_BK is None else [value_BK, gate_BK]
    return (
        x_BK.stride(-1) == 1
        and all(
            tensor.device.type == "cpu" and tensor.dtype == torch.float32
            for tensor in (x_BK, *outputs)
        )
        and all(output.is_contiguous() for output in outputs)
    )


def errors_on_host(
    x_RK: Tensor,
    value_RK: Tensor,
    gate_RK: Tensor | None,
    value_gradient_RK: Tensor | None,
    gate_gradient_RK: Tensor | None,
    is_linear: bool,
    criterion: HostCriterion,
) -> tuple[dict[str, float], list[float]]:
    """Sum squared errors, cross-entropy and metrics of rows, and fill gradients in.

    Returns
    -------
    dict of str to float
        Sums by the names of `kvae.model.one_pass`.
    list of float
        Agreements at each of the cuts.
    """
    found, hits = _core.errors_of(
        _array(x_RK),
        _array(value_RK),
        None if gate_RK is None else _array(gate_RK),
        None if value_gradient_RK is None else _array(value_gradient_RK),
        None if gate_gradient_RK is None else _array(gate_gradient_RK),
        is_linear,
        criterion,
        torch.get_num_threads(),
    )
    return _named(found), hits


def profiles_on_host(
    x_RK: Tensor,
    value_RK: Tensor,
    gate_RK: Tensor,
    profile_RK: Tensor,
    windows_R1: Tensor,
    gradients: tuple[Tensor, Tensor] | None,
    criterion: HostCriterion,
) -> tuple[dict[str, float], list[float]]:
    """Sum the likelihood and metrics of rows, and fill profiles and gradients in.

    Returns as `errors_on_host` does.
    """
    found, hits = _core.profiles_of(
        _array(x_RK),
        _array(value_RK),
        _array(gate_RK),
        _array(profile_RK),
        _array(windows_R1.reshape(-1)),
        None if gradients is None else (_array(gradients[0]), _array(gradients[1])),
        criterion,
        torch.get_num_threads(),
    )
    return _named(found), hits


def _array(tensor: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.detach().numpy()
    return array


def _named(found: Mapping[str, float]) -> dict[str, float]:
    return {name: found[other] for name, other in _NAMES.items()}
