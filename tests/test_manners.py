"""Manners of the program: completion, colours, width, and summaries for programs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import kvae
from in_process import kvae as program
from kvae import defaults
from kvae.cli.common import warn
from kvae.cli.tables import print_table
from kvae.presets import PRESETS
from kvae.run_folder import RunFolder
from sequences import fasta, random_sequence, write

pty = pytest.importorskip("pty", reason="needs terminals as Unix has them")

# Numbers of a colour in a sequence that sets how letters look; bold and the like are none.
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3\d|4\d|9\d|10\d)(?:;\d+)*m")


def on_a_terminal(*args: str, **variables: str) -> tuple[int, str]:
    """Run the program on a terminal; its exit code and all that it prints."""
    environment = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    environment |= {"TERM": "xterm-256color", "COLUMNS": "80"} | variables
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "kvae", *args]
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, close_fds=True
    ) as process:
        os.close(theirs)
        parts = []
        while True:
            try:
                part = os.read(ours, 1 << 16)
            except OSError:
                # What Linux says when the other side is closed.
                break
            if not part:
                break
            parts.append(part)
    os.close(ours)
    return process.returncode, b"".join(parts).decode()


# --- completion ----------------------------------------------------------------------


def completed(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> list[str]:
    """What bash offers for the last word of a line."""
    words = line.split(" ")
    monkeypatch.setenv("_KVAE_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    program("kvae", monkeypatch)
    return capsys.readouterr().out.split()


def test_commands_and_options_are_completed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def offers(line: str) -> list[str]:
        return completed(line, monkeypatch, capsys)

    assert offers("kvae feat") == ["featurize"]
    assert {"train", "encode", "export", "doctor"} < set(offers("kvae "))
    assert "--min-length" in offers("kvae featurize --min")
    assert offers("kvae featurize --store p") == ["packed"]
    assert offers("kvae train --preset d") == ["deep", "dot"]
    assert offers("kvae train --device cu") == ["cuda"]
    assert offers("kvae export --what c") == ["counts"]
    # Nothing is offered for a file, so that the shell completes it itself.
    assert offers("kvae encode run fea") == []


def test_every_preset_is_offered() -> None:
    assert set(defaults.PRESETS) == set(PRESETS)
    assert defaults.PRESETS[0] == defaults.PRESET


def test_a_shell_is_taught_to_complete(tmp_path: Path) -> None:
    here = Path(sys.executable).parent
    if not (here / "kvae").is_file():
        pytest.skip("needs the installed program")
    script = """
        kvae --install-completion >/dev/null || exit 1
        source ~/.bash_completions/kvae.sh
        COMP_WORDS=(kvae feat) COMP_CWORD=1
        _kvae_completion kvae
        echo "${COMPREPLY[@]}"
        kvae --show-completion
    """
    environment = os.environ | {"HOME": str(tmp_path), "PATH": f"{here}:{os.environ['PATH']}"}
    result = subprocess.run(
        ["bash", "--norc", "-c", script], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    offered, _, shown = result.stdout.partition("\n")
    assert offered == "featurize"
    assert "_KVAE_COMPLETE=complete_bash" in shown
    assert "kvae.sh" in (tmp_path / ".bashrc").read_text()


# --- colours -------------------------------------------------------------------------


def test_no_color_is_respected(tmp_path: Path) -> None:
    source = write(tmp_path / "a.fna", fasta([("", random_sequence(1_000))]))
    featurize = ("featurize", str(source), "--force", "-o", str(tmp_path / "a.arrow"))
    for args, code in ((("--help",), 0), (("featurize", "--nonsense"), 2), (featurize, 0)):
        coloured, plain = (
            on_a_terminal(*args, **variables) for variables in ({}, {"NO_COLOR": "1"})
        )
        assert (coloured[0], plain[0]) == (code, code), plain[1]
        assert COLOUR.search(coloured[1]), args
        assert not COLOUR.search(plain[1]), args


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
    ids=["terminal", "NO_COLOR", "empty", "dumb"],
)
def test_warnings(
    variables: dict[str, str],
    coloured: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    said: list[str] = []
    monkeypatch.setattr("typer.echo", lambda text, err: said.append(text))
    warn("odd")
    assert bool(COLOUR.search(said[0])) == coloured
    assert "kvae: warning: odd" in said[0]
    assert capsys.readouterr().err == ""


# --- width ---------------------------------------------------------------------------

HEADER = ["name", *(f"column {i}" for i in range(9))]
LINES = [[f"row {i}", *(f"{i}.{j:06d}" for j in range(9))] for i in range(3)]


def printed(
    columns: int | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> list[str]:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(columns or 80))
    monkeypatch.setenv("TTY_COMPATIBLE", "0" if columns is None else "1")
    print_table("a title", HEADER, LINES)
    text = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def test_a_table_has_all_its_width_for_a_program(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = printed(None, monkeypatch, capsys)
    assert len(lines) == 3 + len(LINES)
    assert re.split(r"\s{2,}", lines[1].strip()) == HEADER
    assert [re.split(r"\s{2,}", line.strip()) for line in lines[3:]] == LINES


@pytest.mark.parametrize("width", [20, 45, 80, 119, 130])
def test_a_table_fits_the_terminal(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = printed(width, monkeypatch, capsys)
    assert max(map(len, lines)) <= max(width, 25)
    assert lines[0] == "a title"
    names = [cell for line in lines if "name" in line for cell in re.split(r"\s{2,}", line.strip())]
    assert [name for name in names if name != "name"] == HEADER[1:]
    for row, *cells in LINES:
        found = [re.split(r"\s{2,}", line.strip())[1:] for line in lines if row in line]
        assert [cell for part in found for cell in part] == cells
    if width > 119:
        assert len(lines) == 3 + len(LINES)


# --- summaries for programs ----------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command with --json; what it prints, as an object."""
    monkeypatch.chdir(tmp_path)

    def run(line: str, code: int = 0) -> dict[str, Any]:
        assert program(f"kvae {line} --json", monkeypatch) == code
        told = capsys.readouterr()
        content = json.loads(told.out)
        assert isinstance(content, dict)
        if "-q" in line.split():
            assert told.err == ""
        else:
            assert told.err
        return content

    return run


def test_commands_say_as_json_what_they_did(run: Any, data_files: list[Path]) -> None:
    inputs = " ".join(map(str, data_files))
    made = run(f"featurize {inputs} -o feats.arrow")
    assert made["output"] == "feats.arrow"
    assert made["rows"] == len(kvae.FeatureStore("feats.arrow")) == 71
    assert made["files"] == 4
    assert made["bases"] > 3e5
    assert made["seconds"] > 0
    assert made["warnings"] == made["bad"] == []

    trained = run("train feats.arrow --preset dot --epochs 1 --latent 6 --device cpu -t 1 -q")
    assert trained["run"] == "run"
    assert (trained["epochs"], trained["best_epoch"]) == (1, 1)
    (line,) = RunFolder("run").read_metrics()
    assert trained["metrics"] == line
    assert trained["train_rows"] + trained["validation_rows"] == 71

    encoded = run("encode run feats.arrow -o latent.npz --device cpu")
    assert encoded == {"output": "latent.npz", "rows": 71, "latent": 6}
    exported = run("export latent.npz -o latent.tsv")
    assert exported == {"output": "latent.tsv", "content": "latents", "rows": 71, "columns": 6}


def test_what_was_left_out_is_part_of_it(run: Any, tmp_path: Path) -> None:
    records = [("a", random_sequence(2000)), ("b", random_sequence(10)), ("a", "ACGT" * 500)]
    write(tmp_path / "in/b.fna", fasta(records))
    write(tmp_path / "in/a.fna", b">a\nMEQ\n")
    made = run("featurize in -o feats.arrow -t 1 --skip-bad", code=1)
    assert made["skipped"] == [["in/b.fna", 1, 0]]
    assert made["too_short"] == 1
    assert len(made["bad"]) == 1
    assert "in/a.fna" in made["bad"][0]
    assert len(made["warnings"]) == 1
    assert "'a'" in made["warnings"][0]


def test_a_mistake_prints_no_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for line in (
        "featurize missing.fna",
        "encode run missing.arrow",
        "export missing.arrow -o a.npz",
    ):
        assert program(f"kvae {line} --json", monkeypatch) == 1
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err.startswith("kvae: error: ")
