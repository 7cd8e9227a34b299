"""Inputs and outputs in an object store: the same rows and bytes as of files, or one line."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow.fs import LocalFileSystem

import in_process
import kvae
from kvae import FeatureStore, KvaeError, _core
from kvae.latents import read_latents
from kvae.progress import Progress
from kvae.remote import caching, feeding, parts, places
from kvae.remote.places import Place
from kvae.remote.uris import RemotePath, Uri, as_path, as_uri, has_uris, shown
from kvae.remote.writing import upload
from object_store import (
    BUCKET,
    ObjectStore,
    breaking_store,
    named_by_environment,
    object_store,
)
from sequences import bgzf, fails, fasta, fastq, random_sequence, run_kvae, write
from training_runs import Record, assert_same_weights, run, untimed

SMALL: dict[str, Any] = {"k": [3], "window": 100, "min_length": 50}


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectStore]:
    pytest.importorskip("moto", reason="needs moto, a store to test with")
    with object_store() as running:
        yield running


@pytest.fixture
def store(server: ObjectStore, tmp_path: Path) -> Iterator[ObjectStore]:
    """The store as the environment names it, and an empty folder for copies."""
    with named_by_environment(server, tmp_path / "cache") as running:
        yield running


def records(seed: int, n: int) -> list[tuple[str, str]]:
    lengths = np.random.default_rng(seed).integers(10, 900, n)
    return [
        (f"r{seed}_{i} text", random_sequence(int(length), i)) for i, length in enumerate(lengths)
    ]


def fill(folder: Path) -> Path:
    """Files of all kinds, and what is to be passed over."""
    write(folder / "large.fa", fasta(records(0, 120), width=70))
    write(folder / "b/z.FA.gz", gzip.compress(fasta(records(1, 30), newline="\r\n")))
    write(folder / "b.fna", fasta(records(2, 20)))
    write(folder / "reads.fq", fastq(records(3, 30)))
    write(folder / "blocks.fa", bgzf(fasta(records(4, 30)), block=900))
    write(folder / "ä b.fas", fasta(records(5, 10)))
    write(folder / "empty.fa", b"")
    write(folder / "notes.txt", b"no sequences")
    write(folder / ".hidden.fa", fasta(records(6, 3)))
    write(folder / ".git/x.fa", fasta(records(6, 3)))
    return folder


@pytest.fixture(scope="module")
def twin(server: ObjectStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where relative paths to files are what their objects are called."""
    root = tmp_path_factory.mktemp("twin")
    server.put_folder("genomes", fill(root / "s3:" / BUCKET / "genomes"))
    return root


def locally(twin: Path, monkeypatch: pytest.MonkeyPatch, path: str, out: Path) -> bytes:
    """What the featurizer makes of the files, which it takes for no URIs."""
    with monkeypatch.context() as there:
        there.chdir(twin)
        _core.featurize([path], out, out, [3], 100, 50, "log", True, False, None, 2, None)
    return out.read_bytes()


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(KvaeError) as caught:
        act()
    text = str(caught.value)
    assert "\n" not in text
    assert "hidden" not in text
    return text


# --- sequences ----------------------------------------------------------------------------


def test_a_folder_gives_the_bytes_of_the_same_files(
    store: ObjectStore, twin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = locally(twin, monkeypatch, "s3://bucket/genomes", tmp_path / "local.arrow")
    for name in ("s3://bucket/genomes", "s3://bucket/genomes/"):
        for threads in (1, 3):
            out = tmp_path / "feats.arrow"
            result = kvae.featurize([name], out, threads=threads, force=True, **SMALL)
            assert out.read_bytes() == expected
            assert result.warnings == ["s3://bucket/genomes/empty.fa: the file is empty"]
    names = FeatureStore(out).source_names
    assert names[0] == "s3://bucket/genomes/b.fna"
    assert names[-1] == "s3://bucket/genomes/ä b.fas"
    assert len(names) == 7


def test_blocks_of_a_file_come_in_order(
    store: ObjectStore, twin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeding, "BLOCK", 1000)
    expected = locally(twin, monkeypatch, "s3://bucket/genomes/large.fa", tmp_path / "local.arrow")
    kvae.featurize("s3://bucket/genomes/large.fa", tmp_path / "feats.arrow", **SMALL)
    assert (tmp_path / "feats.arrow").read_bytes() == expected


def test_lists_and_files_of_this_machine_may_stand_between(
    store: ObjectStore, twin: Path, tmp_path: Path
) -> None:
    own = write(tmp_path / "own.fa", fasta(records(7, 5)))
    lines = f"\ufeffs3://bucket/genomes/b.fna\r\n\n{own}\ns3://bucket/genomes/b.fna\n"
    write(tmp_path / "list.txt", lines.encode())
    store.put("lists/list.txt", lines.encode())
    for name in (f"@{tmp_path}/list.txt", "@s3://bucket/lists/list.txt"):
        result = kvae.featurize(
            [name, "s3://bucket/genomes/b"], tmp_path / "f.arrow", force=True, **SMALL
        )
        assert result.warnings == ["s3://bucket/genomes/b.fna: named more than once, read once"]
        assert FeatureStore(tmp_path / "f.arrow").source_names == [
            "s3://bucket/genomes/b.fna",
            str(own),
            "s3://bucket/genomes/b/z.FA.gz",
        ]
    write(tmp_path / "bad.txt", b"s3://bucket/genomes/b.fna\ns3://bucket/none.fa\n")
    said = refusal(lambda: kvae.featurize(f"@{tmp_path}/bad.txt", tmp_path / "g.arrow"))
    assert said.startswith(f"{tmp_path}/bad.txt, line 2: s3://bucket/none.fa: ")


def test_files_by_uri_are_files_by_path(tmp_path: Path) -> None:
    path = write(tmp_path / "a b" / "x.fa", fasta(records(1, 9)))
    kvae.featurize(path, tmp_path / "one.arrow", **SMALL)
    uri = path.as_uri()
    assert "%20" in uri
    kvae.featurize(uri, f"file://{tmp_path}/two.arrow", **SMALL)
    assert (tmp_path / "one.arrow").read_bytes() == (tmp_path / "two.arrow").read_bytes()
    rows = np.arange(3)
    assert np.array_equal(
        FeatureStore((tmp_path / "one.arrow").as_uri()).rows(rows),
        FeatureStore(tmp_path / "one.arrow").rows(rows),
    )
    said = refusal(lambda: kvae.featurize(uri, f"file://{tmp_path}/two.arrow", **SMALL))
    assert said.startswith(f"{tmp_path}/two.arrow: exists already")


def test_bad_files_are_left_out_as_they_would_be_here(store: ObjectStore, tmp_path: Path) -> None:
    folder = tmp_path / "some"
    for i in range(30):
        write(folder / f"{i:02}.fa", fasta(records(i, 2)) if i % 10 == 9 else b">x\nAC!T\n")
    good = fasta(records(40, 9))
    write(folder / "cut.fa.gz", gzip.compress(good)[:-20])
    store.put_folder("some", folder)
    options = {**SMALL, "skip_bad": True, "threads": 2}
    here = kvae.featurize(folder, tmp_path / "here.arrow", **options)
    there = kvae.featurize("s3://bucket/some", tmp_path / "there.arrow", **options)
    renamed = [text.replace(str(folder), "s3://bucket/some") for text in here.bad]
    assert len(here.bad) == 28
    assert there.bad == renamed
    assert there.rows == here.rows
    rows = np.arange(here.rows)
    one, other = FeatureStore(tmp_path / "here.arrow"), FeatureStore(tmp_path / "there.arrow")
    assert np.array_equal(one.rows(rows), other.rows(rows))
    assert np.array_equal(one.source_codes, other.source_codes)
    said = refusal(lambda: kvae.featurize("s3://bucket/some", tmp_path / "no.arrow", **SMALL))
    assert said == "s3://bucket/some/00.fa, line 2: " + said.partition(": ")[2]


def test_sequences_are_encoded_without_a_feature_file(
    store: ObjectStore, twin: Path, tmp_path: Path
) -> None:
    rows = kvae.open_sequences("s3://bucket/genomes", **SMALL)
    kvae.featurize("s3://bucket/genomes", tmp_path / "f.arrow", store="packed", **SMALL)
    file = FeatureStore(tmp_path / "f.arrow")
    assert str(rows.path) == "s3://bucket/genomes"
    assert rows.source_names == file.source_names
    everything = np.arange(len(file))
    assert np.array_equal(rows.rows(everything), file.rows(everything))


# --- what goes wrong while it is read ---------------------------------------------------------


def test_a_file_that_breaks_off_is_no_shorter_file(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = fasta(records(1, 400))
    with breaking_store(content, 90_000) as endpoint:
        uri = f"s3://bucket/x.fa?endpoint_override={endpoint}&scheme=http&region=us-east-1"
        said = refusal(lambda: kvae.featurize(uri, tmp_path / "f.arrow", **SMALL))
    assert said.startswith("s3://bucket/x.fa: ")
    assert not any(tmp_path.iterdir())
    with breaking_store(content, len(content)) as endpoint:
        uri = f"s3://bucket/x.fa?endpoint_override={endpoint}&scheme=http&region=us-east-1"
        assert kvae.featurize(uri, tmp_path / "f.arrow", **SMALL).records == 400


def test_a_file_that_ends_early_is_no_shorter_file(
    store: ObjectStore, twin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = places.RemoteFile.read_at

    class Short:
        def __init__(self, source: Any) -> None:
            self.source = source

        def read_at(self, size: int, offset: int) -> bytes:
            return bytes(self.source.read_at(size, offset)[:-1])

    monkeypatch.setattr(
        places.RemoteFile, "read_at", lambda file, source, *at: read(file, Short(source), *at)
    )
    said = refusal(
        lambda: kvae.featurize("s3://bucket/genomes/b.fna", tmp_path / "f.arrow", **SMALL)
    )
    assert "s3://bucket/genomes/b.fna: ended after " in said
    store.put("short.arrow", b"ARROW1" + bytes(1000))
    said = refusal(lambda: FeatureStore("s3://bucket/short.arrow"))
    assert said == "s3://bucket/short.arrow: ended after 1,005 of 1,006 bytes: start again"


@pytest.mark.parametrize("longer", [True, False])
def test_a_file_that_changes_is_noticed(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, longer: bool
) -> None:
    old, new = (fasta([("x", random_sequence(5000, seed))]) for seed in (1, 2))
    assert len(old) == len(new)
    read = places.RemoteFile.read_at

    def read_at(file: places.RemoteFile, source: Any, offset: int, size: int) -> bytes:
        block = read(file, source, offset, size)
        if offset == 0:
            store.put("changing.fa", new + b"A\n" * longer)
        return block

    monkeypatch.setattr(places.RemoteFile, "read_at", read_at)
    monkeypatch.setattr(feeding, "BLOCK", 1000)
    store.put("changing.fa", old)
    said = refusal(lambda: kvae.featurize("s3://bucket/changing.fa", tmp_path / "f.arrow", **SMALL))
    assert said == "s3://bucket/changing.fa: has changed while it was read: start again"
    assert not any(tmp_path.iterdir())


# --- shards -----------------------------------------------------------------------------------


def test_shards_there_are_the_shards_here(
    store: ObjectStore, twin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = locally(twin, monkeypatch, "s3://bucket/genomes", tmp_path / "local.arrow")
    options = {**SMALL, "threads": 1}
    for i in (2, 1, 3):
        assert not kvae.featurize(
            "s3://bucket/genomes", "s3://bucket/shards/", shard=(i, 3), **options
        ).repeated
        assert not kvae.featurize(
            "s3://bucket/genomes/", tmp_path / "shards", shard=(i, 3), **options
        ).repeated
    names = [f"feats-000{i}-of-0003.{suffix}" for i in (1, 2, 3) for suffix in ("arrow", "json")]
    assert store.keys("shards") == names
    for name in names:
        assert store.get(f"shards/{name}") == (tmp_path / "shards" / name).read_bytes(), name
    again = kvae.featurize("s3://bucket/genomes", "s3://bucket/shards", shard="2/3", **options)
    assert again.repeated
    for given in (["s3://bucket/shards"], [f"s3://bucket/shards/{name}" for name in names[::2]]):
        kvae.merge(given, tmp_path / "merged.arrow", force=True)
        assert (tmp_path / "merged.arrow").read_bytes() == expected
    kvae.merge("s3://bucket/shards", "s3://bucket/merged.arrow")
    assert store.get("merged.arrow") == expected
    said = refusal(
        lambda: kvae.merge("s3://bucket/shards", f"s3://bucket/shards/{names[0]}", force=True)
    )
    assert "is one of the shards" in said
    opened = FeatureStore("s3://bucket/shards")
    assert opened.source_names == FeatureStore(tmp_path / "merged.arrow").source_names
    assert str(opened.path) == "s3://bucket/shards"
    said = refusal(
        lambda: kvae.featurize(
            "s3://bucket/genomes", "s3://bucket/shards", shard="2/3", **{**options, "k": [2]}
        )
    )
    assert said.startswith("s3://bucket/shards/feats-0002-of-0003.json: was made with")
    store.put(f"shards/{names[0]}", b"short")
    said = refusal(lambda: FeatureStore("s3://bucket/shards"))
    assert said.startswith(f"s3://bucket/shards/{names[0]}: has 5 bytes, and its manifest says")
    store.system.delete_file(f"{BUCKET}/shards/{names[1]}")
    said = refusal(lambda: FeatureStore("s3://bucket/shards/"))
    assert said.startswith("s3://bucket/shards: shard 1 of 3 is missing")


class Reads:
    """Notes what is read of remote files."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bytes = 0
        read = places.RemoteFile.read_at

        def read_at(file: places.RemoteFile, source: Any, offset: int, size: int) -> bytes:
            self.bytes += size
            return read(file, source, offset, size)

        monkeypatch.setattr(places.RemoteFile, "read_at", read_at)


@pytest.mark.parametrize("first", [100, parts._FIRST])
def test_files_there_are_divided_as_files_here(
    store: ObjectStore, twin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    """Plain FASTA, FASTQ and BGZF: the same bytes in every shard, and manifests that say so."""
    monkeypatch.setattr(parts, "_FIRST", first)
    monkeypatch.setattr(feeding, "BLOCK", 3000)
    count, name, here = 23, "s3://bucket/genomes", tmp_path / "here.arrow"
    divided = set()
    for i in range(1, count + 1):
        with monkeypatch.context() as there:
            there.chdir(twin)
            share = _core.shard_inputs([name], i, count, False)
            _core.featurize(
                [name], here, here, [3], 100, 50, "log", True, False, (i, count), 2, None
            )
        result = kvae.featurize(name, tmp_path / "shards", shard=(i, count), threads=2, **SMALL)
        stem = tmp_path / f"shards/feats-{i:04}-of-{count:04}"
        assert stem.with_suffix(".arrow").read_bytes() == here.read_bytes(), i
        manifest = json.loads(stem.with_suffix(".json").read_text())
        ranges = [(file["name"], file["from"], file["to"]) for file in manifest["files"]]
        assert ranges == [(of, a, b) for of, _, _, a, b in share["files"]]
        assert manifest["first_input"] == share["first"]
        assert result.files == len(ranges)
        divided |= {of for of, _, size, a, b in share["files"] if b - a < size}
    names = {Path(of).name for of in divided}
    assert names >= {"large.fa", "reads.fq", "blocks.fa"}
    assert "z.FA.gz" not in names
    kvae.merge(tmp_path / "shards", tmp_path / "merged.arrow")
    expected = locally(twin, monkeypatch, name, tmp_path / "local.arrow")
    assert (tmp_path / "merged.arrow").read_bytes() == expected


@pytest.mark.parametrize("pack", [bytes, bgzf], ids=["plain", "bgzf"])
def test_of_a_divided_file_a_shard_fetches_its_part(
    store: ObjectStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pack: Callable[[bytes], bytes],
) -> None:
    monkeypatch.setattr(parts, "_HEAD", 70_000)
    monkeypatch.setattr(parts, "_FIRST", 1000)
    monkeypatch.setattr(parts, "_BLOCK", 70_000)
    # The third record is longer than what is fetched at first, and than a shard.
    long = [("long", random_sequence(900_000, 1))]
    content = pack(fasta([*records(1, 2), *long, *records(2, 1500)], width=80))
    store.put("huge/huge.fa", content)
    rows = {}
    for i in range(1, 5):
        reads = Reads(monkeypatch)
        shard = kvae.featurize("s3://bucket/huge", tmp_path / "s", shard=(i, 4), **SMALL)
        rows[i] = shard.rows
        assert reads.bytes < 4 * len(content)
    # Once for the manifest, and once for the rows: head and cuts, and then its part.
    assert reads.bytes < (1.0 if pack is bgzf else 0.75) * len(content)
    assert rows[2] == 0
    kvae.featurize("s3://bucket/huge", tmp_path / "whole.arrow", **SMALL)
    kvae.merge(tmp_path / "s", tmp_path / "merged.arrow")
    assert (tmp_path / "merged.arrow").read_bytes() == (tmp_path / "whole.arrow").read_bytes()


def test_what_a_part_cannot_know_is_said(store: ObjectStore, tmp_path: Path) -> None:
    good = fasta(records(1, 400))
    store.put("parts/nameless.fa", good + fasta([("", random_sequence(900, 1))]))
    store.put("parts/wrong.fa", good + b">x\nAC!T\n")
    shard: dict[str, Any] = {"shard": (2, 2), **SMALL}
    said = refusal(lambda: kvae.featurize("s3://bucket/parts/nameless.fa", tmp_path / "a", **shard))
    assert said.startswith("s3://bucket/parts/nameless.fa: has records without a name, which are")
    said = refusal(lambda: kvae.featurize("s3://bucket/parts/wrong.fa", tmp_path / "b", **shard))
    assert said.startswith("s3://bucket/parts/wrong.fa (counted from byte ")
    assert ", line " in said
    kvae.featurize("s3://bucket/parts/nameless.fa", tmp_path / "whole.arrow", **SMALL)
    assert FeatureStore(tmp_path / "whole.arrow").ids[-1].as_py() == "record_401"


def test_one_shard_is_a_set_too(store: ObjectStore, twin: Path) -> None:
    kvae.featurize("s3://bucket/genomes/b.fna", "s3://bucket/single", shard="1/1", **SMALL)
    assert len(FeatureStore("s3://bucket/single")) > 0
    assert len(FeatureStore("s3://bucket/single/feats-0001-of-0001.arrow")) > 0
    assert refusal(lambda: FeatureStore("s3://bucket/genomes")).startswith(
        "s3://bucket/genomes: holds no shards"
    )


# --- feature files ----------------------------------------------------------------------------


class Fetched(Progress):
    def __init__(self) -> None:
        self.names: set[str] = set()
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)

    def fetching(self, name: str, done: int, total: int) -> None:
        self.names.add(name)
        assert 0 <= done <= total


def test_a_feature_file_is_fetched_once_and_when_it_has_changed(
    store: ObjectStore, small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caching, "_BLOCK", 10_000)
    store.put("feats/small.arrow", small_file.read_bytes())
    uri, cache = "s3://bucket/feats/small.arrow", tmp_path / "copies"
    fetched = Fetched()
    opened = FeatureStore(uri, cache=cache, progress=fetched)
    assert fetched.names == {"small.arrow"}
    assert fetched.messages[0].startswith(f"fetching {uri} (")
    rows = np.arange(len(opened))
    assert np.array_equal(opened.rows(rows), FeatureStore(small_file).rows(rows))
    assert str(opened.path) == uri
    (copy,) = cache.rglob("small.arrow")
    assert copy.read_bytes() == small_file.read_bytes()

    again = Fetched()
    FeatureStore(uri, cache=cache, progress=again)
    assert not again.names
    # Of the same size: what tells them apart is the entity tag.
    other = small_file.read_bytes().replace(b"a.fna", b"c.fna")
    store.put("feats/small.arrow", other)
    FeatureStore(uri, cache=cache, progress=again, verify=False)
    assert again.names == {"small.arrow"}
    assert copy.read_bytes() == other
    assert not list(cache.rglob("*.tmp"))

    # What was damaged here is told as what it is.
    assert other != small_file.read_bytes()
    said = refusal(lambda: FeatureStore(uri, cache=cache).rows(rows))
    assert said.startswith(f"{uri}: one of record batches")
    assert said.endswith(f"what is read is a copy in {copy.parent}, remove that to fetch it again")


def test_several_that_want_a_file_fetch_it_once(
    store: ObjectStore, small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("feats/once.arrow", small_file.read_bytes())
    fetch = caching._Fetching._fetch
    count = 0

    def counted(self: Any, *arguments: Any) -> None:
        nonlocal count
        count += 1
        fetch(self, *arguments)

    monkeypatch.setattr(caching._Fetching, "_fetch", counted)
    lengths: list[int] = []
    threads = [
        threading.Thread(
            target=lambda: lengths.append(len(FeatureStore("s3://bucket/feats/once.arrow")))
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lengths == [1100] * 4
    assert count == 1


def test_there_has_to_be_room_for_a_copy(
    store: ObjectStore, small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("feats/large.arrow", small_file.read_bytes())
    uri = "s3://bucket/feats/large.arrow"
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as full:
        full.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
        assert "give a larger folder with --cache" in refusal(lambda: FeatureStore(uri))
    file = write(tmp_path / "file", b"")
    assert "give another --cache" in refusal(lambda: FeatureStore(uri, cache=file / "x"))


def test_where_copies_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVAE_CACHE", str(tmp_path / "named"))
    assert caching.cache_folder(tmp_path / "given") == tmp_path / "given"
    assert caching.cache_folder() == tmp_path / "named"
    monkeypatch.delenv("KVAE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert caching.cache_folder() == tmp_path / "caches/kvae"
    monkeypatch.setenv("XDG_CACHE_HOME", str(write(tmp_path / "file", b"")))
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    assert caching.cache_folder().parent == tmp_path


def test_training_and_encoding_are_those_of_the_file(
    store: ObjectStore, feature_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("feats/train.arrow", feature_file.read_bytes())
    uri = "s3://bucket/feats/train.arrow"
    progress = Record()
    run(FeatureStore(feature_file), tmp_path / "here", epochs=1)
    run(uri, tmp_path / "there", epochs=1, progress=progress)  # type: ignore[arg-type]
    assert_same_weights(tmp_path / "here", tmp_path / "there")
    assert untimed(tmp_path / "here") == untimed(tmp_path / "there")
    data = json.loads((tmp_path / "there/data.json").read_text())
    assert data["inputs"] == [{"path": uri, "from_run": uri}]

    kvae.encode(tmp_path / "here", feature_file, tmp_path / "here.tsv.gz")
    line = f"kvae encode {tmp_path}/here {uri} -o s3://bucket/out/there.tsv.gz -q"
    assert in_process.kvae(line, monkeypatch) == 0
    assert store.get("out/there.tsv.gz") == (tmp_path / "here.tsv.gz").read_bytes()
    store.put_folder("runs/one", tmp_path / "here")
    line = f"kvae encode s3://bucket/runs/one/ {uri} -o {tmp_path}/remote.tsv.gz -q"
    assert in_process.kvae(line, monkeypatch) == 0
    assert (tmp_path / "remote.tsv.gz").read_bytes() == (tmp_path / "here.tsv.gz").read_bytes()
    kvae.encode("s3://bucket/runs/one/model.safetensors", uri, tmp_path / "file.tsv.gz")
    assert (tmp_path / "file.tsv.gz").read_bytes() == (tmp_path / "here.tsv.gz").read_bytes()
    said = refusal(lambda: kvae.encode("s3://bucket/feats", uri, tmp_path / "none.tsv"))
    assert said == "s3://bucket/feats: is no run: it holds no config.json"
    said = refusal(lambda: kvae.encode("s3://bucket/runs/none", uri, tmp_path / "none.tsv"))
    assert said.startswith("s3://bucket/runs/none: there is no such file")
    latents = read_latents("s3://bucket/out/there.tsv.gz")
    np.testing.assert_array_equal(latents.vectors, read_latents(tmp_path / "here.tsv.gz").vectors)
    assert str(latents.path) == "s3://bucket/out/there.tsv.gz"
    said = refusal(lambda: kvae.encode(tmp_path / "here", uri, uri, force=True))
    assert said == f"{uri} is the input: give another -o"


# --- outputs ----------------------------------------------------------------------------------


def test_outputs_replace_nothing_unless_they_are_told_to(
    store: ObjectStore, twin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = locally(twin, monkeypatch, "s3://bucket/genomes", tmp_path / "local.arrow")
    out = "s3://bucket/results/feats.arrow"
    kvae.featurize("s3://bucket/genomes", out, **SMALL)
    assert store.get("results/feats.arrow") == expected
    store.put("results/feats.arrow", b"something else")
    said = refusal(lambda: kvae.featurize("s3://bucket/genomes", out, **SMALL))
    assert said == f"{out}: exists already: give --force to replace it, or another -o"
    assert store.get("results/feats.arrow") == b"something else"
    kvae.featurize("s3://bucket/genomes", out, force=True, **SMALL)
    assert store.get("results/feats.arrow") == expected
    for wrong, why in (
        ("s3://bucket/results", "is a folder"),
        ("s3://bucket", "is a bucket"),
        ("s3://nobucket/x.arrow", "there is no bucket nobucket"),
    ):
        said = refusal(lambda: kvae.featurize("s3://bucket/genomes", wrong, **SMALL))  # noqa: B023
        assert said.startswith(f"{wrong}: {why}")


def test_an_output_that_breaks_off_is_not_there(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kvae.atomic import atomic_output

    content = bytes(12_000_000)
    monkeypatch.setattr("kvae.remote.writing._BLOCK", 6_000_000)
    store.put("half/old.bin", b"old")
    read = Place.info

    def interrupted(place: Place) -> Any:
        # Looked up before, and when all is sent and not complete.
        if sys._getframe(1).f_code.co_name == "upload":
            raise KeyboardInterrupt
        return read(place)

    with monkeypatch.context() as patch:
        patch.setattr(Place, "info", interrupted)
        with (
            pytest.raises(KeyboardInterrupt),
            atomic_output("s3://bucket/half/new.bin") as temporary,
        ):
            temporary.write_bytes(content)
    broken = write(tmp_path / "broken", content)
    old = places.open_place(Uri.of("s3://bucket/half/old.bin"))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda *_, **__: Breaking(content))
        with pytest.raises(KeyboardInterrupt):
            upload(broken, old, force=True)
    assert store.keys("half") == ["old.bin"]
    assert store.get("half/old.bin") == b"old"


class Breaking:
    """A file whose reading is interrupted after a block."""

    def __init__(self, content: bytes) -> None:
        self._content: bytes | None = content

    def __enter__(self) -> Breaking:
        return self

    def __exit__(self, *exception: object) -> None:
        self._content = None

    def read(self, size: int) -> bytes:
        content, self._content = self._content, None
        if content is None:
            raise KeyboardInterrupt
        return content[:size]


def test_where_files_show_while_they_grow_one_is_moved_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "source", b"content")
    (tmp_path / "there").mkdir()
    uri = Uri.of("hdfs://node:8020/there/x.arrow")
    place = Place(uri, LocalFileSystem(), str(tmp_path / "there/x.arrow"))
    upload(source, place, force=False)
    assert (tmp_path / "there/x.arrow").read_bytes() == b"content"
    said = refusal(lambda: upload(source, place, force=False))
    assert said.startswith("hdfs://node:8020/there/x.arrow: was made by someone else")
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["x.arrow"]


# --- mistakes ---------------------------------------------------------------------------------


def test_mistakes_are_one_line_that_tells_no_secret(
    store: ObjectStore, twin: Path, tmp_path: Path
) -> None:
    out = tmp_path / "f.arrow"
    closed = "endpoint_override=127.0.0.1:1&scheme=http"
    for uri, said in (
        ("s3://bucket/none.fa", "s3://bucket/none.fa: there is no such file"),
        ("s3://nobucket/x", "s3://nobucket/x: there is no bucket nobucket"),
        ("s3://bucket/shards-of-none/", "s3://bucket/shards-of-none: there is no such file"),
        (f"s3://name:hidden@bucket/x?{closed}", "s3://bucket/x: the store of 127.0.0.1:1 does"),
        ("s3://name:hid/hidden@bucket/x", "s3://: a name and a secret before the bucket have"),
        ("s3://bucket/x?secret_key=hidden", "s3://bucket/x: has an option secret_key"),
        ("s3:///x", "s3:///x: names no bucket"),
        ("https://user:hidden@host/x.fa?a=1", "https://host/x.fa: kvae reads files from s3://"),
    ):
        assert refusal(lambda: kvae.featurize(uri, out)).startswith(said)  # noqa: B023
    assert refusal(lambda: FeatureStore("s3://bucket/none.arrow")).startswith(
        "s3://bucket/none.arrow: there is no such file"
    )
    assert refusal(lambda: kvae.train("s3://bucket/genomes", "s3://bucket/run")).startswith(
        "s3://bucket/run: a run is written while it trains"
    )
    said = fails(run_kvae("merge", f"s3://name:hidden@bucket/x?{closed}", "-o", out))
    assert said.startswith("kvae: error: s3://bucket/x: the store of 127.0.0.1:1 does not answer")
    assert not out.exists()


def test_arrow_without_s3_is_said_to_be_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.fs

    places._s3.cache_clear()
    monkeypatch.delattr(pyarrow.fs, "S3FileSystem")
    said = refusal(lambda: kvae.featurize("s3://bucket/x.fa"))
    assert said.startswith("s3://bucket/x.fa: this pyarrow was built without s3://")


def test_reasons_are_worded_for_users() -> None:
    uri = Uri.of("s3://bucket/key")
    for text, reason in (
        ("AWS Error ACCESS_DENIED during HeadObject operation", "access is denied"),
        ("AWS Error NO_SUCH_BUCKET during ListObjectsV2", "there is no such bucket"),
        ("AWS Error SLOW_DOWN during GetObject", "the store is overloaded"),
        ("curlCode: 28, Timeout was reached", "does not answer (timeout was reached)"),
        ("Unable to load libjvm\nmore", "Hadoop's client is not found"),
        ("Cannot parse URI: 's3://n:hidden@b/k'", "Cannot parse URI: 's3://bucket/key"),
        ("odd (Request ID: 12)", "odd"),
    ):
        assert reason in places._reason(text, uri)
        assert "hidden" not in places._reason(text, uri)


def test_secrets_are_in_no_log(store: ObjectStore, tmp_path: Path) -> None:
    log = tmp_path / "log"
    uri = f"s3://name:hidden@bucket/none.fa?endpoint_override={store.endpoint}&scheme=http"
    found = run_kvae("featurize", uri, "-v", "--log-file", log, "-o", tmp_path / "f.arrow")
    assert found.returncode == 1
    text = found.stderr + found.stdout + log.read_text()
    assert "hidden" not in text
    assert f"s3://bucket/none.fa?endpoint_override={store.endpoint}" in text


# --- names ------------------------------------------------------------------------------------


def test_uris_are_told_from_paths() -> None:
    for path in ("a/b.fa", "s3", "./s3:/x", "-", "@list", "C:/x", Path("x"), "s3:x"):
        assert as_uri(path) is None
        assert as_path(path) == Path(path)
    assert not has_uris(["file:///x", "y"])
    uri = as_uri("S3://name:hidden@bucket//a%20b/c.fa/?region=eu&x=1")
    assert uri is not None
    assert (uri.host, uri.path, uri.name) == ("bucket", "a b/c.fa", "c.fa")
    assert str(uri) == "s3://bucket/a b/c.fa"
    assert uri.shown == "s3://bucket/a b/c.fa?region=eu"
    assert as_uri(uri.full) == uri
    assert as_uri(Path("s3://bucket/x?region=eu")) == as_uri("s3://bucket/x?region=eu")
    path = as_path("s3://bucket/a/b.tsv.gz?region=eu")
    assert isinstance(path, RemotePath)
    assert (str(path), path.name, path.exists()) == ("s3://bucket/a/b.tsv.gz", "b.tsv.gz", False)
    assert str(path / "c") == f"{path / 'c'}" == "s3://bucket/a/b.tsv.gz/c"
    assert as_uri(path) == as_uri("s3://bucket/a/b.tsv.gz?region=eu")
    assert shown("@s3://n:hidden@bucket/x?region=eu") == "@s3://bucket/x?region=eu"
    assert shown("s3://n:sec/ret@bucket/x") == "s3://..."
    assert shown("--k") == "--k"


def test_what_has_no_uri_loads_no_file_systems(tmp_path: Path) -> None:
    write(tmp_path / "x.fa", fasta(records(1, 9)))
    program = (
        "import sys, kvae\n"
        "kvae.featurize('x.fa', 'f.arrow', k=[3], window=100, min_length=50)\n"
        "assert not {'pyarrow.fs', 'pyarrow._s3fs', 'torch'} & {*sys.modules}, 'loaded'\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
