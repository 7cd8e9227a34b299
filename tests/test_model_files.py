"""Model files: what is saved comes back, what is damaged or forged is refused."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from kvae.errors import KvaeError
from kvae.layout import Layout
from kvae.model import KmerVAE
from kvae.model.files import model_fingerprint
from small import make_layout, model_rows, small_model

Tensors = dict[str, Tensor]
Header = dict[str, str]


@pytest.fixture
def model(layout: Layout) -> KmerVAE:
    torch.manual_seed(1)
    return KmerVAE(small_model(), layout).eval()


def test_save_and_load_keep_latents_bit_for_bit(
    model: KmerVAE, layout: Layout, tmp_path: Path
) -> None:
    x_BF = model_rows(layout)
    model.train()
    model(x_BF)  # running statistics that are not the initial ones
    model.eval()
    model.save(tmp_path / "model.safetensors", epoch=3)
    copy = KmerVAE.load(tmp_path / "model.safetensors", layout=layout)
    assert copy.config == model.config
    assert not copy.training
    assert torch.equal(copy.inference(x_BF).mean, model.inference(x_BF).mean)
    assert torch.equal(copy.inference(x_BF).log_var, model.inference(x_BF).log_var)
    assert model_fingerprint(copy) == model_fingerprint(model)


def test_a_model_of_another_layout_is_refused_with_both_named(
    model: KmerVAE, tmp_path: Path
) -> None:
    model.save(tmp_path / "model.safetensors")
    other = make_layout(96, 20, 8, fingerprint="other-layout")
    with pytest.raises(KvaeError, match=r"small-layout.*other-layout"):
        KmerVAE.load(tmp_path / "model.safetensors", layout=other)


def forge(path: Path, change: Callable[[Tensors, Header], None]) -> None:
    """Rewrite a model file with its tensors and header changed."""
    with safe_open(path, framework="pt") as file:
        header = dict(file.metadata())
        del header["crc32"]  # a forger would leave it out
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(tensors, header)
    save_file(tensors, path, metadata=header)


def _drop(tensors: Tensors, header: Header) -> None:
    del tensors["encoder.mean.bias"]


def _add(tensors: Tensors, header: Header) -> None:
    tensors["surprise"] = torch.zeros(1)


def _reshape(tensors: Tensors, header: Header) -> None:
    tensors["encoder.mean.bias"] = torch.zeros(13)


def _retype(tensors: Tensors, header: Header) -> None:
    tensors["encoder.mean.bias"] = torch.zeros(12, dtype=torch.int64)


def _poison(tensors: Tensors, header: Header) -> None:
    tensors["encoder.mean.bias"][3] = float("nan")


def _widen(tensors: Tensors, header: Header) -> None:
    header["config"] = header["config"].replace('"latent":12', '"latent":60000')


def _unknown_key(tensors: Tensors, header: Header) -> None:
    header["config"] = header["config"].replace('"latent":12', '"latent":12,"extra":1')


def _no_config(tensors: Tensors, header: Header) -> None:
    del header["config"]


def _other_format(tensors: Tensors, header: Header) -> None:
    header["format"] = "pt"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_drop, "missing tensor encoder.mean.bias"),
        (_add, "unknown tensor surprise"),
        (_reshape, r"encoder.mean.bias is float32 of shape \(13,\).*shape \(12,\)"),
        (_retype, "encoder.mean.bias is int64"),
        (_poison, "encoder.mean.bias has values that are not finite"),
        (_widen, "its configuration implies"),
        (_unknown_key, "extra: Extra inputs"),
        (_no_config, "Invalid JSON"),
        (_other_format, "format is 'pt'"),
    ],
)
def test_forged_model_is_refused_in_one_line(
    model: KmerVAE,
    layout: Layout,
    tmp_path: Path,
    change: Callable[[Tensors, Header], None],
    message: str,
) -> None:
    path = tmp_path / "model.safetensors"
    model.save(path)
    forge(path, change)
    with pytest.raises(KvaeError, match=message) as caught:
        KmerVAE.load(path, layout=layout)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damaged_model_is_refused_in_one_line(
    model: KmerVAE, layout: Layout, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    model.save(path)
    whole = path.read_bytes()
    damaged = [whole[:n] for n in (0, 4, 8, 100, len(whole) // 2, len(whole) - 1)]
    damaged += [b"\xff" * 64, pickle.dumps({"a": 1}), b"{" * 1000]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(KvaeError, match="not a readable safetensors file") as caught:
            KmerVAE.load(path, layout=layout)
        assert "\n" not in str(caught.value)
    path.unlink()
    with pytest.raises(KvaeError, match="no such file"):
        KmerVAE.load(path, layout=layout)
    with pytest.raises(KvaeError, match="is a folder; name the"):
        KmerVAE.load(tmp_path, layout=layout)
