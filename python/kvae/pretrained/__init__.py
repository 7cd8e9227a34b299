"""The model that comes with the package, and other models to start from.

``MODEL_CARD.md`` beside this file says what it was trained on, what it reaches and
what it is not for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kvae.errors import KvaeError
from kvae.remote.uris import has_uris

if TYPE_CHECKING:
    from kvae.config import ModelConfig
    from kvae.model import KmerVAE

__all__ = ["PRETRAINED", "StartingModel", "model_path", "run_or_pretrained"]

# The names that stand for it where a run or a model file could.
PRETRAINED = "pretrained"
_NAMES = (PRETRAINED, "kvae")
_FILE = Path(__file__).with_name("kvae.safetensors")


def model_path(name: str | Path) -> Path:
    """Find a model file by the word ``pretrained``, by its run folder or by its path.

    ``kvae``, the name of its preset, stands for it too where there is nothing of that name.

    Raises
    ------
    KvaeError
        Where there is none.
    """
    path = _local(name)
    if path.is_dir():
        path = path / "model.safetensors"
    if str(name) == PRETRAINED or (str(name) in _NAMES and not path.is_file()):
        path = _FILE
    if not path.is_file():
        raise KvaeError(f"{name}: no model there: give a run, a model file, or {PRETRAINED}")
    return path


def run_or_pretrained(name: str | Path, *, cache: str | Path | None = None) -> Path:
    """Resolve the word ``pretrained``, unless there is something of that name, and URIs.

    Raises
    ------
    KvaeError
        If a remote run cannot be fetched to the folder for copies.
    """
    path = _local(name, cache)
    return model_path(PRETRAINED) if str(name) == PRETRAINED and not path.exists() else path


def _local(name: str | Path, cache: str | Path | None = None) -> Path:
    """Give the path of a run or file, of a remote one that of its copy."""
    if has_uris([name]):
        from kvae.remote.caching import run_copy

        return run_copy(name, cache=cache)
    return Path(name)


@dataclass(frozen=True)
class StartingModel:
    """A model whose weights another one starts from.

    Attributes
    ----------
    name
        As for `model_path`.
    """

    name: str | Path

    @property
    def is_pretrained(self) -> bool:
        """Whether it is the package's own."""
        return model_path(self.name) == _FILE

    @property
    def config(self) -> ModelConfig:
        """Its architecture."""
        from kvae.model.files import read_model_config

        return read_model_config(model_path(self.name))

    def copy_to(self, model: KmerVAE) -> None:
        """Give its weights to a model of the same architecture.

        Raises
        ------
        KvaeError
            For a damaged file, or rows of another layout.
        """
        from kvae.model import KmerVAE

        loaded = KmerVAE.load(model_path(self.name), layout=model.layout)
        model.load_state_dict(loaded.state_dict())
