"""Sequences to counts and features, in memory or in files."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from kvae import _core
from kvae.atomic import atomic_output
from kvae.logs import describe_inputs
from kvae.remote import Request, featurize_files
from kvae.remote.uris import as_path, local_path

# Loading numpy takes longer than featurizing many a genome.
if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["FeaturizeResult", "count_kmers", "featurize", "featurize_sequences"]

LOGGER = logging.getLogger(__name__)

DEFAULT_KS = (7, 4, 3)
DEFAULT_WINDOW = 5000
DEFAULT_MIN_LENGTH = 1000

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
Progress = Callable[[int, int | None, int, int], object]


@dataclass(frozen=True)
class FeaturizeResult:
    """What became of the inputs of `featurize`.

    Attributes
    ----------
    files, records
        Read.
    rows, bases
        Written; bases counts all letters of the rows.
    too_short
        Records left out because they were shorter than the minimum.
    without_kmer
        Rows left out because they had no valid 7-mer.
    skipped
        The files that something was left out of: name, records that were too
        short, rows without a valid 7-mer.
    warnings
        One-line messages about what was odd but not wrong.
    bad
        Why files were left out (``skip_bad=True``).
    seconds
        Wall time.
    repeated
        Whether the shard was there already.
    """

    files: int
    records: int
    rows: int
    bases: int
    too_short: int
    without_kmer: int
    skipped: list[tuple[str, int, int]]
    warnings: list[str]
    bad: list[str]
    seconds: float
    repeated: bool = False


def _as_list(sequences: str | bytes | Iterable[str | bytes]) -> Iterable[str | bytes]:
    return [sequences] if isinstance(sequences, str | bytes) else sequences


def count_kmers(
    sequences: str | bytes | Iterable[str | bytes],
    k: int,
    *,
    threads: int | None = None,
    out: NDArray[np.uint32] | None = None,
) -> NDArray[np.uint32]:
    """Count the canonical k-mers of each sequence.

    A k-mer and its reverse complement are counted together, a palindrome once
    per occurrence. Windows with a letter other than ``ACGTU`` (either case) are
    not counted.

    Parameters
    ----------
    sequences
        One sequence or several.
    k
        1 to 8.
    threads
        All CPUs that this process may use, by default.
    out
        A C-contiguous array of the result's shape to write to. Batch after batch
        in one array is faster: fresh memory takes longer to get than to fill.

    Returns
    -------
    ndarray of uint32, shape (sequences, canonical k-mers)
        Columns as `kvae.kmers(k)` lists them. The array is `out`, or owns the
        buffer that the counts were written to.

    Raises
    ------
    KvaeError
        If k is not supported, or `out` does not fit.

    Examples
    --------
    >>> import kvae
    >>> kvae.count_kmers("ACGT", 2)[0].sum()
    np.uint32(3)
    """
    return _core.count_kmers(_as_list(sequences), k, threads, out)


def featurize_sequences(
    sequences: str | bytes | Iterable[str | bytes],
    *,
    k: Sequence[int] = DEFAULT_KS,
    threads: int | None = None,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Compute the log-space row of each sequence.

    Parameters
    ----------
    sequences
        One sequence or several; each becomes one row, whatever its length.
    k
        The k-mer blocks of a row.
    threads
        All CPUs that this process may use, by default.
    out
        A C-contiguous array of the result's shape to write to. Batch after batch
        in one array is faster: fresh memory takes longer to get than to fill.

    Returns
    -------
    ndarray of float32, shape (sequences, fields)
        Fields as `kvae.Layout.from_ks(k)` describes them: natural logarithms of
        the length, of frequencies + 1e-6 and of the GC fraction + 1e-6. The
        array is `out`, or owns the buffer that the rows were written to.

    Raises
    ------
    KvaeError
        If a k is not supported, a sequence is empty, or `out` does not fit.
    """
    return _core.featurize_sequences(_as_list(sequences), list(k), threads, out)


def featurize(
    inputs: Paths,
    output: str | os.PathLike[str] = "feats.arrow",
    *,
    k: Sequence[int] = DEFAULT_KS,
    window: int = DEFAULT_WINDOW,
    min_length: int = DEFAULT_MIN_LENGTH,
    store: Literal["log", "counts", "packed"] = "log",
    sequence: bool = True,
    skip_bad: bool = False,
    shard: str | tuple[int, int] | None = None,
    threads: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> FeaturizeResult:
    """Write the features of sequence files to an Arrow file.

    Parameters
    ----------
    inputs
        FASTA or FASTQ files, compressed or not, folders, ``@lists`` of paths, or
        ``-`` for standard input. Files and folders may be URIs, such as
        ``s3://bucket/genomes/``.
    output
        The file to write, or its URI. It appears when all rows are in it, or not at all. With
        ``shard`` the folder that shards go to, ``feats`` where omitted.
    k
        The k-mer blocks of a row.
    window
        Bases in a row; the remainder of a record joins its last row. 0 makes
        every record one row.
    min_length
        Shorter records are left out.
    store
        ``"log"`` keeps features, ``"counts"`` counts, and ``"packed"`` only the
        sequences.
    sequence
        Keep the sequence of each row, at two bits a base.
    skip_bad
        Leave files with mistakes out instead of stopping at the first.
    shard
        Featurize one of several shares of the inputs, ``"3/32"`` or ``(3, 32)``. It
        becomes ``feats-0003-of-0032.arrow`` in the folder ``output``, with a manifest
        beside it; if both are there already, nothing is done. `kvae.merge` joins all
        shards, and whatever reads a feature file reads their folder.
    threads
        All CPUs that this process may use, by default.
    force
        Replace `output` if it exists.
    progress
        Called several times a second with the bytes read, the bytes of all
        inputs (None where unknown), and the rows and bases written.

    Raises
    ------
    KvaeError
        If an input is missing, damaged or no sequence file, if no row is left,
        or if `output` cannot be written.
    """
    given = [inputs] if isinstance(inputs, str | os.PathLike) else list(inputs)
    paths = [local_path(path) for path in given]
    if shard is not None:
        from kvae.sharding import featurize_shard
        from kvae.shards import ShardName

        return featurize_shard(
            paths,
            as_path("feats" if os.fspath(output) == "feats.arrow" else output),
            ShardName.of(shard),
            k=k,
            window=window,
            min_length=min_length,
            store=store,
            sequence=sequence,
            skip_bad=skip_bad,
            threads=threads,
            force=force,
            progress=progress,
        )
    start = time.perf_counter()
    for line in describe_inputs(paths):
        LOGGER.info("input: %s", line)
    LOGGER.info(
        "featurizing to %s: k %s, window %d, min_length %d, store %s, sequence %s, threads %s",
        *(as_path(output), list(k), window, min_length, store, sequence, threads or "all"),
    )
    request = Request(
        list(k), window, min_length, store, sequence, skip_bad, None, threads, progress
    )
    with atomic_output(output, force=force) as temporary:
        summary = featurize_files(paths, temporary, as_path(output), request)
    result = FeaturizeResult(**summary, seconds=time.perf_counter() - start)
    log_outcome(result)
    return result


def log_outcome(result: FeaturizeResult) -> None:
    """Log what became of the inputs, file by file where something was left out."""
    for message in result.warnings:
        LOGGER.info("warning: %s", message)
    for message in result.bad:
        LOGGER.info("left out: %s", message)
    for name, too_short, without_kmer in result.skipped:
        LOGGER.info(
            "left out of %s: %d too short, %d without a 7-mer", name, too_short, without_kmer
        )
    LOGGER.info(
        "%d rows of %d bases from %d records in %d files, %.3f s",
        *(result.rows, result.bases, result.records, result.files, result.seconds),
    )
