"""The configuration of a run, new or resumed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvae import defaults
from kvae.config import RunConfig, override, read_changes
from kvae.errors import KvaeError
from kvae.presets import get_preset

if TYPE_CHECKING:
    from kvae.run_folder import RunFolder

# Training settings that a resumed run may change: they decide how far and how fast
# it goes and what survives, not what is computed. A table of labels may have been moved;
# what it says is compared with what it said.
_FREE = ("epochs", "checkpoint_minutes", "compile", "labels")


def configure(
    preset: str | None = None,
    config: RunConfig | str | Path | None = None,
    changes: Mapping[str, Any] | None = None,
) -> RunConfig:
    """Assemble the configuration of a new run.

    Parameters
    ----------
    preset
        Design to start from, by name.
    config
        A whole configuration instead, or a TOML or JSON file with what differs
        from its ``preset`` (see `kvae.config.read_changes`).
    changes
        Keys to values on top of that, see `kvae.config.override`.

    Returns
    -------
    RunConfig
        The default preset where neither it nor ``config`` is given.

    Raises
    ------
    KvaeError
        For an unknown preset or key, contradicting arguments or a value that is
        not allowed.
    """
    changes = _settable(changes or {})
    if isinstance(config, RunConfig):
        if preset is not None:
            raise KvaeError("give either a preset or a configuration, not both")
        return override(config, changes)
    own, content = (None, {}) if config is None else _read_file(config)
    if own is not None and preset is not None and own != preset:
        raise KvaeError(f"{config} starts from preset {own}, not {preset}: give one of them")
    name = preset or own or defaults.PRESET
    chosen = get_preset(name)
    base = RunConfig(preset=name, model=chosen.model, loss=chosen.loss)
    return override(override(base, content, str(config)), changes)


def _settable(changes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Refuse changes of what is no setting: they would mislabel the run."""
    for key in ("preset", "format"):
        if key in changes:
            raise KvaeError(f"{key} cannot be set: choose a design with --preset")
    return changes


def _read_file(path: str | Path) -> tuple[str | None, dict[str, Any]]:
    """Preset and changes of a configuration file."""
    content = read_changes(path)
    ours = RunConfig.model_fields["format"].default
    found = content.pop("format", ours)
    if found != ours:
        raise KvaeError(f"{path}: format is {found!r}, {ours} expected")
    preset = content.pop("preset", None)
    if not isinstance(preset, str | None):
        raise KvaeError(f"{path}: preset: the name of a design expected")
    return preset, content


def continued(
    folder: RunFolder,
    preset: str | None,
    config: RunConfig | str | Path | None,
    changes: Mapping[str, Any],
) -> RunConfig:
    """Return the configuration of a resumed run: its own, with more epochs if asked for.

    Raises
    ------
    KvaeError
        Where a key is asked to change that would make it another run; the
        message names the key and both values.
    """
    own = folder.read_config()
    asked = own
    if isinstance(config, RunConfig):
        asked = config
    elif config is not None:
        file_preset, content = _read_file(config)
        preset = preset or file_preset
        asked = override(own, content, str(config))
    asked = override(asked, _settable(changes))
    if asked.training.init_share is None:
        # Left open, and settled when the run began.
        asked = override(asked, {"training.init_share": own.training.init_share})
    if preset is not None and preset != own.preset:
        raise KvaeError(f"{folder.path} was started with preset {own.preset}, not {preset}")
    free = {f"training.{key}": getattr(asked.training, key) for key in _FREE}
    if override(own, free) != asked:
        key, was, wanted = _difference(own.model_dump(), asked.model_dump())
        raise KvaeError(
            f"{folder.path} was started with {key} {was}, not {wanted}: a resumed run "
            f"keeps its configuration, only {', '.join(_FREE)} may change"
        )
    return asked


def _difference(old: Any, new: Any, key: str = "") -> tuple[str, Any, Any]:
    """First value that differs between two configurations, with its dotted key."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in old:
            if name not in _FREE and old[name] != new.get(name):
                return _difference(old[name], new.get(name), f"{key}.{name}".lstrip("."))
    return key, old, new
