"""Files that were made to harm: nothing in them is executed, and one line names them."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

import kvae
from feature_tables import table
from kvae import FeatureStore, KvaeError
from kvae.config import read_changes, read_setting
from kvae.encoding import encode
from kvae.latents import read_latents
from kvae.model.files import read_tensors
from sequences import fasta, random_sequence, write
from small import MemoryStore, small_run
from training_runs import assert_same_run, run

MARKER = "executed"


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.marker,))


def torch_file(payload: object) -> bytes:
    buffer = io.BytesIO()
    torch.save({"model": payload, "weight": torch.zeros(3)}, buffer)
    return buffer.getvalue()


def object_array(payload: object) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, latent=np.array([payload], dtype=object), kvae=np.array("{}"))
    return buffer.getvalue()


def refusal(function: Callable[[], object]) -> str:
    """What is said where a file is refused, in one line; nothing where it is not."""
    try:
        function()
    except KvaeError as error:
        message = str(error)
    else:
        return ""
    assert message
    assert "\n" not in message
    return message


FORGERIES: dict[str, Callable[[Path, bytes], bytes]] = {
    "a pickle": lambda marker, old: pickle.dumps(Payload(marker)),
    "an old pickle": lambda marker, old: pickle.dumps(Payload(marker), protocol=0),
    "a file of torch": lambda marker, old: torch_file(Payload(marker)),
    "a pickled array": lambda marker, old: object_array(Payload(marker)),
    "nothing": lambda marker, old: b"",
    "half of it": lambda marker, old: old[: len(old) // 2],
    "nested JSON": lambda marker, old: b"[" * 100_000,
    "a nested object": lambda marker, old: b'{"a":' * 100_000,
    "not a number": lambda marker, old: b'{"epoch": NaN}\nNaN\n',
    "text that is not UTF-8": lambda marker, old: b"\xff\xfe\xfa\n",
    "an empty object": lambda marker, old: b"{}",
    "null": lambda marker, old: b"null",
}


@pytest.fixture(scope="module")
def finished_run(store: MemoryStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("forged") / "run"
    run(store, folder, config=small_run(epochs=1))
    return folder


@pytest.fixture(scope="module")
def longer_run(
    store: MemoryStore, finished_run: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("longer") / "run"
    shutil.copytree(finished_run, folder)
    run(store, folder, config=None, epochs=2, resume=True)
    return folder


# What a forged file must keep from working; the others are of no consequence.
NEEDED = {
    "config.json": ("encode", "resume"),
    "model.safetensors": ("encode",),
    "checkpoint": ("resume",),
}
OTHERS = ("metrics.jsonl", "split.json", "baselines.json", "environment.json", "data.json")


@pytest.mark.parametrize("forgery", FORGERIES)
@pytest.mark.parametrize("name", [*NEEDED, *OTHERS])
def test_no_file_of_a_run_is_trusted(
    store: MemoryStore,
    finished_run: Path,
    longer_run: Path,
    tmp_path: Path,
    name: str,
    forgery: str,
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished_run, folder)
    (path,) = folder.glob("checkpoints/*") if name == "checkpoint" else [folder / name]
    path.write_bytes(FORGERIES[forgery](tmp_path / MARKER, path.read_bytes()))
    failed = []
    actions: dict[str, Callable[[], object]] = {
        "encode": lambda: encode(folder, store, device="cpu", threads=1),
        "resume": lambda: run(store, folder, config=None, epochs=2, resume=True),
    }
    for action, function in actions.items():
        if message := refusal(function):
            assert str(path) in message
            failed.append(action)
    assert tuple(failed) == NEEDED.get(name, ())
    assert not (tmp_path / MARKER).exists()
    if name in OTHERS and name != "metrics.jsonl":
        assert_same_run(folder, longer_run)


# --- safetensors ---------------------------------------------------------------------


def pack(header: bytes | dict[str, Any], data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(start: int, end: int, shape: list[int], dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


FACTS = {"__metadata__": {"format": "test"}}
DOUBLE = b'{"__metadata__":{"format":"test"},"a":%s,"a":%s}' % (
    (json.dumps(tensor(0, 4, [1])).encode(),) * 2
)
BAD_TENSORS: dict[str, bytes] = {
    "a header of 2^63 bytes": struct.pack("<Q", 1 << 63) + b"{}",
    "a header of a gigabyte": struct.pack("<Q", 1 << 30) + b"{}",
    "a header of 99 MB": struct.pack("<Q", 99_000_000) + b"{}",
    "a header of no bytes": struct.pack("<Q", 0),
    "a header that is a list": pack(b"[]"),
    "a header that is nested": pack(b"[" * 200_000),
    "a header that is not UTF-8": pack(b'{"\xff": 1}'),
    "tensors that overlap": pack(
        FACTS | {"a": tensor(0, 8, [2]), "b": tensor(4, 12, [2])}, bytes(12)
    ),
    "tensors with a gap": pack(
        FACTS | {"a": tensor(0, 4, [1]), "b": tensor(8, 12, [1])}, bytes(12)
    ),
    "the same bytes twice": pack(
        FACTS | {"a": tensor(0, 8, [2]), "b": tensor(0, 8, [2])}, bytes(8)
    ),
    "a tensor outside": pack(FACTS | {"a": tensor(0, 4_000, [1_000])}, bytes(8)),
    "bytes behind": pack(FACTS | {"a": tensor(0, 4, [1])}, bytes(400)),
    "offsets that go back": pack(FACTS | {"a": tensor(8, 4, [1])}, bytes(8)),
    "a negative size": pack(FACTS | {"a": tensor(0, 4, [-1])}, bytes(4)),
    "a size beyond 64 bits": pack(FACTS | {"a": tensor(0, 4, [1 << 33, 1 << 33])}, bytes(4)),
    "an unknown type": pack(FACTS | {"a": tensor(0, 4, [1], "PY_OBJECT")}, bytes(4)),
    "facts that are numbers": pack({"__metadata__": {"format": 1}}),
    "no facts": pack({"a": tensor(0, 4, [1])}, bytes(4)),
}


@pytest.mark.parametrize("kind", BAD_TENSORS)
def test_bad_tensors_are_refused(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / "model.safetensors", BAD_TENSORS[kind])
    assert refusal(lambda: read_tensors(path, "test")).startswith(f"{path}: ")


def test_a_tensor_named_twice_is_one_or_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "model.safetensors", pack(DOUBLE, bytes(4)))
    message = refusal(lambda: read_tensors(path, "test"))
    assert message.startswith(f"{path}: ") or [*read_tensors(path, "test")[0]] == ["a"]


def test_a_changed_byte_of_a_model_is_noticed(
    store: MemoryStore, finished_run: Path, tmp_path: Path
) -> None:
    """Anywhere in it: the header, the configuration, the weights."""
    whole = (finished_run / "model.safetensors").read_bytes()
    expected = encode(finished_run, store, device="cpu", threads=1)
    path = tmp_path / "model.safetensors"
    rng = random.Random(7)
    (header,) = struct.unpack("<Q", whole[:8])
    places = [*(rng.randrange(8 + header) for _ in range(60)), *range(8)]
    places += [rng.randrange(8 + header, len(whole)) for _ in range(60)]
    n_refused = 0
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        if message := refusal(lambda: encode(path, store, device="cpu", threads=1)):
            n_refused += 1
            assert str(path) in message
        else:
            # What does not matter, such as a blank in the header.
            latents = encode(path, store, device="cpu", threads=1)
            np.testing.assert_array_equal(latents, expected)
    assert n_refused > 0.9 * len(places)


# --- configurations ------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["toml", "json"])
@pytest.mark.parametrize("forgery", FORGERIES)
def test_configurations_are_data(tmp_path: Path, forgery: str, suffix: str) -> None:
    content = FORGERIES[forgery](tmp_path / MARKER, b'{"model": {"latent": 3}}')
    path = write(tmp_path / f"config.{suffix}", content)
    message = refusal(lambda: read_changes(path))
    assert message.startswith(f"{path}: ") or isinstance(read_changes(path), dict)
    assert not (tmp_path / MARKER).exists()


@pytest.mark.parametrize("value", ["[" * 100_000, '{"a":' * 100_000, "[" * 500 + "]" * 500])
def test_deep_settings_are_text_or_values(value: str) -> None:
    key, read = read_setting(f"a.b={value}")
    assert key == "a.b"
    assert isinstance(read, str | list)


# --- features and latents ------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".arrow", ".parquet", ".npz", ".tsv", ".tsv.gz"])
@pytest.mark.parametrize("forgery", FORGERIES)
def test_features_and_latents_are_data(tmp_path: Path, forgery: str, suffix: str) -> None:
    content = FORGERIES[forgery](tmp_path / MARKER, b"id\tsource\tstart\n" * 9)
    path = write(tmp_path / f"latent{suffix}", content)
    assert refusal(lambda: read_latents(path)).startswith(f"{path}: ")
    assert refusal(lambda: FeatureStore(path)).startswith(f"{path}: ")
    assert not (tmp_path / MARKER).exists()


def test_a_pickle_within_an_archive_stays_one(tmp_path: Path) -> None:
    path = tmp_path / "latent.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("latent.npy", pickle.dumps(Payload(tmp_path / MARKER)))
    with pytest.raises(KvaeError, match=r"latent\.npz: "):
        read_latents(path)
    assert not (tmp_path / MARKER).exists()


def with_column(source: Path, path: Path, name: str, values: Any) -> None:
    """Write a feature file again, with other values in a column."""
    rows = table(source)
    place = rows.column_names.index(name)
    rows = rows.set_column(place, rows.schema.field(name), values)
    with pa.ipc.new_file(os.fspath(path), rows.schema) as writer:
        writer.write_table(rows)


@pytest.mark.parametrize("length", [1 << 62, (1 << 64) - 1, 1 << 40, 100_000, 0])
def test_lengths_that_are_made_up_cost_no_memory(tmp_path: Path, length: int) -> None:
    whole, path = tmp_path / "whole.arrow", tmp_path / "feats.arrow"
    text = fasta([("a", random_sequence(3_000)), ("b", "ACGTN" * 400 + "ACGTACGT")])
    kvae.featurize(write(tmp_path / "a.fa", text), whole, k=[3], store="packed")
    with_column(whole, path, "length", pa.chunked_array([pa.array([3_000, length], pa.uint64())]))
    store = FeatureStore(path)
    assert store.rows(np.array([0])).shape == (1, 34)
    assert str(path) in refusal(lambda: store.rows(np.array([1])))


READ_ALL = """
import sys
import numpy as np
from kvae import FeatureStore, KvaeError

refused = 0
for path in sys.argv[1:]:
    try:
        store = FeatureStore(path)
        rows = store.rows(np.arange(len(store)))
        assert rows.shape == (len(store), store.layout.n_fields)
        store.ids.to_pylist()
        store.source_codes, store.source_names
        for name in store.column_names:
            store.column(name).to_pylist()
        for k in store.layout.ks:
            store.counts(np.arange(len(store)), k)
        if store.has_sequences:
            store.sequences(np.arange(len(store)))
    except KvaeError as error:
        refused += 1
        assert path in str(error) and "\\n" not in str(error), str(error)
    except Exception:
        print(path, file=sys.stderr)
        raise
print(refused)
"""


@pytest.mark.parametrize("kind", ["log", "counts", "packed"])
def test_flipped_bits_anywhere_end_in_rows_or_one_line(tmp_path: Path, kind: Any) -> None:
    """In a process of its own, which a wrong offset could take down."""
    records = [(f"r{i}", random_sequence(150 + i, i, "ACGT" * 9 + "N")) for i in range(12)]
    path = tmp_path / "whole.arrow"
    text = write(tmp_path / "a.fa", fasta(records))
    kvae.featurize(text, path, k=[3], store=kind, min_length=0, window=60)
    whole = path.read_bytes()
    paths = []
    for seed in range(250):
        rng = random.Random(seed)
        damaged = bytearray(whole)
        for _ in range(rng.choice([1, 1, 3])):
            damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        if seed % 5 == 0:
            del damaged[rng.randrange(len(whole)) :]
        paths.append(str(write(tmp_path / f"{seed}.arrow", bytes(damaged))))
    command = [sys.executable, "-X", "faulthandler", "-c", READ_ALL, *paths]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    assert int(result.stdout) > 50
