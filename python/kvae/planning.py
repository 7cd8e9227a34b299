"""``kvae.plan``: what featurizing, training and encoding of some inputs will take."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvae import _core
from kvae.errors import KvaeError
from kvae.featurizing import DEFAULT_KS, DEFAULT_MIN_LENGTH, DEFAULT_WINDOW, Paths
from kvae.layout import Layout
from kvae.progress import Progress
from kvae.remote import Request
from kvae.remote.uris import as_path, names_uris

if TYPE_CHECKING:
    from kvae.row_sources import RowSource

__all__ = ["Plan", "plan"]

# Bytes of the inputs that are featurized to learn the rates, and seconds at most.
_SAMPLE_BYTES = 24_000_000
_SAMPLE_FILES = 200
_SAMPLE_SECONDS = 4.0
# Rows that are trained on and encoded to learn theirs.
_SAMPLE_ROWS = 384
# Bytes of a row besides fields and sequence: its columns and name.
_ROW_BYTES = 110
# Weights, gradients and Adam's two moments, float32.
_PARAMETER_BYTES = 16
# Share of the memory that a batch is planned with.
_PLANNED = 0.8
_LARGEST_BATCH = 65_536


@dataclass(frozen=True)
class Plan:
    """What some inputs will take.

    Attributes
    ----------
    files, input_bytes
        The inputs.
    rows, bases
        That will be made of them; counted where ``is_exact``, else extrapolated from
        the sample.
    is_exact
        Whether all inputs were read.
    stores
        Bytes of a feature file of each kind.
    sequences_bytes
        Memory of all sequences, where they are trained on without a feature file.
    device, threads
        That the rates are those of.
    featurize_seconds, epoch_seconds, encode_seconds
        For all rows, at the measured rates; None where nothing was measured.
    parameters
        Of the model.
    memory_bytes
        That the device has left.
    batch_size
        Rows of a step of training that should fit into it.
    measured
        The rates, and what they were measured on.
    """

    files: int
    input_bytes: int
    rows: int
    bases: int
    is_exact: bool
    stores: Mapping[str, int]
    sequences_bytes: int
    device: str
    threads: int
    featurize_seconds: float | None
    epoch_seconds: float | None
    encode_seconds: float | None
    parameters: int
    memory_bytes: int
    batch_size: int
    measured: Mapping[str, float | int]

    def as_json(self) -> str:
        """Write it as JSON."""
        return json.dumps(asdict(self), indent=1)


class _EnoughError(Exception):
    """Ends the reading of a sample that has taken long enough."""


@dataclass(frozen=True)
class _Sample:
    """What featurizing a part of the inputs told."""

    files: int
    input_bytes: int
    rows: int
    bases: int
    read_bytes: int
    seconds: float
    is_whole: bool
    paths: list[str]


def plan(
    inputs: Paths,
    *,
    model: str | Path | None = None,
    preset: str | None = None,
    window: int = DEFAULT_WINDOW,
    min_length: int = DEFAULT_MIN_LENGTH,
    device: str = "auto",
    threads: int | None = None,
    folder: str | os.PathLike[str] = ".",
    cache: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Plan:
    """Estimate rows, bytes, memory and times before anything is computed in earnest.

    A sample of the inputs is featurized, trained on for an epoch and encoded, on this
    machine as it is now: the rates are measured, not assumed. It takes some ten seconds.

    Parameters
    ----------
    inputs
        Sequence files and folders, or a feature file or its shards. Of remote ones, named by
        URIs, a sample is fetched.
    model
        A run folder or model file, or ``"pretrained"``: the model that is trained and
        encoded with.
    preset
        Design to train instead, ``kvae`` where neither is given.
    window, min_length
        As for `kvae.featurize`.
    device, threads
        Where to measure, as for `kvae.train`.
    folder
        Where the sample's features are written for a moment: times include the disk, and
        the network where inputs are remote.
    cache
        Folder for copies of remote manifests; see `kvae.FeatureStore`.
    progress
        Told what is measured.

    Raises
    ------
    KvaeError
        If an input is missing or damaged, is standard input, or there is no model.
    """
    from kvae.config import SequencesConfig
    from kvae.row_sources import open_rows
    from kvae.sequences import is_feature_file

    progress = progress or Progress()
    paths: list[Any] = [inputs] if isinstance(inputs, str | os.PathLike) else list(inputs)
    n_threads = threads or _core.available_threads()
    is_remote = names_uris(paths)
    is_stored = all(is_feature_file(path) for path in paths)
    with tempfile.TemporaryDirectory(
        prefix=".kvae.", dir=folder, ignore_cleanup_errors=True
    ) as name:
        if is_stored and is_remote:
            progress.message("fetching some rows")
            from kvae.remote.samples import sample_of_store

            stored = sample_of_store(paths, Path(name), cache=cache)
            source = open_rows(stored.path, threads=n_threads)
            sample = _Sample(
                files=stored.files,
                input_bytes=stored.bytes,
                rows=stored.rows,
                bases=stored.bases,
                read_bytes=stored.bytes,
                seconds=0.0,
                is_whole=stored.is_exact,
                paths=[],
            )
        elif is_stored:
            source = open_rows(paths, threads=n_threads)
            sample = _of_store(source, paths)
        else:
            progress.message("featurizing a sample")
            featurized = _featurized_there if is_remote else _featurized
            sample = featurized(paths, Path(name), window, min_length, n_threads)
            cutting = SequencesConfig(window=window, min_length=min_length)
            source = open_rows(sample.paths, cutting=cutting, threads=n_threads)
        progress.message("training on a sample of it, and encoding it")
        rates = _trained(source, Path(name), model, preset, device, n_threads)
    scale = 1.0 if sample.is_whole else sample.input_bytes / max(sample.read_bytes, 1)
    rows, bases = round(sample.rows * scale), round(sample.bases * scale)
    layout = Layout.from_ks(DEFAULT_KS)
    packed = bases // 4 + rows * _ROW_BYTES
    count_bytes = 2 if 0 < window <= 32_767 else 4
    columns = sum(layout.block(f"{k}-mers").size for k in layout.ks)
    batch_bytes = rates["memory_bytes"] * _PLANNED - _PARAMETER_BYTES * rates["parameters"]
    fits = int(batch_bytes / max(rates["bytes_per_row"], 1))
    return Plan(
        files=sample.files,
        input_bytes=sample.input_bytes,
        rows=rows,
        bases=bases,
        is_exact=sample.is_whole,
        stores={
            "log": rows * 4 * layout.n_fields + packed,
            "counts": rows * count_bytes * columns + packed,
            "packed": packed,
        },
        sequences_bytes=packed,
        device=str(rates["device"]),
        threads=n_threads,
        featurize_seconds=sample.seconds * scale if sample.seconds else None,
        epoch_seconds=rows / rates["train_rows_per_second"],
        encode_seconds=rows / rates["encode_rows_per_second"],
        parameters=rates["parameters"],
        memory_bytes=rates["memory_bytes"],
        batch_size=max(2, min(_LARGEST_BATCH, fits)),
        measured={
            "sample_bytes": sample.read_bytes,
            "sample_rows": sample.rows,
            "featurize_bases_per_second": sample.bases / sample.seconds if sample.seconds else 0.0,
            "train_rows": rates["rows"],
            "train_rows_per_second": rates["train_rows_per_second"],
            "encode_rows_per_second": rates["encode_rows_per_second"],
            "training_bytes_per_row": rates["bytes_per_row"],
        },
    )


def _of_store(source: RowSource, paths: Iterable[str | os.PathLike[str]]) -> _Sample:
    """Read what features that are there already tell."""
    files = [
        file
        for path in map(Path, paths)
        for file in (path.glob("feats-*.arrow") if path.is_dir() else [path])
    ]
    size = sum(file.stat().st_size for file in files)
    bases = int(source.column("length").to_numpy().sum())
    return _Sample(len(files), size, len(source), bases, size, 0.0, True, [])


def _featurized(
    paths: list[Any], folder: Path, window: int, min_length: int, threads: int
) -> _Sample:
    """Featurize files spread over all inputs, and see how far that gets in a few seconds."""
    files = _core.shard_inputs(paths, 1, 1, True)["files"]
    sizes = [size for _, _, size, _, _ in files]
    chosen = _spread(sizes)
    paths = [os.fspath(files[i][1]) for i in chosen]

    def featurize(output: Path, request: Request) -> Mapping[str, Any]:
        return _core.featurize(paths, output, output, *request)

    reach = _reach(featurize, folder, window, min_length, threads)
    return _sampled(reach, sizes, chosen, paths)


def _featurized_there(
    paths: list[Any], folder: Path, window: int, min_length: int, threads: int
) -> _Sample:
    """Do the same with remote files; what is trained on is how some of them begin."""
    from kvae.remote.inputs import RemoteInputs
    from kvae.remote.places import RemoteFile
    from kvae.remote.samples import beginning

    files = RemoteInputs(paths).files()
    sizes = [size for _, size in files]
    chosen = _spread(sizes)
    some = RemoteInputs.of([files[i][0] for i in chosen])
    reach = _reach(lambda to, how: some.featurize(to, to, how), folder, window, min_length, threads)
    kept: list[str] = []
    size = 0
    begun = Path(tempfile.mkdtemp(dir=folder))
    for file in (files[i][0] for i in chosen):
        path = beginning(file, begun) if isinstance(file, RemoteFile) else Path(file)
        kept += [] if path is None else [os.fspath(path)]
        size += 0 if path is None else path.stat().st_size
        if size > _SAMPLE_BYTES:
            break
    if not kept:
        raise KvaeError(
            f"{as_path(paths[0])}: a plan cannot be made from the beginning of such a file: give"
            " a file of this machine, and multiply"
        )
    return _sampled(reach, sizes, chosen, kept)


def _spread(sizes: Sequence[int]) -> list[int]:
    """Choose files spread over all, of a few bytes together."""
    step = max(1, len(sizes) // _SAMPLE_FILES)
    chosen: list[int] = []
    total = 0
    for i in range(step // 2, len(sizes), step):
        if chosen and total + sizes[i] > _SAMPLE_BYTES:
            continue
        chosen.append(i)
        total += sizes[i]
    return chosen


@dataclass(frozen=True)
class _Reach:
    """How far featurizing got."""

    read_bytes: int
    rows: int
    bases: int
    seconds: float
    is_through: bool


def _reach(
    featurize: Callable[[Path, Request], Mapping[str, Any]],
    folder: Path,
    window: int,
    min_length: int,
    threads: int,
) -> _Reach:
    """Featurize for a few seconds."""
    reached = (0, 0, 0)
    start = time.perf_counter()

    def watch(read: int, _: int | None, rows: int, letters: int) -> None:
        nonlocal reached
        reached = (read, rows, letters)
        if rows and time.perf_counter() - start > _SAMPLE_SECONDS:
            raise _EnoughError

    output = folder / "sample.arrow"
    ks = list(DEFAULT_KS)
    is_through = True
    request = Request(ks, window, min_length, "log", sequence=True, threads=threads, progress=watch)
    try:
        summary = featurize(output, request)
        reached = (reached[0], summary["rows"], summary["bases"])
    except _EnoughError:
        is_through = False
    seconds = time.perf_counter() - start
    output.unlink(missing_ok=True)
    return _Reach(*reached, seconds, is_through)


def _sampled(reach: _Reach, sizes: Sequence[int], chosen: list[int], kept: list[str]) -> _Sample:
    read_bytes = sum(sizes[i] for i in chosen) if reach.is_through else reach.read_bytes
    return _Sample(
        files=len(sizes),
        input_bytes=sum(sizes),
        rows=reach.rows,
        bases=reach.bases,
        read_bytes=read_bytes,
        seconds=reach.seconds,
        is_whole=reach.is_through and len(chosen) == len(sizes),
        paths=kept,
    )


def _trained(
    source: RowSource,
    folder: Path,
    model: str | Path | None,
    preset: str | None,
    device: str,
    threads: int,
) -> dict[str, Any]:
    """Train on some rows for an epoch and encode them; what was measured."""
    import torch

    from kvae.comparison.sample import RowSample
    from kvae.config import RunConfig
    from kvae.device import resolve_device
    from kvae.encoding import encode
    from kvae.errors import KvaeError
    from kvae.pretrained import run_or_pretrained
    from kvae.run_folder import RunFolder
    from kvae.training import train

    if model is not None and preset is not None:
        raise KvaeError("give either a model or a preset: a model has its own design")
    torch_device = resolve_device(device)
    rows = RowSample(source, min(_SAMPLE_ROWS, len(source)))
    config: RunConfig | None = None
    init: str | Path | None = None
    if model is not None:
        run = RunFolder(run_or_pretrained(model))
        if run.is_run:
            config = run.read_config()
        else:
            init = model
    saved = _SavedBytes()
    with torch.autograd.graph.saved_tensors_hooks(saved.pack, saved.unpack):
        result = train(
            rows,
            folder / "run",
            preset=preset,
            config=config,
            init=init,
            epochs=1,
            compile=False,
            device=device,
            threads=threads,
        )
    encode(folder / "run", rows, device=device, threads=threads)
    start = time.perf_counter()
    encode(folder / "run", rows, device=device, threads=threads)
    seconds = time.perf_counter() - start
    return {
        "rows": len(rows),
        "device": torch_device,
        "train_rows_per_second": float(result.metrics["rows_per_second"]),
        "encode_rows_per_second": len(rows) / seconds,
        "bytes_per_row": saved.total // max(result.train_rows, 1),
        "parameters": result.n_parameters,
        "memory_bytes": _memory(torch_device),
    }


class _SavedBytes:
    """Sums the tensors that a backward pass needs, which is what a batch costs."""

    def __init__(self) -> None:
        self.total = 0

    def pack(self, tensor: Any) -> Any:
        """Count a tensor unless it is a weight."""
        base = tensor if tensor._base is None else tensor._base
        if not (base.is_leaf and base.requires_grad):
            self.total += tensor.numel() * tensor.element_size()
        return tensor

    def unpack(self, tensor: Any) -> Any:
        """Give it back."""
        return tensor


def _memory(device: Any) -> int:
    """Memory that a device has left, in bytes."""
    if device.type == "cuda":
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    from kvae.checkup.machine import memory_facts

    facts = memory_facts()
    known = [facts[name] for name in ("available", "cgroup") if facts[name]]
    return min(known, default=facts["total"] or 0)
