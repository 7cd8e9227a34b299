"""Changes to a configuration: short keys, values as text, files.

A key is a dotted path such as ``model.decoder.sparse.readout.rank``; an element
of a list of branches goes by its block: ``model.encoder.branches.7-mers.hidden``.
Parts of a path may be left out where one path only remains, so ``latent``, ``lr``
and ``encoder.shared`` are enough. A change of a ``kind`` drops what belonged to
the old kind and starts from the new one's defaults.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import to_jsonable_python

from kvae.config.base import ConfigT, Frozen, parse_config
from kvae.config.encoders import ENCODERS
from kvae.config.readouts import ReadoutConfig
from kvae.errors import KvaeError

# Which of several readouts is meant by "the decoder's kind": that of the values.
_ALIASES = {"decoder.kind": "decoder.sparse.readout.kind"}


def override(config: ConfigT, changes: Mapping[str, Any], origin: str = "configuration") -> ConfigT:
    """Return a configuration with some keys changed, validated as a whole.

    Parameters
    ----------
    config
        The configuration to start from; it is not modified.
    changes
        Keys to values, applied in order, for example ``{"latent": 64}`` or
        ``{"decoder.kind": "lowrank", "rank": 32}``. A mapping changes the keys
        it names and leaves the others.
    origin
        Where the changes came from, for the message.

    Raises
    ------
    KvaeError
        For an unknown key, with those that are spelled alike, a key that fits
        several, or a value that the configuration does not allow.
    """
    tree = config.model_dump(mode="json")
    pending = list(changes.items())
    while pending:
        key, value = pending.pop(0)
        try:
            path = resolve_key(tree, key)
            parts = _parts(_find(tree, path), path, value)
            if parts is None:
                _set(tree, path, value)
                tree = _in_full(type(config), tree)
            else:
                pending = parts + pending
        except KeyError as error:
            raise KvaeError(f"{origin}: {error.args[0]}") from None
    return parse_config(type(config), json.dumps(tree), origin)


def _in_full(cls: type[ConfigT], tree: dict[str, Any]) -> dict[str, Any]:
    """Spell out defaults, so that the next change finds their keys.

    Half-way through a list of changes a configuration may be invalid; then it
    stays as it is, and the last validation has the word.
    """
    try:
        return cls.model_validate_json(json.dumps(tree)).model_dump(mode="json")
    except ValidationError:
        return tree


def resolve_key(tree: Mapping[str, Any], key: str) -> str:
    """Full spelling of a key that may leave out parts of its path.

    Raises
    ------
    KeyError
        Where no path or more than one fits; its argument is a sentence.
    """
    key = _ALIASES.get(key.removeprefix("model."), key)
    known = list(_paths(tree))
    if key in known:
        return key
    fitting = [path for path in known if _fits(key, path)]
    # Only the leading parts left out is the closer reading.
    closest = [path for path in fitting if path.endswith(f".{key}")]
    if len(closest) == 1:
        return closest[0]
    if fitting:
        if len(fitting) > 1:
            raise KeyError(f"the key {key!r} could be {' or '.join(fitting)}")
        return fitting[0]
    parents, _, last = key.rpartition(".")
    listed, _, block = parents.rpartition(".")
    if listed and last and _is_list_of_blocks(_find(tree, _try(tree, listed))):
        return f"{_try(tree, listed)}.{block}.{last}"  # A branch of another block.
    raise KeyError(f"no key {key!r}{_suggestion(key, known)}")


def _try(tree: Mapping[str, Any], key: str) -> str:
    """Resolve a key, or give it back where that fails."""
    try:
        return resolve_key(tree, key)
    except KeyError:
        return key


def _paths(node: Any, prefix: str = "") -> Iterator[str]:
    """Every key of a tree, those of sections included."""
    for name, child in _children(node).items():
        path = f"{prefix}.{name}" if prefix else name
        yield path
        yield from _paths(child, path)


def _children(node: Any) -> dict[str, Any]:
    """Elements of a mapping, or of a list of branches by their blocks."""
    if isinstance(node, Mapping):
        return dict(node)
    if _is_list_of_blocks(node):
        return {child["block"]: child for child in node}
    return {}


def _is_list_of_blocks(node: Any) -> bool:
    return isinstance(node, list) and all(
        isinstance(child, Mapping) and isinstance(child.get("block"), str) for child in node
    )


def _find(tree: Any, path: str) -> Any:
    """Node at a full path, None where there is none."""
    for name in path.split("."):
        tree = _children(tree).get(name)
    return tree


def _fits(key: str, path: str) -> bool:
    """Tell whether a path has the parts of a key in order, and the same last one."""
    parts = iter(path.split("."))
    wanted = key.split(".")
    return path.split(".")[-1] == wanted[-1] and all(name in parts for name in wanted)


def _suggestion(key: str, known: list[str]) -> str:
    by_name = {path.rpartition(".")[2]: path for path in known}
    close = difflib.get_close_matches(key, known, n=3, cutoff=0.7)
    close += [
        by_name[name]
        for name in difflib.get_close_matches(key.rpartition(".")[2], list(by_name), n=3)
    ]
    return f"; close: {', '.join(dict.fromkeys(close))}" if close else ""


def _parts(node: Any, path: str, value: Any) -> list[tuple[str, Any]] | None:
    """Break a mapping into changes; None where the value replaces the node."""
    if not isinstance(value, Mapping):
        return None
    if _is_list_of_blocks(node):
        for block, keys in value.items():
            if not isinstance(keys, Mapping):
                raise KeyError(f"{path}.{block} needs keys of its own, such as hidden")
        return [
            (f"{path}.{block}.{name}", child)
            for block, keys in value.items()
            for name, child in keys.items()
        ]
    if not isinstance(node, dict):
        return None
    if "kind" in node and value.get("kind", node["kind"]) != node["kind"]:
        return None
    return [(f"{path}.{name}", child) for name, child in value.items()]


def _set(tree: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    parent: Any = tree
    for name in parents:
        children = _children(parent)
        if name not in children and _is_list_of_blocks(parent):
            parent.append({"block": name})
        parent = _children(parent).get(name)
    if not isinstance(parent, dict):
        raise KeyError(f"{path} needs keys of its own, such as hidden")
    if last == "kind" and parent.get("kind") != value:
        parent.clear()
        parent |= _defaults_of_kind(value)
    parent[last] = value


def _defaults_of_kind(kind: Any) -> dict[str, Any]:
    """Keys of a kind of readout or encoder with their defaults; those without one are null."""
    kinds: dict[str, type[Frozen]] = {**ENCODERS, **ReadoutConfig.kinds}
    cls = kinds.get(kind) if isinstance(kind, str) else None
    fields = cls.model_fields if cls else {}
    return {
        name: None if field.is_required() else to_jsonable_python(field.get_default())
        for name, field in fields.items()
    }


def read_setting(text: str) -> tuple[str, Any]:
    """Read a change written as ``KEY=VALUE``.

    The value is JSON or TOML where it is either, such as ``64``, ``1e-4``,
    ``true``, ``null`` or ``[512, 256]``, and text otherwise.

    Raises
    ------
    KvaeError
        Where there is no ``=`` or no key.
    """
    key, equals, value = text.partition("=")
    key, value = key.strip(), value.strip()
    if not equals or not key:
        raise KvaeError(f"--set {text}: KEY=VALUE expected, such as latent=64")
    try:
        return key, json.loads(value)
    except (ValueError, RecursionError):
        pass
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except (ValueError, RecursionError):
        return key, value
    # A date or time is no configuration's value: leave what looks like one as text.
    return key, parsed if isinstance(parsed, bool | int | float | str | list | dict) else value


def read_changes(path: str | Path) -> dict[str, Any]:
    """Read a TOML or JSON file of changes, such as a run's ``config.json``.

    Returns
    -------
    dict
        The content; ``preset``, if given, names the design to start from.

    Raises
    ------
    KvaeError
        Where the file is missing or is neither.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise KvaeError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise KvaeError(f"{path}: cannot be read: {error}") from None
    is_json = path.suffix.lower() == ".json"
    try:
        content = json.loads(text) if is_json else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise KvaeError(f"{path}: not valid {'JSON' if is_json else 'TOML'}: {error}") from None
    if not isinstance(content, dict):
        raise KvaeError(f"{path}: a JSON object expected")
    return content
