"""Sequence files as rows, without a feature file.

The sequences are packed into memory at two bits a base, in the form of a packed
feature file that no folder has; rows are computed when they are asked for.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from kvae.errors import KvaeError
from kvae.featurizing import (
    DEFAULT_KS,
    DEFAULT_MIN_LENGTH,
    DEFAULT_WINDOW,
    FeaturizeResult,
    Paths,
    Progress,
)
from kvae.logs import describe_inputs
from kvae.remote import Request, featurize_files
from kvae.remote.uris import as_path, as_uri, has_uris, local_path
from kvae.shards import has_shards
from kvae.store import FeatureStore
from kvae.system import file_in_memory

LOGGER = logging.getLogger(__name__)

__all__ = ["is_feature_file", "open_sequences", "pack_sequences"]

_ARROW_MAGIC = b"ARROW1"


def is_feature_file(path: str | os.PathLike[str]) -> bool:
    """Whether a path leads to an Arrow file, to shards of one, or to nothing at all.

    Other folders, pipes, ``-`` and ``@lists`` do not.

    Raises
    ------
    KvaeError
        If there is a file, and it cannot be read; or nothing where a URI leads.
    """
    if has_uris([path]) and (uri := as_uri(path)) is not None:
        from kvae.remote.caching import holds_features

        return holds_features(uri)
    path = local_path(path)
    if not Path(path).exists():
        return os.fspath(path)[:1] not in ("-", "@")
    if Path(path).is_dir():
        return has_shards(path)
    if not Path(path).is_file():
        return False
    try:
        with Path(path).open("rb") as file:
            return file.read(len(_ARROW_MAGIC)) == _ARROW_MAGIC
    except OSError as error:
        raise KvaeError(f"{path}: {(error.strerror or 'cannot be read').lower()}") from error


def open_sequences(
    inputs: Paths,
    *,
    k: Sequence[int] = DEFAULT_KS,
    window: int = DEFAULT_WINDOW,
    min_length: int = DEFAULT_MIN_LENGTH,
    threads: int | None = None,
    progress: Progress | None = None,
) -> FeatureStore:
    """Read sequence files into memory, to train on or encode.

    The rows are those that `kvae.featurize` would write. A gigabase takes about
    270 MB.

    Parameters
    ----------
    inputs, k, window, min_length, threads, progress
        As for `kvae.featurize`.

    Returns
    -------
    FeatureStore
        Of kind ``packed``; its ``path`` is the first input.

    Raises
    ------
    KvaeError
        If an input is missing, damaged or no sequence file, or no row is left.

    Examples
    --------
    >>> rows = kvae.open_sequences("genomes/")  # doctest: +SKIP
    >>> kvae.encode("run", rows).shape  # doctest: +SKIP
    (89604, 512)
    """
    given = [inputs] if isinstance(inputs, str | os.PathLike) else list(inputs)
    paths = [local_path(path) for path in given]
    with file_in_memory() as path:
        for line in describe_inputs(paths):
            LOGGER.info("input: %s", line)
        start = time.perf_counter()
        request = Request(list(k), window, min_length, "packed", threads=threads, progress=progress)
        summary = featurize_files(paths, path, path, request)
        _tell(FeaturizeResult(**summary, seconds=time.perf_counter() - start))
        name = as_path(paths[0]) if paths else None
        # Nothing happens to what no disk has held.
        return FeatureStore(path, name=name, threads=threads, verify=False)


def _tell(result: FeaturizeResult) -> None:
    """Warn of what was odd or left out: there is no result to say it in."""
    for message in result.warnings:
        LOGGER.warning("%s", message)
    if result.skipped:
        LOGGER.warning(
            "left out: %d record(s) that are too short, %d window(s) without a valid 7-mer, in "
            "%d file(s)",
            *(result.too_short, result.without_kmer, len(result.skipped)),
        )
    LOGGER.info(
        "read %d rows of %d bases from %d records in %d files, %.3f s",
        *(result.rows, result.bases, result.records, result.files, result.seconds),
    )


def pack_sequences(
    sequences: Iterable[str | bytes],
    *,
    k: Sequence[int] = DEFAULT_KS,
    threads: int | None = None,
) -> FeatureStore:
    """Pack sequences that are in memory already, each a row; none is cut.

    Parameters
    ----------
    sequences
        The sequences, letters as in a FASTA file.
    k, threads
        As for `kvae.featurize`.

    Returns
    -------
    FeatureStore
        Of kind ``packed``. Rows are named ``record_0`` and so on; those without a valid
        7-mer are left out.

    Raises
    ------
    KvaeError
        For letters that no sequence has, or if no row is left.
    """
    with tempfile.NamedTemporaryFile(prefix="kvae-", suffix=".fa") as file:
        for i, sequence in enumerate(sequences):
            letters = sequence.encode() if isinstance(sequence, str) else sequence
            if b"\n" in letters or b">" in letters:
                raise KvaeError(f"sequence {i} is more than letters: give one without a header")
            file.write(b">record_%d\n%s\n" % (i, letters))
        file.flush()
        return open_sequences(file.name, k=k, window=0, min_length=0, threads=threads)
