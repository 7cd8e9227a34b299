"""Outputs that are there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from kvae import KvaeError
from kvae.atomic import atomic_folder, atomic_output, check_output
from sequences import listing, write


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    with atomic_output(tmp_path / "out") as temporary:
        assert temporary.parent == tmp_path
        assert not (tmp_path / "out").exists()
        temporary.write_bytes(b"half")
        with temporary.open("ab") as file:
            file.write(b" and half")
        assert not (tmp_path / "out").exists()
    assert listing(tmp_path) == {"out": b"half and half"}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("force", [False, True])
def test_a_failure_leaves_things_as_they_were(
    tmp_path: Path, error: type[BaseException], force: bool
) -> None:
    if force:
        write(tmp_path / "out", b"old")
    before = listing(tmp_path)

    def fail() -> None:
        with atomic_output(tmp_path / "out", force=force) as temporary:
            temporary.write_bytes(b"new")
            raise error

    with pytest.raises(error):
        fail()
    assert listing(tmp_path) == before


def test_a_writer_may_remove_or_replace_its_file(tmp_path: Path) -> None:
    with atomic_output(tmp_path / "out") as temporary:
        temporary.unlink()
        temporary.write_bytes(b"again")
    assert listing(tmp_path) == {"out": b"again"}

    def fail() -> None:
        with atomic_output(tmp_path / "other") as temporary:
            temporary.unlink()
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert listing(tmp_path) == {"out": b"again"}


def test_an_existing_file_is_kept_unless_forced(tmp_path: Path) -> None:
    path = write(tmp_path / "out", b"old")
    with pytest.raises(KvaeError, match="exists already"), atomic_output(path):
        pytest.fail("there is nothing to write to")
    assert listing(tmp_path) == {"out": b"old"}
    with atomic_output(path, force=True) as temporary:
        temporary.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert listing(tmp_path) == {"out": b"new"}


def test_a_file_made_meanwhile_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "out"

    def race() -> None:
        with atomic_output(path) as temporary:
            temporary.write_bytes(b"ours")
            path.write_bytes(b"theirs")

    with pytest.raises(KvaeError, match="meanwhile"):
        race()
    assert listing(tmp_path) == {"out": b"theirs"}


def test_two_writers_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with atomic_output(path, force=True) as first, atomic_output(path, force=True) as second:
        assert first != second
        first.write_bytes(b"first")
        second.write_bytes(b"second")
    assert listing(tmp_path) == {"out": b"first"}


def test_readers_of_the_old_file_keep_it(tmp_path: Path) -> None:
    path = write(tmp_path / "out", b"old")
    with path.open("rb") as reader:
        with atomic_output(path, force=True) as temporary:
            temporary.write_bytes(b"new")
        assert reader.read() == b"old"


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_a_file_has_the_mode_of_any_new_file(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        with atomic_output(tmp_path / "out") as temporary:
            temporary.write_bytes(b"x")
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o666 & ~mask


def test_data_reaches_the_device_before_the_name_and_the_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, bool]] = []
    fsync = os.fsync

    def record(handle: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file"
        synced.append((kind, (tmp_path / "out").exists()))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", record)
    with atomic_output(tmp_path / "out") as temporary:
        temporary.write_bytes(b"x")
    assert synced == [("file", False), ("folder", True)]


def test_links_are_written_through(tmp_path: Path) -> None:
    real = write(tmp_path / "disk/real", b"old")
    link = tmp_path / "out"
    link.symlink_to(real)
    with pytest.raises(KvaeError, match="exists already"):
        check_output(link)
    with atomic_output(link, force=True) as temporary:
        assert temporary.parent == real.parent
        temporary.write_bytes(b"new")
    assert link.is_symlink()
    assert real.read_bytes() == b"new"
    dangling = tmp_path / "dangling"
    dangling.symlink_to("disk/later")
    with atomic_output(dangling) as temporary:
        temporary.write_bytes(b"later")
    assert dangling.is_symlink()
    assert (tmp_path / "disk/later").read_bytes() == b"later"
    nowhere = tmp_path / "nowhere"
    nowhere.symlink_to("missing/file")
    with pytest.raises(KvaeError, match="does not exist"):
        check_output(nowhere)


def test_check_output_resolves_and_makes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert check_output("out.arrow") == tmp_path.resolve() / "out.arrow"
    assert check_output(Path("./out.arrow")) == tmp_path.resolve() / "out.arrow"
    assert list(tmp_path.iterdir()) == []


def test_long_names_are_written(tmp_path: Path) -> None:
    """The temporary file's name must fit wherever the output's own does."""
    path = tmp_path / ("n" * 249 + ".arrow")
    with atomic_output(path) as temporary:
        temporary.write_bytes(b"x")
    assert listing(tmp_path) == {path.name: b"x"}


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("missing/out", "does not exist"),
        ("a/b/c/out", "does not exist"),
        ("file/out", "does not exist"),
        ("folder", "is a folder"),
        ("folder/", "is a folder"),
        (".", "is a folder"),
        ("", "is a folder"),
        ("/dev/null", "not a regular file"),
        ("pipe", "not a regular file"),
        ("n" * 300, "too long"),
        ("loop", "symbolic links"),
    ],
)
@pytest.mark.parametrize("force", [False, True])
def test_outputs_that_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, reason: str, force: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "file", b"x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo("pipe")
    before = sorted(os.listdir(tmp_path))
    with (
        pytest.raises(KvaeError, match=re.escape(reason)) as error,
        atomic_output(path, force=force),
    ):
        pytest.fail("there is nothing to write to")
    assert "\n" not in str(error.value)
    assert sorted(os.listdir(tmp_path)) == before


READ_ONLY = """
import os, sys
from kvae import KvaeError
from kvae.atomic import atomic_output

# Whoever may write everywhere does not see the folder's mode.
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    with atomic_output(sys.argv[1]):
        pass
except KvaeError as error:
    print(error)
"""


def test_a_folder_that_cannot_be_written_to() -> None:
    # Below a temporary folder of pytest, other users could not even look.
    command = [sys.executable, "-c", READ_ONLY, "/etc/kvae-test.arrow"]
    if not os.access(sys.executable, os.X_OK) or os.stat("/etc").st_mode & stat.S_IWOTH:
        pytest.skip("needs a folder that is not everyone's")
    result = subprocess.run(command, capture_output=True, text=True)
    if "PermissionError" in result.stderr or "ModuleNotFoundError" in result.stderr:
        pytest.skip("another user cannot import the package here")
    assert re.fullmatch(
        r"/etc/kvae-test\.arrow: cannot write.*: Permission denied\n", result.stdout
    )


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    with atomic_folder(target) as temporary:
        (temporary / "a").write_text("new")
        assert not target.exists()
    assert (target / "a").read_text() == "new"

    def fail() -> None:
        with atomic_folder(target) as temporary:
            (temporary / "a").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert (target / "a").read_text() == "new"
    with atomic_folder(target) as temporary:
        (temporary / "b").write_text("newer")
    assert [path.name for path in target.iterdir()] == ["b"]
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    with pytest.raises(KvaeError, match="cannot write to its folder"):
        atomic_folder(tmp_path / "missing" / "folder").__enter__()


@pytest.mark.parametrize("failing", ["fsync", "exchange", "rename", "none"])
def test_a_folder_is_replaced_or_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    target = tmp_path / "folder"
    write(target / "a", b"old")

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    if failing == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    elif failing == "exchange":
        monkeypatch.setattr("kvae.atomic.exchange", fail)
    else:
        # As where the file system cannot exchange them.
        monkeypatch.setattr("kvae.atomic.exchange", lambda *_: False)
        real = Path.rename

        def rename(self: Path, to: Path) -> Path:
            if failing == "rename" and to == target and self.name != target.name:
                fail()
            return real(self, to)

        monkeypatch.setattr(Path, "rename", rename)
    expectation: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
    if failing != "none":
        expectation = pytest.raises(KvaeError, match=f"^{target}: cannot be written: input/output")
    with expectation, atomic_folder(target) as temporary:
        (temporary / "a").write_text("new")
    assert listing(tmp_path) == {
        "folder": None,
        "folder/a": b"new" if failing == "none" else b"old",
    }


def test_what_else_fails_is_not_put_down_to_the_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"), atomic_folder(tmp_path / "folder"):
        (tmp_path / "absent").read_bytes()
    assert list(tmp_path.iterdir()) == []
