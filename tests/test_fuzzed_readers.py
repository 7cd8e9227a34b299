"""Any bytes where a file is expected: what is read, or one line that names the file."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import kvae
from kvae import FeatureStore, KvaeError
from kvae.config import RunConfig, parse_config, read_changes
from kvae.encoding import encode
from kvae.labels import read_labels
from kvae.latents import read_latents
from kvae.model.files import read_tensors
from kvae.run_folder import RunFolder
from sequences import fasta, random_sequence, write
from small import MemoryStore
from thorough import rather
from training_runs import Finished

SUFFIXES = (".arrow", ".parquet", ".npz", ".tsv", ".tsv.gz", ".h5ad")


def _metrics(path: Path) -> object:
    folder = RunFolder(path.parent)
    folder.metrics = path
    return folder.read_metrics()


def _all_rows(path: Path) -> object:
    store = FeatureStore(path)
    return [store.column(name).to_pylist() for name in store.column_names]


READERS: dict[str, Callable[[Path], object]] = {
    "feats.arrow": _all_rows,
    "model.safetensors": lambda path: read_tensors(path, "kvae-model-1"),
    "config.json": lambda path: parse_config(RunConfig, path.read_bytes(), str(path)),
    "changes.json": read_changes,
    "changes.toml": read_changes,
    "metrics.jsonl": _metrics,
    "labels.tsv": read_labels,
    **{f"latent{suffix}": read_latents for suffix in SUFFIXES if suffix != ".h5ad"},
}


@pytest.fixture(scope="module")
def examples(
    store: MemoryStore, finished: Finished, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A sound file for every reader."""
    folder = tmp_path_factory.mktemp("examples")
    text = write(folder / "a.fa", fasta([("a", random_sequence(3_000)), ("b", "ACGTN" * 300)]))
    kvae.featurize(text, folder / "feats.arrow", k=[3], window=100)
    for suffix in SUFFIXES[:-1]:
        encode(finished.folder, store, folder / f"latent{suffix}", device="cpu", threads=1)
    for name in ("model.safetensors", "config.json", "metrics.jsonl"):
        write(folder / name, (finished.folder / name).read_bytes())
    write(folder / "changes.json", json.dumps({"model": {"latent": 3}}).encode())
    write(folder / "changes.toml", b'preset = "dot"\n[model]\nlatent = 3\n')
    write(folder / "labels.tsv", b"id\tspecies\na\tx\nb\ty\n")
    return folder


def check(path: Path, content: bytes, read: Callable[[Path], object]) -> None:
    path.write_bytes(content)
    try:
        read(path)
    except KvaeError as error:
        message = str(error)
    else:
        return
    assert message.startswith(str(path)), message
    assert "\n" not in message


EXAMPLES = settings(
    max_examples=rather(40, 3_000),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.parametrize("name", READERS)
@given(data=st.data())
@EXAMPLES
def test_changed_files_are_read_or_refused(
    examples: Path, tmp_path: Path, name: str, data: st.DataObject
) -> None:
    content = bytearray((examples / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content)))
        length = data.draw(st.sampled_from([0, 1, 1, 4, 30, len(content)]))
        content[start : start + length] = data.draw(st.binary(max_size=12))
    check(tmp_path / name, bytes(content), READERS[name])


@pytest.mark.parametrize("name", READERS)
@given(content=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
@EXAMPLES
def test_any_bytes_are_read_or_refused(tmp_path: Path, name: str, content: bytes) -> None:
    check(tmp_path / name, content, READERS[name])


@given(
    header=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["__metadata__", "dtype", "shape", "data_offsets", "a"]), inner
            )
        ),
        max_leaves=12,
    ),
    data=st.binary(max_size=40),
)
@EXAMPLES
def test_any_header_of_tensors_is_read_or_refused(
    tmp_path: Path, header: object, data: bytes
) -> None:
    text = json.dumps(header).encode()
    content = struct.pack("<Q", len(text)) + text + data
    check(tmp_path / "model.safetensors", content, READERS["model.safetensors"])


@pytest.mark.parametrize("kind", [[], {}, [[]], 1, None, True])
@pytest.mark.parametrize("key", ["encoder", "decoder.sparse.readout"])
def test_kinds_are_text(examples: Path, tmp_path: Path, key: str, kind: object) -> None:
    config = json.loads((examples / "config.json").read_text())
    node = config["model"]
    for name in key.split("."):
        node = node[name]
    node["kind"] = kind
    path = tmp_path / "config.json"
    with pytest.raises(KvaeError, match=r"config\.json: model.*kind") as caught:
        parse_config(RunConfig, json.dumps(config), str(path))
    assert "\n" not in str(caught.value)
