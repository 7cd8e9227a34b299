"""What to compare: entries of the command line as named configurations.

An entry is ``[NAME=]BASE[,KEY=VALUE...]``. The base is a preset or a TOML or JSON
file; keys and values are those of ``kvae train --set``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvae.config import RunConfig, override, read_setting
from kvae.errors import KvaeError
from kvae.presets import PRESETS
from kvae.training.options import configure

# Names become folders: nothing hidden, no separators, nothing a shell would touch.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
_SUFFIXES = (".toml", ".json")


@dataclass(frozen=True)
class Entry:
    """A configuration and the name of its run folder."""

    name: str
    config: RunConfig


def read_entries(
    configs: str | Iterable[str] | Mapping[str, RunConfig], changes: Mapping[str, Any]
) -> list[Entry]:
    """Read what to compare, in the given order.

    Parameters
    ----------
    configs
        Entries as on the command line, or configurations by name.
    changes
        Dotted keys to values, for all of them alike.

    Raises
    ------
    KvaeError
        For an entry that cannot be read, a name that is no folder's or given
        twice, and configurations that would not be trained on the same rows.
    """
    if isinstance(configs, Mapping):
        entries = [Entry(name, override(config, changes)) for name, config in configs.items()]
    else:
        texts = [configs] if isinstance(configs, str) else configs
        entries = [_read_entry(text, changes) for text in texts]
    if not entries:
        raise KvaeError(f"nothing to compare: name presets ({', '.join(PRESETS)}) or files")
    _check_names([entry.name for entry in entries])
    _check_same_split(entries)
    return entries


def _read_entry(text: str, changes: Mapping[str, Any]) -> Entry:
    base, *settings = _parts(text)
    name, equals, rest = base.partition("=")
    if equals:
        base = rest
    elif settings:
        raise KvaeError(f"{text}: has no name: write NAME={text}")
    else:
        name = Path(base).stem if _is_file(base) else base
    preset, file = (None, base) if _is_file(base) else (base, None)
    try:
        config = configure(preset, file, _read_settings(settings))
    except KvaeError as error:
        raise KvaeError(f"{text}: {error}" if settings else str(error)) from None
    return Entry(name, override(config, changes))


def _parts(text: str) -> Iterator[str]:
    """Split at commas, but not at those within a JSON list or object."""
    depth = start = 0
    for i, letter in enumerate(text):
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and depth == 0:
            yield text[start:i]
            start = i + 1
    yield text[start:]


def _read_settings(settings: Iterable[str]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for setting in settings:
        if "=" not in setting:
            raise KvaeError(f"'{setting}' is no KEY=VALUE")
        key, value = read_setting(setting)
        if key in changes:
            raise KvaeError(f"{key} is given twice")
        changes[key] = value
    return changes


def _is_file(base: str) -> bool:
    return base.lower().endswith(_SUFFIXES)


def _check_names(names: list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if not _NAME.fullmatch(name) or name.startswith("compare."):
            raise KvaeError(f"'{name}' cannot name a run's folder: write another NAME=")
        # Some file systems cannot tell such names apart.
        if name.casefold() in seen:
            raise KvaeError(f"two configurations are named {name}: write NAME= before one")
        seen.add(name.casefold())


def _check_same_split(entries: list[Entry]) -> None:
    first = entries[0]
    for key in ("seed", "validation"):
        wanted = getattr(first.config.training, key)
        for entry in entries:
            if (found := getattr(entry.config.training, key)) != wanted:
                raise KvaeError(
                    f"{first.name} has training.{key} {wanted} and {entry.name} {found}:"
                    " what is compared must be trained on the same rows"
                )
