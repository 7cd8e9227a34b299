"""What type checkers are told about the extension is what it is."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import kvae
from sequences import PROJECT


def test_the_stub_is_that_of_the_extension() -> None:
    command = [sys.executable, "-m", "mypy.stubtest", "kvae._core"]
    result = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_package_is_typed() -> None:
    spec = importlib.util.find_spec("kvae")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent
    assert (folder / "py.typed").is_file()
    assert (folder / "_core.pyi").is_file()
    assert Path(kvae.__file__).parent == folder
