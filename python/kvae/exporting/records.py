"""Rows that belong to one record, for programs that know no windows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvae.errors import KvaeError

__all__ = ["check_unique", "first_rows"]


def first_rows(
    ids: NDArray[np.object_],
    source_codes: NDArray[np.int32],
    start: NDArray[np.uint64],
    end: NDArray[np.uint64],
) -> NDArray[np.bool_]:
    """Whether each row is the first of its record.

    Rows of a record follow each other, and each begins where the last one ended or
    later, since windows without a valid k-mer are left out.
    """
    first = np.ones(len(ids), dtype=bool)
    first[1:] = (
        (ids[1:] != ids[:-1]) | (source_codes[1:] != source_codes[:-1]) | (start[1:] < end[:-1])
    )
    return first


def check_unique(path: Path, ids: Any) -> None:
    """Refuse records of one name, which VAMB cannot tell apart.

    Raises
    ------
    KvaeError
        Naming the first that comes twice.
    """
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            raise KvaeError(
                f"{path}: has several records named {name}, and VAMB tells them by their "
                "names: give each its own"
            )
        seen.add(name)
