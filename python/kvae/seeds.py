"""Seeds that every library takes which they are handed on to."""

from __future__ import annotations

from kvae.errors import KvaeError

__all__ = ["check_seed"]

# Those of scikit-learn and umap-learn have 32 bits.
_LARGEST = (1 << 32) - 1


def check_seed(seed: int, used: int = 1) -> None:
    """Refuse a seed that is none.

    Parameters
    ----------
    seed
        The first of the seeds that are used.
    used
        How many there are, one after another.

    Raises
    ------
    KvaeError
        If it is negative, or has more than 32 bits.
    """
    if not 0 <= seed <= _LARGEST - (used - 1):
        raise KvaeError(f"seed must be from 0 to {_LARGEST - (used - 1)}, got {seed}")
