"""Three rows, outputs and latents small enough to score with loops."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import torch

from kvae.model.decoder import Decoded
from kvae.model.posterior import Latent
from kvae.model.targets import TargetReader
from small import PSEUDOCOUNT, make_layout, small_model

Space = Literal["linear", "log"]

# Frequencies of five 7-mers in three rows; the threshold of the tests is 2e-4.
FREQUENCY = [
    [0.0, 1e-4, 2e-4, 3e-4, 0.5],
    [0.0, 0.0, 0.0, 0.0, 1.0],
    [0.2, 0.2, 0.2, 0.2, 0.2],
]
PRESENT = [
    [False, False, False, True, True],
    [False, False, False, False, True],
    [True, True, True, True, True],
]


TINY = make_layout(5, 3, 2)


def hand_made_rows() -> torch.Tensor:
    sparse = torch.tensor(FREQUENCY, dtype=torch.float64)
    rest = torch.tensor([[0.2, 0.3, 0.5, 0.4, 0.6, 0.41]] * 3, dtype=torch.float64)
    length = torch.full((3, 1), math.log(5000.0), dtype=torch.float64)
    return torch.cat([length, (torch.cat([sparse, rest], 1) + PSEUDOCOUNT).log()], 1).float()


def hand_made_output(space: Space, gated: bool = True) -> Decoded:
    generator = torch.Generator().manual_seed(5)
    value_BK = torch.rand(3, 5, generator=generator) * 0.4
    if space == "log":
        value_BK = -5.0 - value_BK
    gate_BK = torch.randn(3, 5, generator=generator) if gated else None
    dense = {
        "4-mers": torch.randn(3, 3, generator=generator) - 2.0,
        "3-mers": torch.randn(3, 2, generator=generator) - 1.0,
    }
    gc_B1 = torch.tensor([[-0.5], [-0.9], [-1.1]])
    return Decoded(value_BK, gate_BK, dense, gc_B1, space, math.log(PSEUDOCOUNT))


def hand_made_latent() -> Latent:
    generator = torch.Generator().manual_seed(6)
    mean = torch.randn(3, 4, generator=generator)
    # The second unit is the prior itself, so it carries nothing.
    mean[:, 1] = 0.0
    log_var = torch.randn(3, 4, generator=generator) * 0.5
    log_var[:, 1] = 0.0
    return Latent(mean, log_var)


def reader(space: Space = "linear", threshold: float = 2e-4) -> TargetReader:
    config = small_model(output_space=space, presence_threshold=threshold)
    return TargetReader(config, TINY)


def sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


def cells(rows: int = 3, kmers: int = 5) -> list[tuple[int, int]]:
    return [(b, k) for b in range(rows) for k in range(kmers)]


def mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers)


def output_of(out: Decoded, space: Space, b: int, k: int) -> float:
    """Output of a cell, the gate applied, in the output space."""
    value = out.value[b, k].item()
    if out.gate_logit is None:
        return value
    gate = sigmoid(out.gate_logit[b, k].item())
    return gate * value + (1.0 - gate) * (0.0 if space == "linear" else math.log(PSEUDOCOUNT))


def loop_parts(x: torch.Tensor, out: Decoded, space: Space) -> dict[str, float]:
    """Group errors by the definitions, in double precision."""
    target = x.double()
    frequency = [[max(math.exp(v) - PSEUDOCOUNT, 0.0) for v in row[1:6]] for row in target]
    wanted = frequency if space == "linear" else target[:, 1:6].tolist()
    present = [c for c in cells() if PRESENT[c[0]][c[1]]]
    parts = {}
    if out.gate_logit is None:
        parts["mse7"] = mean((out.value[b, k].item() - wanted[b][k]) ** 2 for b, k in cells())
    else:
        chance = {c: sigmoid(out.gate_logit[c].item()) for c in cells()}
        parts["BCE"] = mean(
            -math.log(chance[c] if PRESENT[c[0]][c[1]] else 1.0 - chance[c]) for c in cells()
        )
    parts["valMSE"] = mean((out.value[b, k].item() - wanted[b][k]) ** 2 for b, k in present)
    for name, start, size in (("4-mers", 6, 3), ("3-mers", 9, 2)):
        parts[f"mse{name[0]}"] = mean(
            (out.dense[name][b, k].item() - target[b, start + k].item()) ** 2
            for b, k in cells(3, size)
        )
    parts["mse_gc"] = mean((out.gc[b, 0].item() - target[b, 11].item()) ** 2 for b in range(3))
    return parts
