"""Packages that only some outputs need."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from kvae.errors import KvaeError

__all__ = ["require"]


def require(package: str, extra: str, purpose: str) -> Any:
    """Import a package that is no dependency of kvae.

    Parameters
    ----------
    package
        Its name.
    extra
        The extra of kvae that installs it.
    purpose
        What it is needed for, as the subject of a sentence.

    Raises
    ------
    KvaeError
        Where it is not installed.
    """
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != package.split(".")[0]:
            raise
        message = f"{purpose} needs {package}, which is not installed: pip install 'kvae[{extra}]'"
        raise KvaeError(message) from None
