"""Time training: from storage to steps, beside the same steps on a batch that is there.

    python benches/bench_train.py [GENOMES ...] [--steps 40] [--batch-size 128] [--threads 1]
    python benches/bench_train.py --rows 500000 --batch-size 4096 --precision auto   # with a GPU

Needs the package and torch, nothing else. Cuts the sequences (the genomes that come with the
package where none are given) into windows, repeats them with random mutations until there
are ``--rows`` of them, and featurizes them to a store of each kind in a temporary folder.

Then trains from each in turn, several times. A step is that of `kvae train`, metrics
included. The ceiling is the same model and step on a batch that is already on the device;
the ratio to it is what the data path costs. ``resident`` keeps the packed sequences on the
device and computes rows there, which is the default on CUDA. ``the long way`` is the ceiling
with the loss and the metrics operation by operation, as a first script is: a torch Dataset
and DataLoader over the rows of the log store, float32, AdamW as it comes, without metrics.

Prints a table; ``--json FILE`` writes all of it as one JSON object (``-`` to stdout, where it
takes the place of the table).
"""

from __future__ import annotations

import argparse
import gzip
import json
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

import kvae
from kvae.config import TrainConfig
from kvae.device import resolve_device, torch_threads
from kvae.halves import halves_of
from kvae.loading import BatchLoader, RowSource
from kvae.model.losses import Elbo
from kvae.presets import get_preset
from kvae.training.compilation import CompiledLoss
from kvae.training.idle import clear_idle_weights, keep_idle_biases
from kvae.training.metrics import EpochSums
from kvae.training.precision import resolve_precision
from kvae.training.processes import Processes
from kvae.training.trainer import parameter_groups

STORES = ("log", "counts", "packed")
SCRIPT, LONG, CEILING = "a first script, log", "the long way", "ceiling"
WINDOW = 5_000
# Share of letters that are other ones in a copy of a window.
MUTATED = 0.03
WARM_UP = 2


class Steps:
    """A model, its optimizer, and a training step.

    ``kind`` is that of `kvae train` (``ours``), the same with the loss operation by
    operation (``long``), or a first script's (``script``).
    """

    def __init__(
        self, kind: str, options: argparse.Namespace, layout: kvae.Layout, device: torch.device
    ) -> None:
        torch.manual_seed(0)
        self._kind = kind
        self._loss = get_preset(options.preset).loss
        self.model = kvae.KmerVAE.from_preset(options.preset, layout=layout).to(device).train()
        self.model.initialise()
        config = TrainConfig()
        self._precision = resolve_precision(
            "fp32" if kind == "script" else options.precision, device
        )
        if kind == "script":
            self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)
        else:
            keep_idle_biases(self.model)
            groups = parameter_groups(self.model, config)
            self.optimizer = torch.optim.AdamW(groups, fused=device.type in ("cpu", "cuda"))
        n_target = self.model.read_target.n_target
        self._sums = EpochSums(self._loss, 1.0, n_target, layout.pseudocount)
        self._loss_of: Callable[[Tensor], Elbo] = self._elbo
        if options.compile and kind == "ours":
            told: Callable[[str], None] = lambda line: print(line, file=sys.stderr)  # noqa: E731
            self._loss_of = CompiledLoss(self._elbo, self.model, told)
        self._device = device

    def _elbo(self, x_BF: Tensor) -> Elbo:
        watch = self._sums.watch if self._kind == "ours" else None
        return self.model.elbo(x_BF, self._loss, watch=watch)

    def __call__(self, x_BF: Tensor) -> None:
        with self._precision.autocast():
            elbo = self._loss_of(x_BF)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(elbo.loss)
        if self._kind != "script":
            clear_idle_weights(self.model.encoder, x_BF, Processes())
        self.optimizer.step()
        if self._kind != "script":
            self._sums.update(elbo)

    def timed(self, batches: Iterator[Tensor], rows_each: int) -> dict[str, float]:
        """Rows per second of wall and of CPU time, and peak memory; the first two warm up."""
        on_cuda = self._device.type == "cuda"
        rows, start, cpu = 0, 0.0, 0.0
        with self._precision.products():
            for i, x_BF in enumerate(batches):
                if i == WARM_UP:
                    self._wait()
                    if on_cuda:
                        torch.cuda.reset_peak_memory_stats(self._device)
                    start, cpu, rows = time.perf_counter(), time.process_time(), 0
                self(x_BF)
                rows += len(x_BF) // rows_each
            self._wait()
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        # Of the device; of this process where that is a CPU, and then the most of all so far.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        if on_cuda:
            peak = torch.cuda.max_memory_allocated(self._device)
        return {"wall": rows / wall, "cpu": rows / cpu, "peak_bytes": float(peak)}

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


def windows(genomes: list[Path]) -> list[NDArray[np.uint8]]:
    """Cut all records into windows."""
    found = []
    paths: list[Path] = []
    for given in genomes:
        paths += sorted(given.iterdir()) if given.is_dir() else [given]
    for path in paths:
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rb") as file:
            records = file.read().split(b">")[1:]
        for record in records:
            letters = record.partition(b"\n")[2].replace(b"\n", b"").upper()
            whole = np.frombuffer(letters, dtype=np.uint8)
            found += [whole[i : i + WINDOW] for i in range(0, len(whole) - WINDOW + 1, WINDOW)]
    return found


def make_sequences(genomes: list[Path], n_rows: int, path: Path) -> None:
    """Write so many windows, those after the first round with mutations."""
    rng = np.random.default_rng(0)
    found = windows(genomes)
    if not found:
        sys.exit(f"no sequence of {WINDOW} letters in {', '.join(map(str, genomes))}")
    bases = np.frombuffer(b"ACGT", dtype=np.uint8)
    with path.open("wb") as file:
        for i in range(n_rows):
            letters = found[i % len(found)]
            if i >= len(found):
                letters = letters.copy()
                at = rng.integers(0, len(letters), rng.binomial(len(letters), MUTATED))
                letters[at] = bases[rng.integers(0, 4, len(at))]
            file.write(b">%d\n%s\n" % (i, letters.tobytes()))


def options_of(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("genomes", nargs="*", type=Path)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--preset", default="dot")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, help="all where omitted")
    parser.add_argument("--precision", default="auto", help="auto, fp32, tf32 or bf16")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--only", action="append", help="time this alone; may be repeated")
    parser.add_argument("--epochs", type=int, default=500, help="to estimate the time of")
    parser.add_argument("--json", type=Path)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure, and print a table."""
    options = options_of(arguments)
    device = resolve_device(options.device)
    with tempfile.TemporaryDirectory() as folder, torch_threads(options.threads):
        sequences = Path(folder, "windows.fa")
        if options.genomes:
            make_sequences(options.genomes, options.rows, sequences)
        else:
            with as_file(files("kvae.demo") / "genomes") as genomes:
                make_sequences([genomes], options.rows, sequences)
        stores = {kind: Path(folder, f"{kind}.arrow") for kind in STORES}
        for kind, path in stores.items():
            kvae.featurize(sequences, path, store=kind)
        found = measure(stores, options, device)
        report = described(found, options, device)
        report["packed_bytes"] = kvae.FeatureStore(stores["packed"]).packed.n_bytes
    text = json.dumps(report, indent=1)
    if options.json and str(options.json) != "-":
        options.json.write_text(text + "\n")
    print(text if str(options.json) == "-" else table(report))
    return report


def measure(
    paths: dict[str, Path], options: argparse.Namespace, device: torch.device
) -> dict[str, list[dict[str, float]]]:
    """Speeds of everything, in turns."""
    stores: dict[str, kvae.FeatureStore] = {k: kvae.FeatureStore(p) for k, p in paths.items()}
    layout = stores["log"].layout
    paired = get_preset(options.preset).loss.target == "half"
    rows_each = 2 if paired else 1
    n = options.steps + WARM_UP
    order = np.random.default_rng(0).integers(0, len(stores["log"]), (n, options.batch_size))
    batches = [np.sort(rows) for rows in order]
    sources: dict[str, RowSource] = {
        kind: halves_of(store, 0) if paired else store for kind, store in stores.items()
    }
    loaders = {
        f"from {kind}": BatchLoader(source, device, resident=False)
        for kind, source in sources.items()
    }
    # Halves are cut on the host.
    if not paired:
        loaders["from packed, resident"] = BatchLoader(sources["packed"], device, resident=True)
    plain = torch.utils.data.DataLoader(
        Rows(paths["log"]),
        batch_size=options.batch_size,
        sampler=order.reshape(-1).tolist(),
    )
    fixed = torch.from_numpy(sources["log"].rows(batches[0])).to(device)

    def first_script() -> Iterator[Tensor]:
        # Halves as whole rows twice: as many numbers, though others.
        return (x_BF.repeat(rows_each, 1).to(device) for x_BF in plain)

    def loaded(loader: BatchLoader) -> Callable[[], Iterator[Tensor]]:
        return lambda: (batch.x for batch in loader(batches))

    todo: dict[str, tuple[str, Callable[[], Iterator[Tensor]]]] = {
        CEILING: ("ours", lambda: (fixed for _ in range(n))),
        **{name: ("ours", loaded(loader)) for name, loader in loaders.items()},
        LONG: ("long", lambda: (fixed for _ in range(n))),
        SCRIPT: ("script", first_script),
    }
    wanted = options.only or list(todo)
    if unknown := [name for name in wanted if name not in todo]:
        sys.exit(f"{unknown[0]!r} is not among: {', '.join(todo)}")
    found: dict[str, list[dict[str, float]]] = {name: [] for name in wanted}
    for _ in range(options.runs):
        for name in wanted:
            kind, rows = todo[name]
            found[name].append(Steps(kind, options, layout, device).timed(rows(), rows_each))
    return found


def described(
    found: dict[str, list[dict[str, float]]], options: argparse.Namespace, device: torch.device
) -> dict[str, Any]:
    """All figures; ratios are medians over pairs of the same turn."""
    on_cuda = device.type == "cuda"
    speed = "wall" if on_cuda else "cpu"

    def ratio(name: str, to: str) -> float | None:
        if name not in found or to not in found:
            return None
        pairs = zip(found[name], found[to], strict=True)
        return statistics.median(a[speed] / b[speed] for a, b in pairs)

    figures = {}
    for name, runs in found.items():
        wall = statistics.median(run["wall"] for run in runs)
        figures[name] = {
            "rows_per_second": wall,
            "rows_per_cpu_second": statistics.median(run["cpu"] for run in runs),
            "peak_mb": max(run["peak_bytes"] for run in runs) / 1e6,
            "of_the_ceiling": ratio(name, CEILING),
            "of_a_first_script": ratio(name, SCRIPT),
            f"hours_of_{options.epochs}_epochs": options.epochs * options.rows / wall / 3600,
        }
    precision = resolve_precision(options.precision, device).name
    return {
        "device": str(device),
        "name": torch.cuda.get_device_name(device) if on_cuda else platform.machine(),
        "torch": torch.__version__,
        "kvae": kvae.__version__,
        "threads": torch.get_num_threads() if options.threads is None else options.threads,
        "preset": options.preset,
        "precision": precision,
        "compile": options.compile,
        "batch_size": options.batch_size,
        "rows": options.rows,
        "epochs": options.epochs,
        "ratios_of": f"{speed} time",
        "figures": figures,
    }


def table(report: dict[str, Any]) -> str:
    """The same to read."""
    hours = f"hours_of_{report['epochs']}_epochs"
    head = f"{report['preset']}, batches of {report['batch_size']}, {report['precision']} on "
    lines = [head + f"{report['name']}, {report['threads']} thread(s); by {report['ratios_of']}"]
    titles = ("rows/s", "rows/CPU s", "peak MB", "of ceiling", "of script", "h")
    lines.append(f"{'':24}" + "".join(f"{title:>11}" for title in titles))
    for name, figures in report["figures"].items():
        ratios = [figures["of_the_ceiling"], figures["of_a_first_script"]]
        lines.append(
            f"{name:24}{figures['rows_per_second']:11,.0f}{figures['rows_per_cpu_second']:11,.0f}"
            f"{figures['peak_mb']:11,.0f}"
            + "".join(f"{'' if one is None else format(one, '.2f'):>11}" for one in ratios)
            + f"{figures[hours]:11.2f}"
        )
    return "\n".join([*lines, f"h: {report['epochs']} epochs of {report['rows']:,} rows"])


if __name__ == "__main__":
    main()
