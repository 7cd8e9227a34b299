"""How much a test does: little by default, all of it with KVAE_TEST_LONG=1."""

from __future__ import annotations

import os

LONG = os.environ.get("KVAE_TEST_LONG", "") not in ("", "0")


def rather(few: int, many: int) -> int:
    """The first number by default, the second one where tests may take long."""
    return many if LONG else few
