"""The examples of the documentation, as a reader would run them."""

from __future__ import annotations

import re
from typing import Any

from sequences import PROJECT


def blocks(page: str, language: str) -> list[str]:
    """Code of one language on a page of docs/."""
    text = (PROJECT / "docs" / page).read_text(encoding="utf-8")
    found = re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert found, f"{page} has no {language}"
    return found


def run_python(page: str) -> dict[str, Any]:
    """Run the Python of a page from top to bottom; what it has named."""
    names: dict[str, Any] = {}
    for number, block in enumerate(blocks(page, "python"), start=1):
        exec(compile(block, f"{page}, block {number}", "exec"), names)
    return names
