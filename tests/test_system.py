"""What operating systems do differently."""

from __future__ import annotations

import gc
import os
import stat
import sys
from pathlib import Path

import pytest

from kvae import system


def test_new_files_have_the_mode_of_any_other(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        path = tmp_path / "a"
        path.touch(mode=0o600)
        system.use_default_mode(path, 0o666)
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_files_and_folders_are_waited_for(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    system.sync(tmp_path / "a")
    system.sync(tmp_path)
    with pytest.raises(FileNotFoundError):
        system.sync(tmp_path / "b")


def test_memory_is_told_in_bytes() -> None:
    held = bytearray(b"x") * (64 << 20)
    peak = system.peak_memory()
    found = system.memory()
    assert peak is not None
    assert found is not None
    assert len(held) < peak < found[0]


@pytest.mark.skipif(sys.platform == "win32", reason="no limit there")
def test_open_files_can_be_allowed() -> None:
    limits = system.open_files()
    assert limits is not None
    soft, hard = limits
    try:
        system.set_open_files(soft - 1, hard)
        assert system.open_files() == (soft - 1, hard)
    finally:
        system.set_open_files(soft, hard)
    assert system.open_files() == limits


def test_a_file_in_memory_is_in_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def content() -> bytes:
        with system.file_in_memory() as path:
            Path(path).write_bytes(b"ACGT")
            return Path(path).read_bytes()

    assert content() == b"ACGT"
    monkeypatch.delattr(os, "memfd_create", raising=False)
    with system.file_in_memory() as path:
        Path(path).write_bytes(b"ACGT")
        assert Path(path).read_bytes() == b"ACGT"
    gc.collect()
    assert not Path(path).exists()
