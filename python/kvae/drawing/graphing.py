"""``kvae.graph``: the picture and the table of a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from kvae.atomic import atomic_output, check_output
from kvae.config import ModelConfig, RunConfig
from kvae.drawing.nodes import ModelGraph
from kvae.drawing.trace import trace
from kvae.errors import KvaeError
from kvae.featurizing import DEFAULT_KS
from kvae.layout import Layout
from kvae.model import KmerVAE
from kvae.remote.uris import as_path
from kvae.run_folder import RunFolder
from kvae.training.options import configure

__all__ = ["draw_config", "graph"]

_KINDS = {".svg": "svg", ".png": "png"}


def graph(
    run: str | Path | None = None,
    output: str | Path | None = None,
    *,
    preset: str | None = None,
    config: RunConfig | str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    force: bool = False,
) -> ModelGraph:
    """Draw a model as a graph of its blocks.

    The graph is read from the model itself, built without memory for weights.

    Parameters
    ----------
    run
        A run folder, whose configuration is drawn.
    output
        ``.svg`` or ``.png`` file to write; nothing is written where omitted.
    preset, config, settings
        A design instead of a run, as for `kvae.train`.
    force
        Replace an existing output.

    Returns
    -------
    ModelGraph
        Its nodes with widths and numbers of parameters.

    Raises
    ------
    KvaeError
        For an unknown design, a folder that is no run, and an output that may
        not be written.
    """
    kind = None if output is None else _kind(as_path(output))
    if output is not None:
        check_output(output, force=force)
    if run is not None and (preset is not None or config is not None or settings):
        raise KvaeError("give either a run or a design, not both")
    if run is not None:
        chosen, title = RunFolder(run).read_config(), str(run)
    else:
        chosen = configure(preset, config, settings)
        title = str(config) if isinstance(config, str | Path) else chosen.preset or "model"
    changes = [
        f"{key}={value if isinstance(value, str) else json.dumps(value)}"
        for key, value in (settings or {}).items()
    ]
    drawn = trace(_build(chosen.model), title, changes)
    if output is not None and kind is not None:
        from kvae.drawing.picture import draw

        with atomic_output(output, force=force) as temporary:
            draw(drawn, temporary, kind)
    return drawn


def draw_config(config: ModelConfig, title: str, path: Path) -> ModelGraph:
    """Draw an architecture as an SVG file, and return its graph."""
    from kvae.drawing.picture import draw

    drawn = trace(_build(config), title, [])
    draw(drawn, path, "svg")
    return drawn


def _kind(path: Path) -> str:
    try:
        return _KINDS[path.suffix.lower()]
    except KeyError:
        known = " or ".join(_KINDS)
        raise KvaeError(f"{path}: unknown format, the name must end in {known}") from None


def _build(config: ModelConfig) -> KmerVAE:
    """Build a model without weights, for rows with all blocks that it names."""
    decoder = config.decoder
    named = [*config.encoder.encoded, decoder.sparse.block, *decoder.dense_blocks]
    ks = {int(name.removesuffix("-mers")) for name in named if name.removesuffix("-mers").isdigit()}
    layout = Layout.from_ks(sorted(ks | set(DEFAULT_KS)))
    with torch.device("meta"):
        model = KmerVAE(config, layout)
    return model.to("meta").eval()
