"""The configuration of a run, new or resumed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kvae import defaults
from kvae.config import RunConfig, override
from kvae.errors import KvaeError
from kvae.presets import get_preset

if TYPE_CHECKING:
    from kvae.run_folder import RunFolder


def configure(
    preset: str | None, config: RunConfig | None, changes: Mapping[str, Any]
) -> RunConfig:
    """Assemble the configuration of a new run.

    Parameters
    ----------
    preset, config
        At most one of them; the default preset where both are None.
    changes
        Dotted keys to values, see `kvae.config.override`.

    Raises
    ------
    KvaeError
        For an unknown preset, contradicting arguments or a value out of bounds.
    """
    if config is None:
        name = preset or defaults.PRESET
        chosen = get_preset(name)
        config = RunConfig(preset=name, model=chosen.model, loss=chosen.loss)
    elif preset is not None:
        raise KvaeError("give either a preset or a configuration, not both")
    return override(config, changes)


def continued(
    folder: RunFolder,
    preset: str | None,
    config: RunConfig | None,
    changes: Mapping[str, Any],
) -> RunConfig:
    """Return the configuration of a resumed run: its own, with more epochs if asked for.

    Raises
    ------
    KvaeError
        Where anything else than the number of epochs is asked to change; the
        message names the key and both values.
    """
    own = folder.read_config()
    asked = own if config is None else config
    asked = override(asked, changes)
    if preset is not None and preset != own.preset:
        raise KvaeError(f"{folder.path} was started with preset {own.preset}, not {preset}")
    epochs = {"training.epochs": asked.training.epochs}
    if override(own, epochs) != asked:
        key, was, wanted = _difference(own.model_dump(), asked.model_dump())
        raise KvaeError(
            f"{folder.path} was started with {key} {was}, not {wanted}: a resumed run "
            "keeps its configuration, only epochs may change"
        )
    return asked


def _difference(old: Any, new: Any, key: str = "") -> tuple[str, Any, Any]:
    """First value that differs between two configurations, with its dotted key."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in old:
            if name != "epochs" and old[name] != new.get(name):
                return _difference(old[name], new.get(name), f"{key}.{name}".lstrip("."))
    return key, old, new
