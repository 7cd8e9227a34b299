"""The program: what it prints and how it fails."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import kvae
import reference
from feature_tables import GOOD, RECORDS, TRUNCATED, check_rows, table
from kvae.cli import main
from latent_files import write_latents
from sequences import DATA, bgzf, fails, fasta, fastq, listing, random_sequence, run_kvae, write

WIDE = os.environ | {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}


Result = subprocess.CompletedProcess[str]
Program = Callable[..., Result]


@pytest.fixture
def program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Program]:
    """Runs the program in this process and a folder of its own, which is far faster."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    handler = signal.getsignal(signal.SIGTERM)

    def run(*args: str | os.PathLike[str]) -> Result:
        monkeypatch.setattr(sys, "argv", ["kvae", *(os.fspath(arg) for arg in args)])
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
        captured = capsys.readouterr()
        return Result(sys.argv, code, captured.out, captured.err)

    yield run
    signal.signal(signal.SIGTERM, handler)


# --- help ----------------------------------------------------------------------------


def test_help_lists_the_commands() -> None:
    result = run_kvae("--help", env=WIDE)
    assert (result.returncode, result.stderr) == (0, "")
    for command in ("featurize", "train", "encode", "compare", "describe", "graph", "demo"):
        assert re.search(rf"\b{command} +[A-Z]", result.stdout), command
    assert "--version" in result.stdout
    assert run_kvae("-h", env=WIDE).stdout == result.stdout


def test_help_of_featurize_tells_every_option_and_its_default() -> None:
    result = run_kvae("featurize", "--help", env=WIDE)
    assert (result.returncode, result.stderr) == (0, "")
    for option in (
        "--output -o",
        "--window",
        "--min-length",
        "--k",
        "--store",
        "--no-sequence",
        "--skip-bad",
        "--threads -t",
        "--force",
        "--quiet -q",
    ):
        assert option in re.sub(" +", " ", result.stdout), option
    for default in ("feats.arrow", "5000", "1000", "7,4,3", "log"):
        assert f"[default: {default}]" in result.stdout, default
    for word in ("INPUTS", "FASTA", "FASTQ", "gzip", "zstd", "@list", "standard input"):
        assert word in result.stdout, word


def test_version() -> None:
    result = run_kvae("--version")
    assert (result.returncode, result.stdout) == (0, f"kvae {kvae.__version__}\n")


LOADED = """
import sys
from kvae.cli import main
sys.argv = ["kvae", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
heavy = ["torch", "pyarrow", "pandas", "polars", "matplotlib", "tensorboard", "numpy"]
print("loaded:", [name for name in heavy if name in sys.modules])
"""


def loaded_by(*args: str, cwd: Path) -> str:
    command = [sys.executable, "-c", LOADED, *args]
    result = subprocess.run(command, capture_output=True, text=True, cwd=cwd)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()[-1]


@pytest.mark.parametrize("args", [["--help"], ["featurize", "--help"]], ids=" ".join)
def test_help_loads_nothing_heavy(args: list[str], tmp_path: Path) -> None:
    assert loaded_by(*args, cwd=tmp_path) == "loaded: []"


def test_featurize_loads_nothing_heavy(tmp_path: Path) -> None:
    write(tmp_path / "a.fna", GOOD)
    assert loaded_by("featurize", "a.fna", cwd=tmp_path) == "loaded: []"
    assert len(table(tmp_path / "feats.arrow"))


@pytest.fixture(scope="module")
def folder_of_files(tmp_path_factory: pytest.TempPathFactory, small_file: Path) -> Path:
    """A folder with features, latents, and an index of them."""
    folder = tmp_path_factory.mktemp("files")
    shutil.copy(small_file, folder / "feats.arrow")
    kvae.featurize(DATA, folder / "4mers.arrow", k=[4])
    vectors = np.random.default_rng(0).normal(size=(40, 4))
    write_latents(folder / "latent.arrow", vectors)
    for index in range(2):
        kvae.featurize(DATA, folder / "shards", shard=(index + 1, 2))
    kvae.index(folder / "latent.arrow", folder / "index")
    return folder


# All that works on sequences, rows and latents, and with no model.
@pytest.mark.parametrize(
    "line",
    [
        "cluster latent.arrow -o clusters.tsv",
        "describe feats.arrow -o space",
        "export feats.arrow -o table.parquet --what counts",
        "export feats.arrow -o table.tsv",
        "export 4mers.arrow -o composition.npz --vamb",
        "export latent.arrow -o latent.npz --vamb",
        "export latent.arrow -o latent.tsv",
        "index latent.arrow -o another",
        "merge shards -o merged.arrow",
        "search latent.arrow --record contig_1",
        "search index --record contig_1",
    ],
)
def test_what_has_no_model_needs_no_torch(line: str, folder_of_files: Path) -> None:
    assert "torch" not in loaded_by(*line.split(), cwd=folder_of_files)


# --- featurize -----------------------------------------------------------------------


def test_a_run_is_summarized_on_standard_error(tmp_path: Path) -> None:
    write(tmp_path / "a.fna", GOOD)
    result = run_kvae("featurize", "a.fna", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (0, "")
    cut = reference.cut(RECORDS)
    summary, *reasons = result.stderr.splitlines()
    assert summary.startswith(f"feats.arrow: {len(cut.rows)} rows")
    assert f"from {len(RECORDS)} records" in summary
    assert re.search(r"in 1 files?, [\d.]+ s \([\d.]+ .?b/s\)", summary)
    assert reasons == [
        "left out: 1 record shorter than --min-length, 2 windows without a valid 7-mer"
        " (in 1 file, listed with -v)"
    ]
    check_rows(table(tmp_path / "feats.arrow"), cut.rows)
    assert sorted(listing(tmp_path)) == ["a.fna", "feats.arrow"]


def test_options_are_those_of_the_function(tmp_path: Path, program: Program) -> None:
    paths = [write(tmp_path / f"in/{i}.fna", fasta(RECORDS)) for i in range(2)]
    options = ["--window", "700", "--min-length", "50", "--k", "3,5,4", "--no-sequence", "-t", "1"]
    result = program("featurize", *paths, "-o", tmp_path / "cli.arrow", *options)
    assert result.returncode == 0, result.stderr
    output = tmp_path / "api.arrow"
    kvae.featurize(paths, output, window=700, min_length=50, k=[3, 5, 4], sequence=False)
    assert output.read_bytes() == (tmp_path / "cli.arrow").read_bytes()
    for store in ("log", "counts", "packed"):
        program("featurize", paths[0], "-o", tmp_path / f"cli.{store}", "--store", store)
        kvae.featurize(paths[0], tmp_path / f"api.{store}", store=store)
        assert (tmp_path / f"cli.{store}").read_bytes() == (tmp_path / f"api.{store}").read_bytes()


def test_quiet_is_silent(tmp_path: Path, program: Program) -> None:
    records = [("", random_sequence(1_000)), ("a", random_sequence(10)), ("a", "N" * 1_000)]
    write(tmp_path / "a.fna", fasta(records))
    result = program("featurize", "a.fna", "-q")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert len(table(tmp_path / "feats.arrow")) == 1


def test_warnings_are_one_line_each(tmp_path: Path, program: Program) -> None:
    records = [("", random_sequence(1_000)), ("a", random_sequence(1_000)), ("a", "ACGT" * 500)]
    write(tmp_path / "in/a.fna", fasta(records))
    write(tmp_path / "in/b.fna", b"")
    result = program("featurize", "in", "in/a.fna")
    assert result.returncode == 0
    warnings = [line for line in result.stderr.splitlines() if "warning" in line]
    assert len(warnings) == 4
    assert all(line.startswith("kvae: warning: in/") for line in warnings)
    told = "\n".join(warnings)
    assert all(word in told for word in ("record_N", "'a'", "empty", "once"))


@pytest.mark.parametrize(
    "content",
    [fasta(RECORDS), gzip.compress(fasta(RECORDS)), bgzf(fastq(RECORDS))],
    ids=["FASTA", "gzip", "blocked FASTQ"],
)
def test_standard_input(tmp_path: Path, content: bytes) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "kvae", "featurize", "-", "-q", "--k", "7,4"],
        stdin=subprocess.PIPE,
        cwd=tmp_path,
    ) as process:
        process.communicate(content, timeout=60)
    assert process.returncode == 0
    rows = table(tmp_path / "feats.arrow")
    assert set(rows["source"].to_pylist()) == {"-"}
    check_rows(rows, reference.cut(RECORDS).rows, (7, 4))


def test_a_pipe_is_read_like_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    feeder = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=[bgzf(GOOD)])
    feeder.start()
    result = run_kvae("featurize", "pipe", "-q", "--k", "7", cwd=tmp_path)
    feeder.join(timeout=60)
    assert result.returncode == 0, result.stderr
    rows = table(tmp_path / "feats.arrow")
    assert set(rows["source"].to_pylist()) == {"pipe"}
    check_rows(rows, reference.cut(RECORDS).rows, (7,))


@pytest.mark.parametrize("quiet", [[], ["-q"]], ids=["", "quiet"])
def test_files_that_are_left_out_are_told_by_the_exit_code(
    tmp_path: Path, quiet: list[str]
) -> None:
    write(tmp_path / "good.fna", GOOD)
    write(tmp_path / "bad.fna.gz", TRUNCATED)
    result = run_kvae("featurize", "good.fna", "bad.fna.gz", "--skip-bad", *quiet, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (1, "")
    assert "bad.fna.gz" in result.stderr
    assert "truncated" in result.stderr
    assert len(table(tmp_path / "feats.arrow")) == len(reference.cut(RECORDS).rows)


# --- mistakes ------------------------------------------------------------------------


def test_a_wrong_path(tmp_path: Path) -> None:
    told = fails(run_kvae("featurize", "missing.fna", cwd=tmp_path))
    assert told == "kvae: error: missing.fna: no such file or directory\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (TRUNCATED, "truncated"),
        (b">sp|P69905|HBA_HUMAN\nMVLSPADKTNVKAAWGKVGAHAGEYGAEALERMFLSFPTTKTYFPHF\n", "protein"),
        (b"\x89PNG\r\n\x1a\n" + bytes(1000), "FASTA"),
        (fasta([("a", random_sequence(500))]), "no row is left.*min-length"),
    ],
    ids=["empty", "truncated gzip", "protein", "picture", "short records"],
)
def test_a_bad_file(tmp_path: Path, program: Program, content: bytes, message: str) -> None:
    write(tmp_path / "bad.fna", content)
    before = listing(tmp_path)
    told = fails(program("featurize", "bad.fna"))
    assert re.search(message, told), told
    if "no row" not in message:
        assert "bad.fna" in told
    assert listing(tmp_path) == before


def test_nothing_on_standard_input(tmp_path: Path) -> None:
    assert "standard input" in fails(run_kvae("featurize", "-", cwd=tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_sequences(tmp_path: Path, program: Program) -> None:
    write(tmp_path / "in/genome.gbk", b"LOCUS")
    told = fails(program("featurize", "in"))
    assert ".fasta" in told
    assert sorted(listing(tmp_path)) == ["in", "in/genome.gbk"]


def test_an_existing_output(tmp_path: Path, program: Program) -> None:
    write(tmp_path / "a.fna", GOOD)
    write(tmp_path / "feats.arrow", b"precious")
    before = listing(tmp_path)
    told = fails(program("featurize", "a.fna"))
    assert "feats.arrow" in told
    assert "--force" in told
    assert listing(tmp_path) == before
    assert program("featurize", "a.fna", "--force").returncode == 0
    assert len(table(tmp_path / "feats.arrow"))


@pytest.mark.parametrize("output", ["missing/out.arrow", ".", "/dev/null", "a.fna"])
def test_an_output_that_cannot_be(tmp_path: Path, program: Program, output: str) -> None:
    write(tmp_path / "a.fna", GOOD)
    before = listing(tmp_path)
    assert output in fails(program("featurize", "a.fna", "-o", output, "--force"))
    assert listing(tmp_path) == before


def test_names_with_line_ends_stay_on_one_line(tmp_path: Path, program: Program) -> None:
    fails(program("featurize", "mis\nsing.fna"))
    write(tmp_path / "a\nb.fna", b">a\nMEQ\n")
    fails(program("featurize", "a\nb.fna"))


@pytest.mark.parametrize(
    "args",
    [
        ["--nonsense"],
        ["--window", "-1"],
        ["--window", "many"],
        ["--min-length", "-1"],
        ["--k", "7,x"],
        ["--k", ""],
        ["--threads", "0"],
        ["--store", "parquet"],
    ],
    ids=" ".join,
)
def test_wrong_usage(tmp_path: Path, program: Program, args: list[str]) -> None:
    write(tmp_path / "a.fna", GOOD)
    result = program("featurize", "a.fna", *args)
    assert (result.returncode, result.stdout) == (2, "")
    assert "Usage:" in result.stderr
    assert list(listing(tmp_path)) == ["a.fna"]


def test_wrong_commands(program: Program) -> None:
    for args in (["nonsense"], ["--nonsense"], ["featurize", "-q"]):
        result = program(*args)
        assert (result.returncode, result.stdout) == (2, "")
        assert "Usage:" in result.stderr


@pytest.mark.parametrize("ks", ["9", "0", "7,7", "-3"])
def test_impossible_k(tmp_path: Path, program: Program, ks: str) -> None:
    write(tmp_path / "a.fna", GOOD)
    result = program("featurize", "a.fna", f"--k={ks}")
    assert result.returncode in (1, 2)
    assert "Traceback" not in result.stderr
    assert list(listing(tmp_path)) == ["a.fna"]
