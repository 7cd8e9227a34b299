"""Shards of a feature file: which rows they have, that they are whole, and what joins them."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import in_process
import kvae
from feature_tables import TRUNCATED, table
from kvae import FeatureStore, KvaeError
from sequences import bgzf, fails, fasta, fastq, listing, random_sequence, run_kvae, write
from training_runs import assert_same_run, run

SMALL: dict[str, Any] = {"k": [3], "window": 100, "min_length": 50}


def records(seed: int, n: int, letters: str = "ACGT") -> list[tuple[str, str]]:
    lengths = np.random.default_rng(seed).integers(10, 900, n)
    return [
        (f"r{seed}_{i} text > more", random_sequence(int(length), i, letters))
        for i, length in enumerate(lengths)
    ]


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Files of all kinds, some in a folder: about 1,500 rows."""
    folder = tmp_path_factory.mktemp("inputs")
    nameless = [("" if i % 3 else name, text) for i, (name, text) in enumerate(records(2, 60))]
    return [
        write(folder / "large.fa", fasta(records(0, 150), width=70)),
        write(folder / "in/a.fa.gz", gzip.compress(fasta(records(1, 30), newline="\r\n"))).parent,
        write(folder / "reads.fq", fastq(records(3, 40))),
        write(folder / "nameless.fa", b"\xef\xbb\xbf \n" + fasta(nameless, newline="\r")),
        write(folder / "blocks.fa", bgzf(fasta(records(4, 30, "ACGTN")))),
        write(folder / "one.fna", fasta([("only", random_sequence(20_000))], width=10**6)),
    ]


def whole(inputs: Sequence[Path], folder: Path, **options: Any) -> Path:
    kvae.featurize(inputs, folder / "whole.arrow", **{**SMALL, **options})
    return folder / "whole.arrow"


def in_shards(inputs: Sequence[Path], folder: Path, count: int, **options: Any) -> Path:
    for index in np.random.default_rng(count).permutation(count) + 1:
        kvae.featurize(inputs, folder, shard=(int(index), count), **{**SMALL, **options})
    return folder


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(KvaeError) as error:
        act()
    message = str(error.value)
    assert "\n" not in message
    return message


# --- the rows ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{}, {"store": "counts"}, {"store": "packed"}, {"sequence": False}, {"window": 0}],
    ids=["log", "counts", "packed", "without sequences", "whole records"],
)
def test_merged_shards_are_the_file(
    inputs: list[Path], tmp_path: Path, options: dict[str, Any]
) -> None:
    expected = whole(inputs, tmp_path, **options).read_bytes()
    for count in (1, 2, 5, 17):
        shards = in_shards(inputs, tmp_path / f"{count}", count, **options)
        result = kvae.merge(shards, tmp_path / f"{count}.arrow")
        assert (tmp_path / f"{count}.arrow").read_bytes() == expected, count
        assert result.shards == count
        assert result.rows == len(table(tmp_path / "whole.arrow"))


def test_more_shards_than_records(tmp_path: Path) -> None:
    source = write(tmp_path / "a.fa", fasta(records(0, 7)))
    expected = whole([source], tmp_path).read_bytes()
    shards = in_shards([source], tmp_path / "feats", 40)
    kvae.merge([shards], tmp_path / "merged.arrow")
    assert (tmp_path / "merged.arrow").read_bytes() == expected
    np.testing.assert_array_equal(
        FeatureStore(shards).rows(np.arange(9)),
        FeatureStore(tmp_path / "whole.arrow").rows(np.arange(9)),
    )


@pytest.mark.parametrize("blocked", [False, True], ids=["plain", "BGZF"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("kind", ["fasta", "fastq"])
def test_one_file_is_divided(tmp_path: Path, kind: str, newline: str, blocked: bool) -> None:
    # Records without a name are counted from the beginning of the file.
    named = [("" if i % 7 == 3 else name, text) for i, (name, text) in enumerate(records(0, 90))]
    text = fasta(named, width=61) if kind == "fasta" else fastq(named)
    text = text.replace(b"\n", newline.encode())
    source = write(tmp_path / "one", bgzf(text, block=997) if blocked else text)
    expected = whole([source], tmp_path).read_bytes()
    for count in (2, 7, 40):
        shards = in_shards([source], tmp_path / f"{count}", count)
        manifests = [json.loads(path.read_text()) for path in sorted(shards.glob("*.json"))]
        assert sum(m["rows"] > 0 for m in manifests) >= min(count, 15)
        if count < 10:
            # No share is much larger than it should be.
            assert max(m["records"] for m in manifests) < 90 / count + 12
        kvae.merge(shards, tmp_path / f"{count}.arrow")
        assert (tmp_path / f"{count}.arrow").read_bytes() == expected, count


def test_more_shards_than_files_may_be_open(tmp_path: Path) -> None:
    """Merging has few of them open at a time; what maps all of them says that it cannot."""
    resource = pytest.importorskip("resource")
    write(tmp_path / "a.fa", fasta(records(3, 120)))
    for i in range(1, 81):
        kvae.featurize(tmp_path / "a.fa", tmp_path / "shards", shard=(i, 80), **SMALL)
    kvae.featurize(tmp_path / "a.fa", tmp_path / "whole.arrow", **SMALL)
    program = (
        "import resource, kvae\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (50, 50))\n"
        "kvae.merge('shards', 'merged.arrow')\n"
        "try:\n"
        "    kvae.FeatureStore('shards')\n"
        "except kvae.KvaeError as error:\n"
        "    print(error)\n"
    )
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] > 50
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert done.stdout.endswith(
        "more files than this system lets a process open (50): kvae merge them first\n"
    )
    assert (tmp_path / "merged.arrow").read_bytes() == (tmp_path / "whole.arrow").read_bytes()


def test_batches_closed_early_are_closed_at_the_same_rows(tmp_path: Path) -> None:
    # Letters of names count as those of sequences do, and nothing is computed from them.
    names = [b"%d" % i + b"n" * 45_000_000 for i in range(3)]
    text = b"".join(b">%s\n%s\n" % (name, b"ACGTACGTAC" * 10) for name in names)
    source = write(tmp_path / "a.fa", text + fasta(records(0, 5)))
    options: dict[str, Any] = {"window": 0, "store": "packed"}
    expected = whole([source], tmp_path, **options)
    assert FeatureStore(expected).n_batches == 2
    shards = in_shards([source], tmp_path / "feats", 3, **options)
    source.unlink()
    kvae.merge(shards, tmp_path / "merged.arrow")
    assert (tmp_path / "merged.arrow").read_bytes() == expected.read_bytes()


def test_records_are_shared_by_their_bytes(inputs: list[Path], tmp_path: Path) -> None:
    in_shards(inputs, tmp_path / "feats", 4)
    manifests = [
        json.loads((tmp_path / f"feats/feats-000{i}-of-0004.json").read_text()) for i in range(1, 5)
    ]
    total = manifests[0]["inputs"]["bytes"]
    sizes = [sum(file["to"] - file["from"] for file in m["files"]) for m in manifests]
    assert sum(sizes) == total
    # One file of a single record of 20 kb cannot be divided.
    assert max(sizes) < total / 4 + 25_000
    assert len({m["files"][0]["name"] for m in manifests[:2]}) == 1
    assert sum(m["rows"] for m in manifests) == len(table(whole(inputs, tmp_path)))


def test_mistakes_name_the_line_of_the_whole_file(tmp_path: Path) -> None:
    text = fasta(records(0, 100))
    lines = text.splitlines()
    lines[-5] = b"ACGT!"
    source = write(tmp_path / "a.fa", b"\r\n".join(lines))
    expected = refusal(lambda: whole([source], tmp_path))
    assert f"line {len(lines) - 4}" in expected
    found = refusal(lambda: kvae.featurize(source, tmp_path / "feats", shard="3/3", **SMALL))
    assert found == expected
    kvae.featurize(source, tmp_path / "feats", shard="1/3", **SMALL)


def test_mistakes_in_blocks_of_fastq_name_the_line_of_the_whole_file(tmp_path: Path) -> None:
    lines = fastq(records(0, 100)).splitlines()
    lines[-3] = b"!" + lines[-3][1:]
    source = write(tmp_path / "a.fq", bgzf(b"\r\n".join(lines), block=5000))
    expected = refusal(lambda: whole([source], tmp_path))
    assert f"line {len(lines) - 2}" in expected
    found = refusal(lambda: kvae.featurize(source, tmp_path / "feats", shard="3/3", **SMALL))
    assert found == expected
    kvae.featurize(source, tmp_path / "feats", shard="1/3", **SMALL)


def test_files_that_are_left_out_are_left_out_of_all_shards(tmp_path: Path) -> None:
    good = write(tmp_path / "a.fa", fasta(records(0, 100)))
    bad = write(tmp_path / "b.fa", fasta(records(1, 100))[:-5] + b"!")
    inputs = [good, bad, write(tmp_path / "c.fa.gz", TRUNCATED)]
    expected = whole(inputs, tmp_path, skip_bad=True).read_bytes()
    shards = in_shards(inputs, tmp_path / "feats", 3, skip_bad=True)
    kvae.merge(shards, tmp_path / "merged.arrow")
    assert (tmp_path / "merged.arrow").read_bytes() == expected


def test_streams_have_no_shards(tmp_path: Path) -> None:
    message = refusal(lambda: kvae.featurize("-", tmp_path / "feats", shard=(1, 2)))
    assert "standard input: is not a file" in message


@pytest.mark.parametrize("shard", ["0/3", "4/3", "3", "a/b", "1/0", (0, 3), "-1/3"])
def test_shards_that_are_none(tmp_path: Path, shard: Any) -> None:
    source = write(tmp_path / "a.fa", fasta(records(0, 7)))
    assert "shard" in refusal(lambda: kvae.featurize(source, tmp_path / "feats", shard=shard))
    assert sorted(listing(tmp_path)) == ["a.fa"]


# --- doing only what is missing ------------------------------------------------------


@pytest.fixture
def one(tmp_path: Path) -> tuple[Path, Path]:
    """An input, and a folder with the second of its two shards."""
    source = write(tmp_path / "a.fa", fasta(records(0, 30)))
    kvae.featurize(source, tmp_path / "feats", shard=(2, 2), **SMALL)
    return source, tmp_path / "feats"


def test_a_shard_that_is_there_is_done(one: tuple[Path, Path]) -> None:
    source, folder = one
    before = listing(folder)
    assert sorted(before) == ["feats-0002-of-0002.arrow", "feats-0002-of-0002.json"]
    times = [path.stat().st_mtime_ns for path in sorted(folder.iterdir())]
    first = kvae.featurize(source, folder, shard="2/2", force=True, **SMALL)
    assert listing(folder) == before
    again = kvae.featurize(source, folder, shard="2/2", **SMALL)
    assert again.repeated
    assert not first.repeated
    assert (again.rows, again.skipped, again.records) == (first.rows, first.skipped, first.records)
    assert [path.stat().st_mtime_ns for path in sorted(folder.iterdir())] > times


def test_what_a_killed_run_left_is_done_again(one: tuple[Path, Path]) -> None:
    source, folder = one
    before = listing(folder)
    arrow, manifest = sorted(folder.iterdir())
    manifest.unlink()
    arrow.write_bytes(b"half")
    assert not kvae.featurize(source, folder, shard="2/2", **SMALL).repeated
    assert listing(folder) == before
    arrow.unlink()
    assert not kvae.featurize(source, folder, shard="2/2", **SMALL).repeated
    assert listing(folder) == before


def test_what_killed_runs_began_is_removed(one: tuple[Path, Path]) -> None:
    source, folder = one
    old, new, other = (
        write(folder / name, b"half")
        for name in (
            ".feats-0002-of-0002.a.tmp",
            ".feats-0002-of-0002.b.tmp",
            ".feats-0001-of-0002.c.tmp",
        )
    )
    for path in (old, other):
        os.utime(path, (0, 0))
    kvae.featurize(source, folder, shard="2/2", force=True, **SMALL)
    assert not old.exists()
    assert new.exists()
    assert other.exists()


def changed_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-500] ^= 1
    path.write_bytes(content)


def test_a_shard_of_something_else_is_refused(one: tuple[Path, Path], tmp_path: Path) -> None:
    source, folder = one
    before = listing(folder)
    other = write(tmp_path / "b.fa", fasta(records(1, 30)))

    def again(inputs: Any = source, **options: Any) -> str:
        return refusal(lambda: kvae.featurize(inputs, folder, shard="2/2", **{**SMALL, **options}))

    assert "was made with window 100, not 200" in again(window=200)
    assert "was made with k [3], not [4]" in again(k=[4]) or "layout" in again(k=[4])
    assert "was made with store log, not counts" in again(store="counts")
    assert "is of other inputs" in again([source, other])
    assert listing(folder) == before
    text = source.read_bytes()
    source.write_bytes(text.replace(b"r0_7", b"r0_8"))
    assert f"{source} has changed since" in again()
    assert all("--force" in again(window=size) for size in (0, 200))
    kvae.featurize(source, folder, shard="2/2", force=True, **SMALL)
    changed_bit(folder / "feats-0002-of-0002.arrow")
    # Damage at the end shows at once, damage within when it is read.
    (folder / "feats-0002-of-0002.arrow").write_bytes(b"short")
    assert "is not the file that its manifest describes" in again()


def test_folders_for_shards(one: tuple[Path, Path], tmp_path: Path) -> None:
    source, _ = one
    for folder, word in ((source, "not a folder"), (tmp_path / "x/y", "does not exist")):
        assert word in refusal(lambda: kvae.featurize(source, folder, shard="1/2"))  # noqa: B023
    message = refusal(lambda: kvae.featurize(source, tmp_path / "f.arrow", shard="1/2"))
    assert "shards go into a folder" in message


# --- merging -------------------------------------------------------------------------


@pytest.fixture
def three(tmp_path: Path) -> tuple[Path, Path]:
    """An input, and a folder with its three shards."""
    source = write(tmp_path / "a.fa", fasta(records(0, 30)))
    return source, in_shards([source], tmp_path / "feats", 3)


def test_shards_may_come_from_several_places(three: tuple[Path, Path], tmp_path: Path) -> None:
    source, folder = three
    (tmp_path / "more").mkdir()
    for path in folder.glob("feats-0002*"):
        shutil.move(path, tmp_path / "more")
    parts = [
        tmp_path / "more",
        folder / "feats-0003-of-0003.arrow",
        folder / "feats-0001-of-0003.json",
    ]
    kvae.merge(parts, tmp_path / "merged.arrow")
    assert (tmp_path / "merged.arrow").read_bytes() == whole([source], tmp_path).read_bytes()
    assert len(FeatureStore(parts)) == len(FeatureStore(tmp_path / "merged.arrow"))


def renamed(path: Path) -> None:
    for suffix in (".arrow", ".json"):
        path.with_suffix(suffix).rename(path.with_name(f"feats-0009-of-0009{suffix}"))


def removed(path: Path) -> None:
    for suffix in (".arrow", ".json"):
        path.with_suffix(suffix).unlink()


def edited(path: Path, **changes: Any) -> None:
    manifest = path.with_suffix(".json")
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | changes))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "file is missing": (lambda path: path.unlink(), "is missing"),
    "file is short": (lambda path: path.write_bytes(path.read_bytes()[:-1]), "bytes"),
    "file is another": (
        lambda path: shutil.copy(path.with_name("feats-0001-of-0003.arrow"), path),
        "bytes",
    ),
    "both are missing": (
        removed,
        "shard 2 of 3 is missing",
    ),
    "manifest is missing": (
        lambda path: path.with_suffix(".json").unlink(),
        "shard 2 of 3 is missing",
    ),
    "manifest is text": (
        lambda path: path.with_suffix(".json").write_text("no"),
        "is no manifest",
    ),
    "manifest lacks something": (
        lambda path: edited(path, files=None),
        "has no readable 'files'",
    ),
    "manifest without a key": (
        lambda path: path.with_suffix(".json").write_text(
            path.with_suffix(".json").read_text().replace('"min_length"', '"least"')
        ),
        "has no readable 'min_length'",
    ),
    "manifest without a count": (
        lambda path: edited(path, inputs={"bytes": 1}),
        "has no readable 'inputs'",
    ),
    "manifest without names": (
        lambda path: edited(path, files=[{"path": "a.fa"}]),
        "has no readable 'files'",
    ),
    "manifest of the future": (lambda path: edited(path, format=2), "has format 2"),
    "another checksum": (
        lambda path: edited(path, checksum="0" * 16),
        "is not the file that its manifest describes",
    ),
    "another k": (lambda path: edited(path, k=[4]), "is of another set"),
    "another version": (lambda path: edited(path, kvae="9.9"), "version of kvae is"),
    "renamed": (renamed, "was renamed"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_incomplete_sets_are_refused(three: tuple[Path, Path], tmp_path: Path, damage: str) -> None:
    _, folder = three
    act, word = DAMAGE[damage]
    act(folder / "feats-0002-of-0003.arrow")
    for use in (
        lambda: kvae.merge(folder, tmp_path / "merged.arrow"),
        lambda: FeatureStore(folder),
    ):
        message = refusal(use)
        assert word in message
        assert str(folder) in message
    assert not (tmp_path / "merged.arrow").exists()


def test_sets_that_are_mixed_are_refused(three: tuple[Path, Path], tmp_path: Path) -> None:
    source, folder = three
    target = tmp_path / "merged.arrow"

    def merge(*paths: Path) -> str:
        return refusal(lambda: kvae.merge(paths, target))

    other = in_shards([source], tmp_path / "other", 3, window=200)
    assert "is of another set than" in merge(folder, other)
    assert "window is 200, not 100" in merge(folder, other)
    more = in_shards([source], tmp_path / "more", 4)
    assert "number of shards is 4, not 3" in merge(folder, more)
    text = write(tmp_path / "b.fa", fasta(records(5, 30)))
    foreign = in_shards([text], tmp_path / "foreign", 3)
    assert "is a shard of other inputs" in merge(folder, foreign)
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert "are the same shard" in merge(folder, copy)
    assert "holds no shards" in merge(tmp_path)
    assert "no such file" in merge(tmp_path / "feats-0001-of-0002.arrow")
    assert "is no shard" in merge(source)
    assert not target.exists()


def test_a_damaged_shard_is_found(three: tuple[Path, Path], tmp_path: Path) -> None:
    _, folder = three
    path = folder / "feats-0002-of-0003.arrow"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    message = refusal(lambda: kvae.merge(folder, tmp_path / "merged.arrow"))
    assert f"{path}: record batch 0 is damaged" in message
    assert not (tmp_path / "merged.arrow").exists()


def test_outputs_of_a_merge(three: tuple[Path, Path], tmp_path: Path) -> None:
    _, folder = three
    target = write(tmp_path / "merged.arrow", b"precious")
    assert "exists already" in refusal(lambda: kvae.merge(folder, target))
    first = folder / "feats-0001-of-0003.arrow"
    before = listing(folder)
    assert "one of the shards" in refusal(lambda: kvae.merge(folder, first, force=True))
    assert listing(folder) == before
    kvae.merge(folder, target, force=True)
    assert len(FeatureStore(target)) == len(FeatureStore(folder))


# --- reading without merging ---------------------------------------------------------


@pytest.mark.parametrize("kind", ["log", "counts", "packed"])
def test_shards_are_read_as_the_merged_file(inputs: list[Path], tmp_path: Path, kind: str) -> None:
    expected = FeatureStore(whole(inputs, tmp_path, store=kind), threads=2)
    store = FeatureStore(in_shards(inputs, tmp_path / "feats", 7, store=kind), threads=2)
    assert len(store) == len(expected)
    assert store.metadata == expected.metadata
    assert store.column_names == expected.column_names
    assert store.source_names == expected.source_names
    np.testing.assert_array_equal(store.source_codes, expected.source_codes)
    small = ["id", "source", "start", "end", "length", "gc", "n3", "invalid", "sequence"]
    for name in small:
        assert store.column(name).to_pylist() == expected.column(name).to_pylist()
    order = np.random.default_rng(0).permutation(len(store))
    np.testing.assert_array_equal(store.rows(order), expected.rows(order))
    np.testing.assert_array_equal(store.counts(order, 3), expected.counts(order, 3))
    assert store.sequences(order) == expected.sequences(order)
    gathered, wanted = (rows.stretches_of(order)[0].packed_bytes() for rows in (store, expected))
    for mine, theirs in zip(gathered, wanted, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_models_see_no_difference(data_files: list[Path], tmp_path: Path) -> None:
    feats = tmp_path / "feats.arrow"
    kvae.featurize(data_files, feats)
    folder = in_shards(data_files, tmp_path / "shards", 3, k=(7, 4, 3), window=5000)
    paths = sorted(folder.glob("*.arrow"))
    expected = kvae.encode("pretrained", feats)
    np.testing.assert_array_equal(kvae.encode("pretrained", folder), expected)
    for name, source in (("one", feats), ("several", folder)):
        run(FeatureStore(source), tmp_path / name, epochs=1)
    assert_same_run(tmp_path / "one", tmp_path / "several")
    described = [kvae.describe(source).as_json() for source in (feats, folder, paths)]
    names = [json.loads(text) for text in described]
    for facts in names:
        facts.pop("features")
    assert names[0] == names[1] == names[2]


# --- the program ---------------------------------------------------------------------


def test_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "a.fa", fasta(records(0, 30)))
    monkeypatch.chdir(tmp_path)
    options = "--k 3 --window 100 --min-length 50"

    def program(line: str) -> str:
        assert in_process.kvae(f"kvae {line}", monkeypatch) == 0
        return capfd.readouterr().err

    for index in (2, 1):
        told = program(f"featurize a.fa --shard {index}/2 {options}")
        assert f"feats/feats-000{index}-of-0002.arrow: " in told
    told = program(f"featurize a.fa --shard 2/2 {options}")
    assert "feats/feats-0002-of-0002.arrow: done already" in told
    assert in_process.kvae("kvae featurize a.fa --shard 2/2 --k 3", monkeypatch) == 1
    assert "--force" in capfd.readouterr().err
    assert "from 2 shards" in program("merge feats -o all.arrow")
    assert program(f"featurize a.fa {options} -q") == ""
    assert (tmp_path / "all.arrow").read_bytes() == (tmp_path / "feats.arrow").read_bytes()
    message = fails(run_kvae("merge", "feats", "-o", "all.arrow"))
    assert "all.arrow: exists already" in message
