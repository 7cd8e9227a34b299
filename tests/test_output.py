"""Where a feature file appears, and when it does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import kvae
import reference
from feature_tables import (
    GOOD,
    RECORDS,
    TRUNCATED,
    table,
)
from sequences import (
    listing,
    random_sequence,
    write,
)


def test_an_existing_output_is_kept_unless_forced(tmp_path: Path) -> None:
    path = write(tmp_path / "a.fna", GOOD)
    output = write(tmp_path / "out.arrow", b"precious")
    with pytest.raises(kvae.KvaeError, match=r"out\.arrow: exists already"):
        kvae.featurize(path, output)
    assert listing(tmp_path) == {"a.fna": GOOD, "out.arrow": b"precious"}
    kvae.featurize(path, output, force=True)
    assert len(table(output)) == len(reference.cut(RECORDS).rows)
    assert sorted(listing(tmp_path)) == ["a.fna", "out.arrow"]


def test_a_failed_run_leaves_the_old_output(tmp_path: Path) -> None:
    bad = write(tmp_path / "bad.fna", TRUNCATED)
    output = write(tmp_path / "out.arrow", b"precious")
    before = listing(tmp_path)
    with pytest.raises(kvae.KvaeError, match="truncated"):
        kvae.featurize(bad, output, force=True)
    assert listing(tmp_path) == before


def test_the_output_must_not_be_an_input(tmp_path: Path) -> None:
    path = write(tmp_path / "in/a.fna", GOOD)
    link = tmp_path / "link.fna"
    link.symlink_to(path)
    write(tmp_path / "list.txt", f"{path}\n".encode())
    before = listing(tmp_path)
    pairs: list[tuple[Any, Path]] = [
        (path, path),
        (link, path),
        (path, link),
        (path.parent, path),
        (f"@{tmp_path / 'list.txt'}", path),
    ]
    for inputs, output in pairs:
        with pytest.raises(kvae.KvaeError, match="one of the inputs"):
            kvae.featurize(inputs, output, force=True)
        assert listing(tmp_path) == before


def test_the_output_must_not_be_a_list_of_inputs(tmp_path: Path) -> None:
    path = write(tmp_path / "a.fna", GOOD)
    names = write(tmp_path / "list.txt", f"{path}\n".encode())
    with pytest.raises(kvae.KvaeError, match="one of the inputs"):
        kvae.featurize(f"@{names}", names, force=True)
    assert names.read_text() == f"{path}\n"


def test_a_linked_output_is_written_behind_the_link(tmp_path: Path) -> None:
    path = write(tmp_path / "a.fna", GOOD)
    (tmp_path / "disk").mkdir()
    (tmp_path / "out.arrow").symlink_to("disk/real.arrow")
    kvae.featurize(path, tmp_path / "out.arrow", k=[7])
    assert (tmp_path / "out.arrow").is_symlink()
    assert len(table(tmp_path / "disk/real.arrow"))
    assert sorted(listing(tmp_path)) == ["a.fna", "disk", "disk/real.arrow", "out.arrow"]


@pytest.mark.parametrize("output", ["missing/out.arrow", ".", "/dev/null", "a.fna/out.arrow"])
def test_an_output_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.fna", GOOD)
    with pytest.raises(kvae.KvaeError) as error:
        kvae.featurize("a.fna", output, force=True)
    assert str(error.value).startswith(f"{output}: ")
    assert list(listing(tmp_path)) == ["a.fna"]


# --- progress ----------------------------------------------------------------------


def test_progress_is_told_and_may_stop_the_run(tmp_path: Path, data_files: list[Path]) -> None:
    told: list[tuple[int, int | None, int, int]] = []
    size = sum(path.stat().st_size for path in data_files)
    result = kvae.featurize(
        data_files, tmp_path / "out.arrow", progress=lambda *now: told.append(now)
    )
    assert told[-1] == (size, size, result.rows, result.bases)
    assert told == sorted(told)

    def stop(*_: object) -> None:
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        kvae.featurize(data_files, tmp_path / "other.arrow", progress=stop)
    assert list(listing(tmp_path)) == ["out.arrow"]


# --- memory --------------------------------------------------------------------------

PEAK = """
import re
import sys
from pathlib import Path
import kvae
kvae.featurize(sys.argv[1], sys.argv[2], k=[3], sequence=False, threads=2)
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.parametrize("width", [60, 10**9], ids=["lines", "one line"])
def test_memory_does_not_grow_with_a_record(tmp_path: Path, width: int) -> None:
    line = random_sequence(1_000_020)
    lines = [line[i : i + width] for i in range(0, len(line), width)]
    text = ("" if width > len(line) else "\n").join([*lines, ""])
    peaks = []
    for megabases in (10, 120):
        path = write(tmp_path / "a.fna", b">a\n" + text.encode() * megabases)
        output = tmp_path / f"{megabases}.arrow"
        command = [sys.executable, "-c", PEAK, str(path), str(output)]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(int(result.stdout))
        path.unlink()
    kilobytes = 30_000
    assert peaks[1] - peaks[0] < kilobytes
