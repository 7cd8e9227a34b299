"""Time training: from storage to steps, beside the same steps on a batch that is there.

    python benches/bench_train.py GENOMES [--steps 40] [--batch-size 128] [--device auto]

Featurizes the sequences to a store of each kind in a temporary folder, then trains
from each in turn, several times. The ceiling is the same model and step on a batch
that is already on the device; the ratio to it is what the data path costs. The
alternative is how a first script would do it: a torch Dataset and DataLoader over
the rows of the feature file, float32, AdamW as it comes.

Prints a table, and one JSON object with ``--json FILE``.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

import kvae
from kvae.config import TrainConfig
from kvae.device import resolve_device
from kvae.loading import BatchLoader
from kvae.presets import get_preset
from kvae.training.trainer import parameter_groups

STORES = ("log", "counts", "packed")


class Steps:
    """A model, its optimizer, and a training step."""

    def __init__(self, preset: str, layout: kvae.Layout, device: torch.device, *, plain: bool):
        torch.manual_seed(0)
        self._loss = get_preset(preset).loss
        self.model = kvae.KmerVAE.from_preset(preset, layout=layout).to(device).train()
        self.model.initialise()
        config = TrainConfig()
        self.optimizer = (
            torch.optim.AdamW(self.model.parameters(), lr=1e-3)
            if plain
            else torch.optim.AdamW(
                parameter_groups(self.model, config), fused=device.type in ("cpu", "cuda")
            )
        )
        self._device = device

    def __call__(self, x_BF: Tensor) -> None:
        loss = self.model.elbo(x_BF, self._loss).loss
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.optimizer.step()

    def timed(self, batches: Iterator[Tensor]) -> float:
        """Rows per second over some batches; the first two warm up."""
        rows, start = 0, 0.0
        for i, x_BF in enumerate(batches):
            if i == 2:
                self._wait()
                start, rows = time.perf_counter(), 0
            self(x_BF)
            rows += len(x_BF)
        self._wait()
        return rows / (time.perf_counter() - start)

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


class Rows(torch.utils.data.Dataset[Tensor]):
    """Rows of a feature file, one by one."""

    def __init__(self, path: Path) -> None:
        with pa.memory_map(str(path)) as source:
            reader = pa.ipc.open_file(source)
            self._batches = [
                reader.get_batch(i).column("features") for i in range(reader.num_record_batches)
            ]
        self._starts = np.cumsum([0, *map(len, self._batches)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, i: int) -> Tensor:
        batch = int(np.searchsorted(self._starts, i, side="right")) - 1
        row = self._batches[batch][int(i - self._starts[batch])].values.to_numpy()
        return torch.from_numpy(row.copy())


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("genomes", nargs="+", type=Path)
    parser.add_argument("--preset", default="dot")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device = resolve_device(options.device)
    with tempfile.TemporaryDirectory() as folder:
        files = {kind: Path(folder, f"{kind}.arrow") for kind in STORES}
        for kind, path in files.items():
            kvae.featurize(options.genomes, path, store=kind)
        rates = measure(files, options, device)
    ceiling = statistics.median(rates["ceiling"])
    report = {
        "device": str(device),
        "name": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "torch": torch.__version__,
        "preset": options.preset,
        "batch_size": options.batch_size,
        "rows_per_second": {name: statistics.median(values) for name, values in rates.items()},
    }
    print(f"{options.preset}, batches of {options.batch_size}, on {device}")
    print(f"{'':32} {'rows/s':>10} {'of the ceiling':>15}")
    for name, rate in report["rows_per_second"].items():
        print(f"{name:32} {rate:10,.0f} {rate / ceiling:15.2f}")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


def measure(
    files: dict[str, Path], options: argparse.Namespace, device: torch.device
) -> dict[str, list[float]]:
    """Rows per second of everything, in turns."""
    stores = {kind: kvae.FeatureStore(path) for kind, path in files.items()}
    layout = stores["log"].layout
    loaders = {kind: BatchLoader(store, device) for kind, store in stores.items()}
    n = options.steps + 2
    order = np.random.default_rng(0).integers(0, len(stores["log"]), (n, options.batch_size))
    plain = torch.utils.data.DataLoader(
        Rows(files["log"]),
        batch_size=options.batch_size,
        sampler=order.reshape(-1).tolist(),
    )
    fixed = torch.from_numpy(stores["log"].rows(order[0])).to(device)

    def loaded(kind: str) -> Iterator[Tensor]:
        return (batch.x for batch in loaders[kind](list(order)))

    def first_script() -> Iterator[Tensor]:
        return (x_BF.to(device) for x_BF in plain)

    todo: dict[str, tuple[bool, Callable[[], Iterator[Tensor]]]] = {
        "ceiling": (False, lambda: (fixed for _ in range(n))),
        **{f"from {kind}": (False, lambda kind=kind: loaded(kind)) for kind in STORES},
        "a first script, log": (True, first_script),
    }
    rates: dict[str, list[float]] = {name: [] for name in todo}
    for _ in range(options.runs):
        for name, (is_plain, batches) in todo.items():
            steps = Steps(options.preset, layout, device, plain=is_plain)
            rates[name].append(steps.timed(batches()))
    return rates


if __name__ == "__main__":
    main()
