"""The scripts in examples/ do what they say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import kvae
from sequences import PROJECT, fasta, random_sequence, write
from tools import needs

EXAMPLES = PROJECT / "examples"


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with genomes, in which commands run; `kvae` is on their path."""
    for i in range(3):
        records = [(f"r{i}_{j}", random_sequence(6_000, 10 * i + j)) for j in range(5)]
        write(tmp_path / f"work/genomes/{i}.fna", fasta(records))
    program = write(
        tmp_path / "bin/kvae", f'#!/bin/sh\nexec "{sys.executable}" -m kvae "$@"\n'.encode()
    )
    program.chmod(0o755)
    return tmp_path / "work"


def environment(work: Path, **variables: str) -> dict[str, str]:
    path = f"{work.parent / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", **variables}


def bash(script: Path, work: Path, **variables: str) -> None:
    result = subprocess.run(
        ["bash", script],
        cwd=work,
        env=environment(work, **variables),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr


def merged_features(work: Path) -> bytes:
    """What featurizing at once gives, with the paths as the scripts name them."""
    here = Path.cwd()
    os.chdir(work)
    try:
        kvae.featurize("genomes", "expected.arrow", force=True)
    finally:
        os.chdir(here)
    return (work / "expected.arrow").read_bytes()


def test_slurm_arrays(work: Path) -> None:
    script = EXAMPLES / "slurm/featurize.sbatch"
    for index in (2, 1, 2):
        bash(script, work, SLURM_ARRAY_TASK_ID=f"{index}", SHARDS="2", SLURM_CPUS_PER_TASK="1")
    assert len(list((work / "feats").iterdir())) == 4
    bash(EXAMPLES / "slurm/encode.sbatch", work)
    assert (work / "feats.arrow").read_bytes() == merged_features(work)
    assert (work / "latent.arrow").exists()


def test_slurm_jobs_wait_for_each_other(work: Path) -> None:
    log = work / "log"
    program = write(
        work.parent / "bin/sbatch", f'#!/bin/sh\necho "$@" >> {log}\necho "42;cluster"\n'.encode()
    )
    program.chmod(0o755)
    bash(EXAMPLES / "slurm/submit.sh", work, SHARDS="7")
    assert log.read_text().splitlines() == [
        "--parsable --array=1-7 featurize.sbatch",
        "--dependency=afterok:42 encode.sbatch",
    ]


@needs("snakemake", "scale")
def test_snakemake(work: Path) -> None:
    command = [sys.executable, "-m", "snakemake", "-s", str(EXAMPLES / "snakemake/Snakefile")]
    settings = ["--cores", "1", "--config", "shards=2"]
    variables = environment(work)

    def snakemake(*arguments: str) -> str:
        result = subprocess.run(
            [*command, *arguments, *settings],
            cwd=work,
            env=variables,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout + result.stderr

    planned = snakemake("--dry-run")
    for rule in ("featurize", "merge", "encode"):
        assert f"rule {rule}" in planned
    snakemake("feats.arrow")
    assert (work / "feats.arrow").read_bytes() == merged_features(work)
