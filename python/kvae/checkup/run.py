"""``kvae.doctor``: everything that is looked at, in one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvae.checkup.advice import advice, problems
from kvae.checkup.devices import device_facts
from kvae.checkup.machine import folder_facts, memory_facts, processor_facts, simd_facts
from kvae.checkup.packages import package_facts
from kvae.errors import KvaeError

__all__ = ["Checkup", "doctor"]


@dataclass(frozen=True)
class Checkup:
    """What `doctor` found.

    Attributes
    ----------
    facts
        By subject: ``packages``, ``simd``, ``processor``, ``memory`` (bytes),
        ``devices`` and ``folder``.
    problems
        What keeps kvae from working, a line each.
    advice
        What works but could be better, a line each.
    """

    facts: dict[str, Any]
    problems: list[str]
    advice: list[str]

    @property
    def works(self) -> bool:
        """Whether there are no problems."""
        return not self.problems

    def as_json(self) -> str:
        """Everything as JSON."""
        content = {**self.facts, "problems": self.problems, "advice": self.advice}
        return json.dumps(content, indent=2, ensure_ascii=False)


def doctor(folder: str | Path = ".") -> Checkup:
    """Look at this machine as kvae sees it.

    A few thousand bases are counted with every kind of instructions, and a product is
    computed on the device that a run would take. Nothing is left behind.

    Parameters
    ----------
    folder
        Where outputs would go.

    Returns
    -------
    Checkup

    Raises
    ------
    KvaeError
        If there is no such folder.
    """
    if not Path(folder).is_dir():
        raise KvaeError(f"{folder}: no such folder: make it, or name another one")
    facts = {
        "packages": package_facts(),
        "simd": simd_facts(),
        "processor": processor_facts(),
        "memory": memory_facts(),
        "devices": device_facts(),
        "folder": folder_facts(Path(folder)),
    }
    return Checkup(facts, list(problems(facts)), list(advice(facts)))
