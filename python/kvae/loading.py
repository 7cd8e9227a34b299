"""From stored rows to batches on the device that computes."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kvae.array_rows import ArrayRows
from kvae.config import SequencesConfig
from kvae.device_rows import DeviceRows, PackedSequences
from kvae.errors import KvaeError
from kvae.featurizing import DEFAULT_KS
from kvae.halves import Halves
from kvae.layout import Layout
from kvae.progress import Progress
from kvae.resampling import open_resampled
from kvae.sequences import is_feature_file, open_sequences
from kvae.store import FeatureStore

Indices = NDArray[np.int64]


class RowSource(Protocol):
    """What training and encoding read: `kvae.store.FeatureStore` or anything alike."""

    @property
    def layout(self) -> Layout:
        """Layout of the rows."""
        ...

    @property
    def path(self) -> Any:
        """Where the rows come from, for messages."""
        ...

    @property
    def source_codes(self) -> NDArray[np.int32]:
        """Index into `source_names` for every row."""
        ...

    @property
    def source_names(self) -> Sequence[str]:
        """Input files."""
        ...

    @property
    def ids(self) -> Any:
        """Record name of every row (an Arrow array of strings)."""
        ...

    def __len__(self) -> int:
        """Count the rows."""
        ...

    def column(self, name: str) -> Any:
        """Read a column that says where the rows come from (an Arrow chunked array)."""
        ...

    def rows(self, indices: Indices, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Gather rows, shape (len(indices), fields)."""
        ...


Features = str | Path | Sequence[str | Path] | RowSource | NDArray[np.floating[Any]] | Tensor


@dataclass(frozen=True)
class Batch:
    """Rows on the training device.

    Attributes
    ----------
    rows
        Their numbers in the source.
    x
        Their features, shape (rows, fields), of `kvae.halves.Halves` twice as many.
        On the CPU they are valid only until the next batch is asked for.
    """

    rows: Indices
    x: Tensor


class _Slot:
    """A host buffer for one batch, page-locked where the device is CUDA."""

    def __init__(self, n_rows: int, n_fields: int, device: torch.device) -> None:
        self._device = device
        self.tensor = torch.empty(n_rows, n_fields, pin_memory=device.type == "cuda")
        self.array: NDArray[np.float32] = self.tensor.numpy()
        self._copied: torch.cuda.Event | None = None
        if device.type == "cuda":
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]

    def to_device(self, n_rows: int) -> Tensor:
        x_BF = self.tensor[:n_rows]
        if self._copied is None:
            return x_BF.to(self._device)
        x_BF = x_BF.to(self._device, non_blocking=True)
        self._copied.record(torch.cuda.current_stream(self._device))
        return x_BF

    def wait(self) -> None:
        """Block until the device has its copy, so that the buffer may be reused."""
        if self._copied is not None:
            self._copied.synchronize()


class BatchLoader:
    """Gathers batches on a background thread, a few ahead of the consumer.

    The sequences of a packed store stay on an accelerator that has room for
    them, and rows are computed there.

    Parameters
    ----------
    source
        Where the rows come from; only the background thread reads from it.
    device
        Where batches go.
    depth
        Batches gathered ahead.
    resident
        Whether the sequences are kept on the device; where omitted, if they are
        packed and fit.
    """

    def __init__(
        self,
        source: RowSource,
        device: torch.device,
        *,
        depth: int = 2,
        resident: bool | None = None,
    ) -> None:
        self._source = source
        self._device = device
        self._depth = depth
        self._rows_each = 2 if isinstance(source, Halves) else 1
        self._slots: list[_Slot] = []
        self._resident: DeviceRows | None = None
        if isinstance(source, FeatureStore) and source.kind == "packed":
            if resident is None:
                resident = _has_room(device, source.packed.n_bytes)
            if resident:
                sequences = PackedSequences.of(source.packed, device)
                self._resident = DeviceRows(sequences, source.layout)

    def __call__(self, batches: Sequence[Indices]) -> Iterator[Batch]:
        """Yield the given batches in order."""
        if self._resident is None:
            yield from self._gathered(batches)
            return
        for rows in batches:
            indices = torch.from_numpy(rows).to(self._device, non_blocking=True)
            yield Batch(rows, self._resident(indices))

    def _gathered(self, batches: Sequence[Indices]) -> Iterator[Batch]:
        """Batches whose rows come from the host."""
        free: SimpleQueue[_Slot | None] = SimpleQueue()
        ready: SimpleQueue[_Slot | BaseException] = SimpleQueue()
        rows_each = self._rows_each
        for slot in self._buffers(max(map(len, batches), default=0) * rows_each):
            free.put(slot)

        def gather() -> None:
            try:
                for rows in batches:
                    slot = free.get()
                    if slot is None:
                        return
                    self._source.rows(rows, out=slot.array[: len(rows) * rows_each])
                    ready.put(slot)
            except BaseException as error:
                # Whatever went wrong belongs to the consumer, not to this thread.
                ready.put(error)

        thread = threading.Thread(target=gather, name="kvae-gather", daemon=True)
        thread.start()
        try:
            for rows in batches:
                item = ready.get()
                if isinstance(item, BaseException):
                    raise item
                yield Batch(rows, item.to_device(len(rows) * rows_each))
                item.wait()
                free.put(item)
        finally:
            free.put(None)
            thread.join()

    def _buffers(self, n_rows: int) -> list[_Slot]:
        """Host buffers, kept from one pass to the next: fresh pages are slow."""
        if not self._slots or len(self._slots[0].tensor) < n_rows:
            n_fields = self._source.layout.n_fields
            # One more than are ahead: the one the consumer works on.
            self._slots = [_Slot(n_rows, n_fields, self._device) for _ in range(self._depth + 1)]
        return self._slots


def _has_room(device: torch.device, n_bytes: int) -> bool:
    """Whether an accelerator can keep so much beside a model and its batches."""
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return n_bytes < free // 2


def describe_row(source: RowSource, row: int) -> str:
    """Name a row for a message: file, number and record."""
    return f"{source.path}: row {row} (record {source.ids[row]})"


def input_files(features: Features) -> list[Path]:
    """Files and folders that rows come from, as far as they can be opened again."""
    if isinstance(features, str | Path):
        found = [Path(features)]
    elif isinstance(features, Sequence):
        found = [Path(path) for path in features]
    else:
        # Of rows in memory, the path says what they are called, not what they are.
        path = Path(str(getattr(features, "path", "array")))
        found = [path] if path.exists() and is_feature_file(path) else []
    return found if all(path.is_file() or path.is_dir() for path in found) else []


def _are_features(paths: Sequence[str | Path]) -> bool:
    """Whether these are a feature file, or shards of one."""
    if len(paths) == 1:
        return is_feature_file(paths[0])
    return bool(paths) and all(Path(path).exists() and is_feature_file(path) for path in paths)


def open_rows(
    features: Features,
    *,
    k: Sequence[int] = DEFAULT_KS,
    cutting: SequencesConfig | None = None,
    seed: int = 0,
    threads: int | None = None,
    layout: Layout | None = None,
    verify: bool = True,
    progress: Progress | None = None,
) -> RowSource:
    """Open what rows come from; an object with rows is returned as it is.

    Parameters
    ----------
    features
        A feature file, or its shards; or sequence files and folders, which are read
        into memory; or an object with rows; or an array or tensor of them, shape (rows, fields).
    k
        The k-mer blocks of the rows of sequences.
    cutting
        How sequences become rows, as `kvae.featurize` does by default where omitted.
    seed
        Decides which windows are drawn, if any are.
    threads
        To read sequences and gather rows with.
    layout
        Of the rows of an array, that with the blocks ``k`` where omitted.
    verify
        Hold what is read of a feature file against its checksums.
    progress
        Told how far sequences are read.

    Raises
    ------
    KvaeError
        For files that are neither, or damaged, arrays of another shape, and for windows
        to be drawn from what is no sequence.
    """
    cutting = cutting or SequencesConfig()
    if isinstance(features, Tensor):
        features = features.detach().cpu().numpy()
    if isinstance(features, np.ndarray):
        return ArrayRows(features, layout or Layout.from_ks(k))
    paths: list[str | Path]
    if isinstance(features, str | Path):
        paths = [features]
    elif isinstance(features, Sequence):
        paths = list(features)
    else:
        return features
    if _are_features(paths):
        if cutting.resample:
            raise KvaeError(
                f"{paths[0]}: windows are drawn from sequences, and a feature file holds rows: "
                "give sequence files, or leave --resample out"
            )
        store = paths[0] if len(paths) == 1 else paths
        return FeatureStore(store, threads=threads, verify=verify)
    window, min_length = cutting.window, cutting.min_length
    listener = progress or Progress()

    def tell(read: int, total: int | None, rows: int, letters: int) -> None:
        listener.reading(read, total, rows)

    if cutting.resample:
        return open_resampled(
            paths,
            k=k,
            window=window,
            min_length=min_length,
            seed=seed,
            threads=threads,
            progress=tell,
        )
    return open_sequences(
        paths, k=k, window=window, min_length=min_length, threads=threads, progress=tell
    )
