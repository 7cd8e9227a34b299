"""Which shards are whose, where several processes read a part of them each."""

from __future__ import annotations

from collections.abc import Sequence

from kvae.errors import KvaeError

__all__ = ["FewShardsError", "divide"]


class FewShardsError(KvaeError):
    """There are fewer shards with rows than parts."""


def divide(rows: Sequence[int], parts: int) -> list[range]:
    """Cut shards, in their order, into parts whose largest has as few rows as possible.

    Parameters
    ----------
    rows
        Rows of every shard.
    parts
        How many; each has at least one shard with rows.

    Returns
    -------
    list of range
        Positions of the shards of every part.

    Raises
    ------
    FewShardsError
        If there are fewer shards with rows.
    """
    filled = sum(count > 0 for count in rows)
    if filled < parts:
        raise FewShardsError(f"{filled} shard(s) with rows are fewer than {parts} parts")
    least, most = max(rows), sum(rows)
    while least < most:
        limit = (least + most) // 2
        if _parts_within(rows, limit) <= parts:
            most = limit
        else:
            least = limit + 1
    return _cut(rows, parts, most)


def _parts_within(rows: Sequence[int], limit: int) -> int:
    """Count the parts of shards where none has more rows than that."""
    count, taken = 1, 0
    for n in rows:
        if taken + n > limit:
            count, taken = count + 1, 0
        taken += n
    return count


def _cut(rows: Sequence[int], parts: int, limit: int) -> list[range]:
    """Fill part after part up to a limit, and leave enough shards for those behind it."""
    left = sum(count > 0 for count in rows)
    starts, taken = [0], 0
    for i, n in enumerate(rows):
        needed = parts - len(starts)
        if n and taken and (taken + n > limit or left <= needed):
            starts.append(i)
            taken = 0
        taken += n
        left -= n > 0
    return [range(a, b) for a, b in zip(starts, [*starts[1:], len(rows)], strict=True)]
