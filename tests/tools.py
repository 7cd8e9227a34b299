"""Programs that some tests need: skipped without, and failing where they have to be there.

`.ci/run` adds the dependency groups ``tools`` and ``scale`` to the environment and runs the
tests marked so in it, with KVAE_TEST_TOOLS=1: what is missing then is no reason to skip.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from typing import TypeVar

import pytest

REQUIRED = os.environ.get("KVAE_TEST_TOOLS", "") not in ("", "0")

T = TypeVar("T", bound=Callable[..., object])


def marks_of(package: str, group: str) -> list[pytest.MarkDecorator]:
    """Marks of tests that need a package of a dependency group."""
    is_missing = not REQUIRED and importlib.util.find_spec(package) is None
    reason = f"needs {package}: uv run --group {group} pytest"
    return [pytest.mark.tools, pytest.mark.skipif(is_missing, reason=reason)]


def needs(package: str, group: str) -> Callable[[T], T]:
    """Mark one test that needs a package of a dependency group."""

    def mark(test: T) -> T:
        for each in marks_of(package, group):
            test = each(test)
        return test

    return mark
