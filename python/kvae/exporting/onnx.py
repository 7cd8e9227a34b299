"""The encoder of a model as an ONNX graph."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kvae import __version__
from kvae.atomic import atomic_output
from kvae.encoding import evaluating
from kvae.errors import KvaeError
from kvae.model import KmerVAE
from kvae.model.files import model_fingerprint
from kvae.optional import require

__all__ = ["export_encoder"]

# Old enough for every runtime of the last years, new enough for LayerNorm and GELU.
_OPSET = 20
# A graph is one file of protobuf, and that is limited.
_LARGEST = 2**31 - 2**20


class _Encoder(nn.Module):
    """From rows to means and log variances, as plain tensors."""

    def __init__(self, model: KmerVAE) -> None:
        super().__init__()
        self.encoder = model.encoder

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        latent = self.encoder(features)
        return latent.mean, latent.log_var


def export_encoder(source: Any, output: Path, *, force: bool) -> tuple[int, int]:
    """Write an encoder, see `kvae.export`; the fields of a row and the latent units.

    The graph has one input, ``features``, float32 of shape (rows, fields), for any
    number of rows, and two outputs of shape (rows, latent units): ``latent``, the
    posterior means, and ``logvar``. All that the model does to its input, such as
    whitening, is part of it. Its metadata say which features it takes.

    Raises
    ------
    KvaeError
        Where there is no model, an optional package is missing, or the model is too
        large.
    """
    if isinstance(source, list | tuple) and len(source) == 1:
        source = source[0]
    if not isinstance(source, str | Path | KmerVAE):
        raise KvaeError(
            f"{output}: an encoder comes from one model: a run folder, a model file or pretrained"
        )
    model = source if isinstance(source, KmerVAE) else KmerVAE.from_pretrained(source)
    onnx = require("onnx", "onnx", "an .onnx file")
    require("onnxscript", "onnx", "an .onnx file")
    if sum(t.numel() * t.element_size() for t in model.encoder.state_dict().values()) > _LARGEST:
        raise KvaeError(f"{output}: the encoder is larger than the 2 GB that an .onnx file holds")
    device = next(model.parameters()).device
    try:
        with evaluating(model):
            graph = _trace(model.to("cpu"))
    finally:
        model.to(device)
    for key, value in _facts(model).items():
        entry = graph.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.checker.check_model(graph)
    with atomic_output(output, force=force) as temporary:
        onnx.save_model(graph, temporary)
    return model.layout.n_fields, model.config.n_latent


def _trace(model: KmerVAE) -> Any:
    # Two rows: a single one could be taken for a constant.
    example = torch.zeros(2, model.layout.n_fields)
    with torch.inference_mode(), _quiet():
        program = torch.onnx.export(
            _Encoder(model).eval(),
            (example,),
            input_names=["features"],
            output_names=["latent", "logvar"],
            dynamic_shapes={"features": {0: torch.export.Dim("rows")}},
            opset_version=_OPSET,
            dynamo=True,
            verbose=False,
        )
    if program is None:  # pragma: no cover - only with a file name
        raise RuntimeError("torch returned no graph")
    return program.model_proto


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what torch's exporter says to its developers from the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _facts(model: KmerVAE) -> dict[str, str]:
    """Say what a program has to know to make the rows, as text, which is all ONNX keeps."""
    return {
        "kvae.version": __version__,
        "kvae.model": model_fingerprint(model),
        "kvae.layout": model.layout.fingerprint,
        "kvae.k": ",".join(map(str, model.layout.ks)),
        "kvae.pseudocount": repr(model.layout.pseudocount),
        "kvae.blocks": ",".join(
            f"{block.name}:{block.start}-{block.stop}" for block in model.layout.blocks
        ),
    }
