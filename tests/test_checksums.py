"""One bit of a feature file that is not as it was written is found when it is read."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import in_process
import kvae
from feature_tables import matrix, table
from kvae import FeatureStore, KvaeError, _core
from sequences import fasta, random_sequence, write

CHUNK = 1 << 17
MAGIC = b"KVAESUMS"

KINDS: dict[str, dict[str, Any]] = {
    "log": {},
    "log without sequences": {"sequence": False},
    "counts": {"store": "counts"},
    "packed": {"store": "packed"},
}


@pytest.fixture(scope="session", params=KINDS)
def stored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of each kind: 71 rows, or many."""
    folder = tmp_path_factory.mktemp("stored")
    sources = sorted((Path(__file__).parent / "data").glob("*.fna.gz"))
    kvae.featurize(sources, folder / "feats.arrow", k=[4], window=300, **KINDS[request.param])
    return folder / "feats.arrow"


def read_all(path: Path, *, verify: bool = True) -> None:
    """Read everything there is, in every way there is."""
    store = FeatureStore(path, threads=2, verify=verify)
    everything = np.arange(len(store))
    store.rows(everything)
    store.counts(everything, 4)
    if store.kind == "log":
        for i in range(store.n_batches):
            store.batch(i).sum()
    for name in store.column_names:
        store.column(name)
    assert store.source_names
    if store.has_sequences:
        store.sequences(everything)


def flipped(content: bytes, bit: int, path: Path) -> Path:
    damaged = bytearray(content)
    damaged[bit // 8] ^= 1 << bit % 8
    return write(path, bytes(damaged))


def refusal(path: Path, read: Callable[[Path], object] = read_all) -> str:
    with pytest.raises(KvaeError) as error:
        read(path)
    message = str(error.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def trailer(content: bytes) -> tuple[int, int]:
    """Where the checksums begin, and where the footer does."""
    (length,) = struct.unpack("<i", content[-10:-6])
    footer = len(content) - 10 - length
    (end,) = struct.unpack("<Q", content[footer - 16 : footer - 8])
    return end, footer


def test_any_bit_is_found(stored: Path, tmp_path: Path) -> None:
    content = stored.read_bytes()
    end, _ = trailer(content)
    assert end > CHUNK
    rng = random.Random(0)
    bits = [rng.randrange(8 * len(content)) for _ in range(60)]
    # What describes the file is small, and found as surely.
    bits += [rng.randrange(8 * 2_000) for _ in range(30)]
    bits += [8 * rng.randrange(end, len(content)) + rng.randrange(8) for _ in range(60)]
    for bit in [*bits, 0, 8 * len(content) - 1]:
        refusal(flipped(content, bit, tmp_path / "feats.arrow"))
    read_all(write(tmp_path / "feats.arrow", content))


def test_what_marks_the_checksums_may_be_what_is_damaged(stored: Path, tmp_path: Path) -> None:
    """So that damaged ones are not taken for none."""
    content = stored.read_bytes()
    end, footer = trailer(content)
    assert content[end : end + 8] == content[footer - 8 : footer] == MAGIC
    places = [
        *range(end, end + 8),
        *range(footer - 24, footer),
        *range(len(content) - 10, len(content)),
    ]
    for place in places:
        for bit in range(8):
            refusal(flipped(content, 8 * place + bit, tmp_path / "feats.arrow"))


def test_a_batch_is_named_and_may_be_read_as_it_is(small_file: Path, tmp_path: Path) -> None:
    content = small_file.read_bytes()
    store = FeatureStore(small_file)
    row = np.array([1000])
    values = store.batch(1)[1000 - 512].tobytes()
    path = flipped(content, 8 * content.index(values), tmp_path / "feats.arrow")
    message = refusal(path, lambda path: FeatureStore(path).rows(row))
    assert "one of record batches 1 to 2 is damaged" in message
    assert "--no-verify" in message
    assert "featurize again" in message
    as_it_is = FeatureStore(path, verify=False).rows(row)
    assert (as_it_is != store.rows(row)).sum() == 1


def test_only_what_is_read_is_verified_and_only_once(feature_file: Path, tmp_path: Path) -> None:
    content = feature_file.read_bytes()
    expected = FeatureStore(feature_file).batch(0)
    at = content.index(expected[60].tobytes()) + 1
    path = flipped(content, 8 * at, tmp_path / "feats.arrow")
    store = FeatureStore(path)
    first = np.arange(3)
    np.testing.assert_array_equal(store.rows(first), expected[:3])
    refusal(path, lambda path: store.rows(np.array([60])))

    path = write(tmp_path / "whole.arrow", content)
    store = FeatureStore(path)
    store.rows(first)
    with path.open("r+b") as file:
        file.seek(content.index(expected[1].tobytes()))
        file.write(bytes(4))
    assert store.rows(first)[1, 0] == 0.0
    refusal(path, lambda path: FeatureStore(path).rows(first))


def test_files_without_checksums_are_read(stored: Path, tmp_path: Path) -> None:
    content = stored.read_bytes()
    end, footer = trailer(content)
    old = write(tmp_path / "old.arrow", content[:end] + content[footer:])
    store = FeatureStore(old)
    everything = np.arange(len(store))
    read_all(old)
    np.testing.assert_array_equal(store.rows(everything), FeatureStore(stored).rows(everything))
    # Nobody can tell whether it is damaged: it is read, as it was before.
    names = store.column("gc").to_pylist()
    at = content.index(struct.pack("<f", names[5]))
    read_all(flipped(old.read_bytes(), 8 * at, tmp_path / "damaged.arrow"))


def test_files_written_anew_by_other_tools_are_read(stored: Path, tmp_path: Path) -> None:
    rows = table(stored)
    path = tmp_path / "feats.arrow"
    with pa.ipc.new_file(os.fspath(path), rows.schema) as writer:
        writer.write_table(rows.slice(10, 50), max_chunksize=20)
    np.testing.assert_array_equal(
        FeatureStore(path).rows(np.arange(50)), FeatureStore(stored).rows(np.arange(10, 60))
    )


def test_other_tools_do_not_see_the_checksums(stored: Path, small_file: Path) -> None:
    store = FeatureStore(stored)
    assert table(stored).num_rows == len(store)
    frame = pl.read_ipc(stored, columns=["id", "gc"])
    assert frame["gc"].to_list() == store.column("gc").to_pylist()
    np.testing.assert_array_equal(
        FeatureStore(small_file).rows(np.arange(1100)), matrix(table(small_file)["features"])
    )


def sealed(body: bytes, footer: bytes) -> bytes:
    """A file of these parts, with the checksums that belong to them."""
    xxhash = pytest.importorskip("xxhash")
    chunks = [body[i : i + CHUNK] for i in range(0, len(body), CHUNK)]
    sums = [xxhash.xxh3_64_intdigest(part) for part in [*chunks, footer]]
    return body + MAGIC + struct.pack(f"<{len(sums)}QQ", *sums, len(body)) + MAGIC + footer


def test_the_checksums_are_those_that_are_documented(stored: Path) -> None:
    content = stored.read_bytes()
    end, footer = trailer(content)
    assert content == sealed(content[:end], content[footer:])


def test_a_forged_file_whose_checksums_are_right_is_merged_or_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Sizes and places that are not those of the rows, in the messages and the footer."""
    text = fasta([(f"r{i}", random_sequence(400, seed=i)) for i in range(70)])
    path = write(tmp_path / "a.fa", text)
    kvae.featurize(path, tmp_path / "whole.arrow", k=[3, 4], window=300, min_length=0)
    content = (tmp_path / "whole.arrow").read_bytes()
    end, footer = trailer(content)
    rng = random.Random(0)
    refusals = []
    for _ in range(700):
        parts = [bytearray(content[:end]), bytearray(content[footer:])]
        part = rng.choice(parts)
        at = rng.randrange(min(len(part) - 10, 6_000)) & ~3
        part[at : at + 4] = struct.pack("<i", rng.choice([-1, 0, 1, 8, 64, 2**31 - 1, -(2**31)]))
        forged = write(tmp_path / "forged.arrow", sealed(*map(bytes, parts)))
        out = os.fspath(tmp_path / "merged.arrow")
        try:
            _core.merge([(os.fspath(forged), 0)], ["a.fa"], out, out, None)
        except KvaeError as error:
            refusals.append(str(error))
    assert len(refusals) > 100
    assert all(os.fspath(forged) in line and "\n" not in line for line in refusals)
    assert capfd.readouterr() == ("", "")


def test_two_columns_of_one_name_are_refused(stored: Path, tmp_path: Path) -> None:
    rows = table(stored)
    for name in ("gc", "id"):
        double = rows.append_column(rows.schema.field(name), rows[name])
        with pa.ipc.new_file(os.fspath(tmp_path / "feats.arrow"), double.schema) as writer:
            writer.write_table(double)
        assert "several columns of one name" in refusal(tmp_path / "feats.arrow")


@pytest.mark.parametrize(
    ("line", "output"),
    [
        ("encode --pretrained {path} -q -o latent.tsv", "latent.tsv"),
        ("describe {path} --json", None),
        ("train {path} -o run --epochs 1 --batch-size 16 --device cpu -t 1 -q", "run"),
    ],
    ids=["encode", "describe", "train"],
)
def test_commands_say_so_and_can_do_without(
    feature_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    line: str,
    output: str | None,
) -> None:
    path = full_of_flips(feature_file, tmp_path / "feats.arrow")
    monkeypatch.chdir(tmp_path)
    command = f"kvae {line.format(path=path)}"
    assert in_process.kvae(command, monkeypatch) == 1
    message = capfd.readouterr().err
    assert message.startswith(f"kvae: error: {path}: record batch 0 is damaged")
    assert "--no-verify" in message
    assert message.count("\n") == 1
    assert not list(tmp_path.glob("**/*.tmp"))
    if output == "run":
        # What a run was made with is there; --force begins anew.
        command += " --force"
    else:
        assert list(tmp_path.iterdir()) == [path]
    assert in_process.kvae(f"{command} --no-verify", monkeypatch) == 0
    assert output is None or (tmp_path / output).exists()


def test_functions_say_so_and_can_do_without(feature_file: Path, tmp_path: Path) -> None:
    path = full_of_flips(feature_file, tmp_path / "feats.arrow")
    refusal(path, kvae.describe)
    assert kvae.describe(path, verify=False).rows
    options: dict[str, Any] = {"rows": 24, "vae_steps": 0, "seeds": 1, "threads": 1}
    with pytest.raises(KvaeError, match=r"record batch 0 is damaged.*verify"):
        kvae.evaluate("pretrained", path, device="cpu", **options)
    kvae.evaluate("pretrained", path, device="cpu", verify=False, **options)


def full_of_flips(features: Path, path: Path) -> Path:
    """Copy a file with a bit flipped in each chunk of its first batch's rows."""
    content = features.read_bytes()
    rows = FeatureStore(features).batch(0)
    start = content.index(rows[0].tobytes())
    damaged = bytearray(content)
    for at in range(start + 1_000, start + rows.nbytes, CHUNK):
        damaged[at] ^= 1
    return write(path, bytes(damaged))
