"""Model files: safetensors with the configuration as JSON in the header.

Nothing is unpickled. A file is checked as a whole before a model exists: its
configuration is validated, every tensor's name and shape must be the one the
configuration implies, and weights must be finite.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from kvae.atomic import atomic_output
from kvae.config import ModelConfig, parse_config
from kvae.errors import KvaeError

if TYPE_CHECKING:
    from kvae.layout import Layout
    from kvae.model.vae import KmerVAE

MODEL_FORMAT = "kvae-model-1"

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """Write tensors and a string header to a safetensors file, atomically.

    A checksum of both goes into the header: safetensors has none.
    """
    on_cpu = {name: t.detach().to("cpu").contiguous() for name, t in tensors.items()}
    metadata = dict(header) | {"crc32": _checksum(on_cpu, header)}
    with atomic_output(path, force=True) as temporary, temporary.open("wb") as file:
        _write_tensors(file, on_cpu, metadata)


def _write_tensors(
    file: BinaryIO, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """Write what safetensors reads.

    Its own writer makes another temporary file, which nobody would know of where the
    process is killed.
    """
    # Larger items first, so that all are aligned.
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    end = 0
    for name in order:
        tensor = tensors[name]
        start, end = end, end + tensor.nbytes
        header[name] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for name in order:
        file.write(_bytes_of(tensors[name]))


def read_tensors(
    path: Path, file_format: str, names: Sequence[str] | None = None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file whose header has ``format`` equal to ``file_format``.

    Parameters
    ----------
    path, file_format
        The file, and what it has to be.
    names
        The tensors to read, all where omitted.

    Raises
    ------
    KvaeError
        Where the file is missing, a folder, damaged or of another format; of damage to
        tensors where all are read.
    """
    if path.is_dir():
        raise KvaeError(f"{path}: is a folder; name the .safetensors file in it")
    try:
        with safe_open(path, framework="pt") as file:
            header: dict[str, str] = file.metadata() or {}
            found = header.get("format")
            if found != file_format:
                raise KvaeError(f"{path}: format is {found!r}, {file_format!r} expected")
            wanted = file.keys() if names is None else names
            tensors = {name: file.get_tensor(name) for name in wanted}
    except FileNotFoundError:
        raise KvaeError(f"{path}: no such file") from None
    except (OSError, SafetensorError) as error:
        reason = str(error).replace("\n", " ")
        raise KvaeError(
            f"{path}: not a readable safetensors file ({reason}): copy it again, or train again"
        ) from None
    stated = header.pop("crc32", None)
    if names is None and stated is not None and stated != _checksum(tensors, header):
        raise KvaeError(f"{path}: is damaged (checksums differ): copy it again, or train again")
    return tensors, header


def _bytes_of(tensor: Tensor) -> Any:
    return tensor.reshape(-1).view(torch.uint8).numpy()


def _checksum(tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> str:
    """Eight hexadecimal digits that change with any part of a file."""
    crc = zlib.crc32(json.dumps(dict(sorted(header.items()))).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        crc = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), crc)
        crc = zlib.crc32(_bytes_of(tensor), crc)
    return f"{crc:08x}"


def restore(
    module: torch.nn.Module, tensors: Mapping[str, Tensor], path: Path, *, assign: bool
) -> None:
    """Put tensors into a module after checking names, shapes and values.

    With ``assign`` the module takes over the tensors themselves and may live on
    the meta device; without, they are copied into the ones it has.

    Raises
    ------
    KvaeError
        At the first tensor that is missing, unknown, misshapen or not finite.
    """
    expected = module.state_dict()
    for name in sorted(expected.keys() ^ tensors.keys()):
        problem = "missing" if name in expected else "unknown"
        raise KvaeError(f"{path}: {problem} tensor {name}")
    for name, wanted in expected.items():
        found = tensors[name]
        if found.shape != wanted.shape or found.dtype != wanted.dtype:
            raise KvaeError(
                f"{path}: tensor {name} is {_describe(found)}, "
                f"its configuration implies {_describe(wanted)}"
            )
        if not torch.isfinite(found).all():
            raise KvaeError(f"{path}: tensor {name} has values that are not finite")
    module.load_state_dict(dict(tensors), assign=assign)


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"


def save_model(model: KmerVAE, path: Path, facts: Mapping[str, Any]) -> None:
    """Write a model, see `KmerVAE.save`."""
    header = {
        "format": MODEL_FORMAT,
        "config": model.config.model_dump_json(),
        "layout": model.layout.fingerprint,
        "facts": json.dumps(dict(facts)),
    }
    write_tensors(path, model.state_dict(), header)


def load_model(path: Path, layout: Layout) -> KmerVAE:
    """Read a model, see `KmerVAE.load`."""
    from kvae.model.vae import KmerVAE

    tensors, header = read_tensors(path, MODEL_FORMAT)
    check_layout(header.get("layout", "none"), layout, str(path))
    config = parse_config(ModelConfig, header.get("config", ""), str(path))
    # On the meta device a forged configuration costs no memory before the shapes
    # have been compared.
    with torch.device("meta"):
        model = KmerVAE(config, layout)
    # Stored at half the size, computed with in single precision.
    tensors = {
        name: tensor.float() if tensor.dtype == torch.float16 else tensor
        for name, tensor in tensors.items()
    }
    restore(model, tensors, path, assign=True)
    return model


def read_model_config(path: Path) -> ModelConfig:
    """Read the configuration of a model file, and none of its weights.

    Raises
    ------
    KvaeError
        For a missing, damaged or forged file.
    """
    _, header = read_tensors(path, MODEL_FORMAT, names=())
    return parse_config(ModelConfig, header.get("config", ""), str(path))


def check_layout(fingerprint: str, layout: Layout, origin: str) -> None:
    """Refuse to combine a model and features of different layouts.

    Raises
    ------
    KvaeError
        Where the fingerprints differ; the message names both.
    """
    if fingerprint != layout.fingerprint:
        raise KvaeError(
            f"{origin}: the model was made for feature layout {fingerprint}, "
            f"the features have layout {layout.fingerprint}"
        )


def model_fingerprint(model: KmerVAE) -> str:
    """Hash of configuration and weights, 16 hexadecimal digits."""
    digest = hashlib.sha256(model.config.model_dump_json().encode())
    for name, tensor in model.counted_tensors():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
