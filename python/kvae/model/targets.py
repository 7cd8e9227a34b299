"""Reconstruction targets: what the decoder of a row should say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from kvae.model.layers import find_block

if TYPE_CHECKING:
    from kvae.config import ModelConfig
    from kvae.layout import Layout


@dataclass(frozen=True)
class Target:
    """What the decoder of a row should say.

    Attributes
    ----------
    log_frequency
        Log frequencies of the 7-mers, shape (rows, 8192); as stored, but not
        below the model's ``log_floor``.
    frequency
        The same as frequencies: exp(log) minus the pseudocount, at least 0.
    present
        Where the frequency exceeds the presence threshold (bool).
    value
        The target of the values: frequencies or log frequencies.
    dense
        Log frequencies of the other blocks by name.
    gc
        Log GC fraction, shape (rows, 1).
    n_windows
        7-mers of each row, as many as its length has places for, shape (rows, 1).
    threshold
        The frequency above which a 7-mer is present.
    """

    log_frequency: Tensor
    frequency: Tensor
    present: Tensor
    value: Tensor
    dense: dict[str, Tensor]
    gc: Tensor
    n_windows: Tensor
    threshold: float


class TargetReader:
    """Reads the target out of feature rows; knows the layout and the threshold."""

    def __init__(self, config: ModelConfig, layout: Layout) -> None:
        self.sparse = find_block(layout, config.decoder.sparse.block).slice
        self._dense = {name: find_block(layout, name).slice for name in config.decoder.dense_blocks}
        self._gc = find_block(layout, "gc").slice
        self._length = find_block(layout, "length").slice
        self.k = find_block(layout, config.decoder.sparse.block).k or 1
        self.pseudocount = layout.pseudocount
        self.threshold = config.presence_threshold
        self.is_linear = config.output_space != "log"
        self.floor = config.log_floor
        parts = (self.sparse, *self._dense.values(), self._gc)
        self.n_target = sum(part.stop - part.start for part in parts)

    def __call__(self, x_BF: Tensor) -> Target:
        """Target of feature rows of shape (rows, fields)."""
        x_BF = x_BF.float()
        frequency_BK = x_BF[:, self.sparse].exp().sub_(self.pseudocount).clamp_(min=0.0)
        if self.floor is not None:
            x_BF = x_BF.clamp(min=self.floor)
        log_BK = x_BF[:, self.sparse]
        return Target(
            log_frequency=log_BK,
            frequency=frequency_BK,
            present=frequency_BK > self.threshold,
            value=frequency_BK if self.is_linear else log_BK,
            dense={name: x_BF[:, part] for name, part in self._dense.items()},
            gc=x_BF[:, self._gc],
            n_windows=self.n_windows(x_BF),
            threshold=self.threshold,
        )

    def n_windows(self, x_BF: Tensor) -> Tensor:
        """7-mers of each row, as many as its length has places for, shape (rows, 1)."""
        return (x_BF[:, self._length].float().exp() - (self.k - 1)).clamp(min=1.0)

    def narrow(self, x_BF: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Targets of the other blocks by name, and of GC."""
        if self.floor is not None:
            x_BF = x_BF.clamp(min=self.floor)
        dense = {name: x_BF[:, part].float() for name, part in self._dense.items()}
        return dense, x_BF[:, self._gc].float()
