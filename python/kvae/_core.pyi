"""The Rust extension: counting, feature assembly and the feature file."""

from collections.abc import Callable, Iterable, Sequence
from os import PathLike
from typing import Protocol, Self, TypedDict, final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "RowFile",
    "__version__",
    "available_threads",
    "backend",
    "bytes_of_part",
    "choose_named",
    "count_kmers",
    "errors_of",
    "featurize",
    "featurize_sequences",
    "find_bad",
    "forget_temporary",
    "kmers",
    "layout",
    "merge",
    "next_record",
    "profiles_of",
    "remember_temporary",
    "shard_inputs",
    "sum_of_file",
    "unpack",
    "watch_signals",
]

__version__: str

# A path, or a file that was found: path, name, bytes, and whether it was in a folder.
_Input = str | PathLike[str] | tuple[str | PathLike[str], str, int, bool]

class _Summary(TypedDict):
    records: int
    rows: int
    bases: int
    too_short: int
    without_kmer: int
    files: int
    skipped: list[tuple[str, int, int]]
    warnings: list[str]
    bad: list[str]

class _Share(TypedDict):
    inputs: int
    bytes: int
    digest: str
    first: int
    # Where parts of files begin and end within their blocks; None for whole ones.
    within: list[tuple[int, int] | None]
    files: list[tuple[str, str, int, int, int]]

@final
class RowFile:
    def __new__(
        cls,
        paths: Sequence[str | PathLike[str]],
        threads: int | None = None,
        verify: bool = True,
    ) -> Self: ...
    @property
    def bases(self) -> list[int]: ...
    @property
    def digests(self) -> list[str | None]: ...
    def verify(self, offset: int, length: int) -> None: ...
    def verify_message(self, file: int, batch: int) -> None: ...
    def log_rows(self, offsets: NDArray[np.uint64], out: NDArray[np.float32]) -> None: ...
    def counted_rows(
        self,
        ks: Sequence[int],
        lengths: NDArray[np.uint64],
        gc: NDArray[np.float32],
        blocks: Sequence[tuple[int, int, NDArray[np.uint64], NDArray[np.uint64]]],
        out: NDArray[np.float32],
    ) -> None: ...
    def packed_rows(
        self,
        ks: Sequence[int],
        offsets: NDArray[np.uint64],
        starts: NDArray[np.uint64],
        ends: NDArray[np.uint64],
        gap_bounds: NDArray[np.int64],
        gap_starts: NDArray[np.uint32],
        gap_lengths: NDArray[np.uint32],
        out: NDArray[np.float32],
    ) -> None: ...

def layout(ks: Sequence[int]) -> str: ...
def kmers(k: int) -> str: ...
def backend() -> str: ...
def available_threads() -> int: ...
def count_kmers(
    sequences: Iterable[str | bytes],
    k: int,
    threads: int | None,
    out: NDArray[np.uint32] | None = None,
) -> NDArray[np.uint32]: ...
def featurize_sequences(
    sequences: Iterable[str | bytes],
    ks: Sequence[int],
    threads: int | None,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]: ...
def unpack(
    packed: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    lengths: NDArray[np.uint64],
    gap_starts: NDArray[np.uint32],
    gap_lengths: NDArray[np.uint32],
    gap_offsets: NDArray[np.int32],
) -> list[bytes]: ...
def featurize(
    inputs: Sequence[_Input],
    out: str | PathLike[str],
    target: str | PathLike[str],
    ks: Sequence[int],
    window: int,
    min_length: int,
    store: str,
    sequence: bool,
    skip_bad: bool,
    shard: tuple[int, int] | None,
    threads: int | None,
    progress: Callable[[int, int | None, int, int], object] | None,
    bad: Sequence[str | None] | None = None,
) -> _Summary: ...
def find_bad(
    inputs: Sequence[_Input],
    window: int,
    min_length: int,
    shard: tuple[int, int] | None,
    threads: int | None,
    progress: Callable[[int, int | None, int, int], object] | None,
) -> list[str | None]: ...
def sum_of_file(path: str | PathLike[str]) -> str: ...
def choose_named(folder: str | PathLike[str], names: Sequence[str]) -> list[bool]: ...
def bytes_of_part(
    path: str | PathLike[str], start: tuple[int, int], end: tuple[int, int]
) -> tuple[bytes, int, int, bytes]: ...
def next_record(path: str | PathLike[str], at: int) -> tuple[bool, tuple[int, int] | None]: ...
def shard_inputs(inputs: Sequence[_Input], index: int, count: int, whole: bool) -> _Share: ...
def merge(
    parts: Sequence[tuple[str | PathLike[str], int]],
    sources: Sequence[str],
    out: str | PathLike[str],
    target: str | PathLike[str],
    progress: Callable[[int], object] | None,
) -> tuple[int, int]: ...
def remember_temporary(path: bytes) -> int | None: ...
def forget_temporary(place: int | None) -> None: ...
def watch_signals(descriptor: int, patience: float, pause: float) -> None: ...

class _Criterion(Protocol):
    @property
    def pseudocount(self) -> float: ...
    @property
    def threshold(self) -> float: ...
    @property
    def threshold_cut(self) -> float: ...
    @property
    def target_floor(self) -> float: ...
    @property
    def floor(self) -> float: ...
    @property
    def nonzero(self) -> float: ...
    @property
    def cuts(self) -> Sequence[tuple[float, float]]: ...

def errors_of(
    x: NDArray[np.float32],
    value: NDArray[np.float32],
    gate: NDArray[np.float32] | None,
    value_gradient: NDArray[np.float32] | None,
    gate_gradient: NDArray[np.float32] | None,
    is_linear: bool,
    criterion: _Criterion,
    threads: int,
) -> tuple[dict[str, float], list[float]]: ...
def profiles_of(
    x: NDArray[np.float32],
    value: NDArray[np.float32],
    gate: NDArray[np.float32],
    profile: NDArray[np.float32],
    windows: NDArray[np.float32],
    gradients: tuple[NDArray[np.float32], NDArray[np.float32]] | None,
    criterion: _Criterion,
    threads: int,
) -> tuple[dict[str, float], list[float]]: ...
