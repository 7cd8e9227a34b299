"""Modules of users, loaded for what they register."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

from kvae.errors import KvaeError


def load_plugin(name: str) -> None:
    """Import a module that registers parts of models, such as a readout.

    A plugin is code that the user chose to run: names come from the command line
    or the environment, never from a file of a run.

    Parameters
    ----------
    name
        A module that can be imported, or the path of a ``.py`` file.

    Raises
    ------
    KvaeError
        Where there is no such module or file. Mistakes inside of it keep their
        traceback.
    """
    if name.endswith(".py"):
        _load_file(Path(name))
        return
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise KvaeError(
            f"--plugin {name}: no such module; a file is given by its path, such as {name}.py"
        ) from None


def _load_file(path: Path) -> None:
    # A name of its own: a file called torch.py must not become torch.
    name = f"kvae_plugin:{path.resolve()}"
    if name in sys.modules:
        return
    if not path.is_file():
        raise KvaeError(f"--plugin {path}: no such file")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
