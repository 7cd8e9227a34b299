"""What rows come from: feature files, sequences, arrays, and whatever has rows."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from kvae.array_rows import ArrayRows
from kvae.config import SequencesConfig
from kvae.dividing import FewShardsError
from kvae.errors import KvaeError
from kvae.featurizing import DEFAULT_KS
from kvae.layout import Layout
from kvae.progress import Progress
from kvae.remote.uris import RemotePath, as_path, has_uris
from kvae.resampling import open_resampled
from kvae.sequences import is_feature_file, open_sequences
from kvae.store import FeatureStore

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import TypeIs

__all__ = [
    "Features",
    "Indices",
    "RowSource",
    "describe_row",
    "feature_files",
    "input_files",
    "open_rows",
]

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


Features: TypeAlias = (
    "str | Path | Sequence[str | Path] | RowSource | NDArray[np.floating[Any]] | Tensor"
)


def describe_row(source: RowSource, row: int) -> str:
    """Name a row for a message: file, number and record."""
    return f"{source.path}: row {row} (record {source.ids[row]})"


def input_files(features: Features) -> list[Path]:
    """Files and folders that rows come from, as far as they can be opened again."""
    if isinstance(features, str | Path):
        found = [as_path(features)]
    elif isinstance(features, Sequence):
        found = [as_path(path) for path in features]
    else:
        # Of rows in memory, the path says what they are called, not what they are.
        path = getattr(features, "path", "array")
        path = path if isinstance(path, RemotePath) else Path(str(path))
        found = [path] if _is_there(path) and is_feature_file(path) else []
    return found if all(map(_is_there, found)) else []


def feature_files(features: Features) -> list[Path]:
    """Give the files of `input_files` where they hold rows, not sequences."""
    found = input_files(features)
    return found if found and _are_features(found) else []


def _is_there(path: Path) -> bool:
    """Whether a file or folder can be opened again; of a remote one that is taken for granted."""
    return isinstance(path, RemotePath) or path.is_file() or path.is_dir()


def _is_tensor(features: object) -> TypeIs[Tensor]:
    # Whoever gives a tensor has loaded torch.
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(features, torch.Tensor)


def _are_features(paths: Sequence[str | Path]) -> bool:
    """Whether these are a feature file, or shards of one."""
    if len(paths) == 1:
        return is_feature_file(paths[0])
    return bool(paths) and all(_is_there(as_path(path)) and is_feature_file(path) for path in paths)


def open_rows(
    features: Features,
    *,
    k: Sequence[int] = DEFAULT_KS,
    cutting: SequencesConfig | None = None,
    seed: int = 0,
    threads: int | None = None,
    layout: Layout | None = None,
    verify: bool = True,
    cache: str | Path | None = None,
    progress: Progress | None = None,
    part: tuple[int, int] | None = None,
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
    cache
        Folder for copies of remote feature files; see `kvae.FeatureStore`.
    progress
        Told how far sequences are read.
    part
        Which of how many parts of remote shards to open, see `kvae.FeatureStore`; anything
        else is opened whole.

    Raises
    ------
    KvaeError
        For files that are neither, or damaged, arrays of another shape, and for windows
        to be drawn from what is no sequence.
    """
    cutting = cutting or SequencesConfig()
    if _is_tensor(features):
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
                f"{as_path(paths[0])}: windows are drawn from sequences, and a feature file holds "
                "rows: give sequence files, or leave --resample out"
            )
        store = paths[0] if len(paths) == 1 else paths
        options: dict[str, Any] = {"threads": threads, "verify": verify}
        options |= {"cache": cache, "progress": progress}
        if part is not None and has_uris(paths):
            try:
                return FeatureStore(store, **options, part=part)
            except FewShardsError as error:
                (progress or Progress()).message(
                    f"{as_path(paths[0])}: is fetched whole for every process ({error})"
                )
        return FeatureStore(store, **options)
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
