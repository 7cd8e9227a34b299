"""The tests of the Rust half, so that one command runs everything."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from sequences import PROJECT


@pytest.mark.timeout(1800)
def test_cargo_test() -> None:
    cargo = shutil.which("cargo")
    if cargo is None:
        pytest.skip("needs cargo, which is not on the PATH")
    command = [cargo, "test", "--locked"]
    result = subprocess.run(
        command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if result.returncode:
        print(result.stdout)
    assert result.returncode == 0, "the tests of the crate fail: see the output"
