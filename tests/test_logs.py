"""What is logged: enough to find out what happened, and nothing where nobody asked."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import contract
import kvae
from kvae import _core
from kvae.encoding import encode
from kvae.logs import LOGGER, describe_inputs, one_line
from sequences import fasta, random_sequence, write
from small import MemoryStore
from training_runs import run

TEXT = fasta([("a", random_sequence(3_000)), ("short", "ACGT")])
LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ kvae[\w.]*: \S")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.fa", TEXT)
    return tmp_path


def test_importing_sets_nothing_up() -> None:
    code = (
        "import logging, kvae, kvae.logs, kvae.featurizing, kvae.store; "
        "assert not logging.getLogger().handlers; "
        "assert not logging.getLogger('kvae').handlers; "
        "assert logging.getLogger('kvae').level == logging.NOTSET"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_log_says_what_a_report_needs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KVAE_TEST_LONG", "0")
    line = ["featurize", "a.fa", "-o", "f.arrow", "--k", "3", "-t", "1", "--log-file", "log"]
    ended = contract.run(line, monkeypatch, capfd)
    assert ended.code == 0
    text = (folder / "log").read_text()
    assert all(LINE.match(entry) for entry in text.splitlines()), text
    for word in (
        f"kvae {kvae.__version__}, Python {sys.version.split()[0]}",
        "numpy",
        "torch",
        "featurize a.fa -o f.arrow",
        str(folder),
        f"instructions: {_core.backend()}",
        f"{os.cpu_count()} CPUs of which {_core.available_threads()} may be used",
        "'KVAE_TEST_LONG': '0'",
        f"input: a.fa: {len(TEXT):,} bytes",
        "k [3], window 5000, min_length 1000, store log, sequence True, threads 1",
        "left out of a.fa: 1 too short, 0 without a 7-mer",
        "1 rows of 3000 bases from 2 records in 1 files",
    ):
        assert word in text, word
    assert re.search(r"done in \d+\.\d+ s, peak memory \d+ MB\n$", text)
    # On the terminal it is as without.
    assert "kvae 0" not in ended.stderr


def test_logs_go_on_and_tell_of_failures(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    first = ["featurize", "a.fa", "-o", "f.arrow", "--log-file", "log", "-q"]
    assert contract.run(first, monkeypatch, capfd).stderr == ""
    before = (folder / "log").read_text()
    told = contract.run(first, monkeypatch, capfd).error()
    text = (folder / "log").read_text()
    assert text.startswith(before)
    assert told in text
    assert "Traceback (most recent call last):" in text.removeprefix(before)


def test_verbose_logs_to_the_terminal(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    ended = contract.run(["featurize", "a.fa", "-o", "f.arrow", "-v"], monkeypatch, capfd)
    assert re.search(rf"^\d\d:\d\d:\d\d input: a\.fa: {len(TEXT):,} bytes$", ended.stderr, re.M)
    assert "instructions: " in ended.stderr
    assert "Traceback" not in ended.stderr
    failed = contract.run(["featurize", "no.fa", "-o", "g.arrow", "-v"], monkeypatch, capfd)
    assert failed.code == 1
    assert failed.stderr.splitlines()[-1] == "kvae: error: no.fa: no such file or directory"
    assert "Traceback" not in failed.stderr


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a.fa", "cannot be an input or the output"),
        ("./a.fa", "cannot be an input or the output"),
        ("f.arrow", "cannot be an input or the output"),
        ("notes", "no log of kvae"),
        ("no/log", "cannot be written: No such file"),
        (".", "cannot be written: Is a directory"),
        ("/dev/full", "No space left"),
    ],
)
def test_a_log_takes_the_place_of_nothing(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    name: str,
    reason: str,
) -> None:
    write(folder / "notes", b"not to be lost\n")
    line = ["featurize", "a.fa", "-o", "f.arrow", "--log-file", name]
    if name == "/dev/full":
        # What cannot be logged does not stop what is done.
        ended = contract.run(line, monkeypatch, capfd)
        assert ended.code == 0
        (told,) = ended.warnings
        assert told == "kvae: warning: /dev/full: cannot be logged to: No space left on device"
        return
    with contract.unchanged(folder):
        assert reason in contract.run(line, monkeypatch, capfd).error()


def test_the_logger_is_left_as_it_was(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    before = (LOGGER.level, LOGGER.propagate, list(LOGGER.handlers))
    for line in (["a.fa", "-v"], ["no.fa", "-v", "--log-file", "log"]):
        contract.run(["featurize", *line], monkeypatch, capfd)
    assert (LOGGER.level, LOGGER.propagate, list(LOGGER.handlers)) == before


def test_programs_take_the_messages(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "kvae"):
        kvae.featurize("a.fa", "f.arrow", k=[3])
        rows = kvae.open_sequences(["a.fa"], k=[3])
    assert len(rows) == 1
    told = [(record.name, record.levelname) for record in caplog.records]
    assert ("kvae.featurizing", "INFO") in told
    assert ("kvae.sequences", "WARNING") in told


def test_what_is_left_out_of_sequences_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    odd = b">\n" + random_sequence(2_000).encode() + b"\n>short\nACGT\n"
    write(folder / "odd.fa", odd)
    line = ["encode", "--pretrained", "odd.fa", "-o", "latent.arrow", "--device", "cpu"]
    ended = contract.run(line, monkeypatch, capfd)
    assert ended.code == 0
    assert any("odd.fa" in told and "record_N" in told for told in ended.warnings)
    assert any("left out: 1 record(s)" in told for told in ended.warnings)
    quiet = contract.run([*line, "--force", "-q"], monkeypatch, capfd)
    assert (quiet.code, quiet.stderr) == (0, "")


def test_training_logs_its_stages(
    store: MemoryStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "kvae"):
        run(store, tmp_path / "run")
        encode(tmp_path / "run", store, device="cpu", threads=1)
    text = "\n".join(record.getMessage() for record in caplog.records)
    for pattern in (
        r"start in .*run: \{.*\"batch_size\"",
        r"opened \d+ rows in \d",
        r"cpu with 1 threads, fp32, 1 process",
        r"epoch 2: training loss [\d.]+, validation loss [\d.]+, lr .* rows/s",
        r"checkpoint epoch-000002\.safetensors",
        r"encoding \d+ rows of memory\.arrow",
    ):
        assert re.search(pattern, text), pattern


def test_inputs_are_described_without_opening_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(folder / "pipe")
    (folder / "in").mkdir()
    write(folder / "l", b"a.fa\n")
    described = list(describe_inputs(["a.fa", "@l", "in", "pipe", "-", "no"]))
    size = f"{len(TEXT):,} bytes"
    assert described == [
        f"a.fa: {size}",
        "@l: 5 bytes",
        "in: folder",
        "pipe: p (no regular file)",
        "standard input",
        "no: No such file or directory",
    ]
    assert one_line("a\nb\tc\x1b[31mé") == r"a\nb\tc\x1b[31mé"
