"""Training a model object, in a run folder that may be temporary."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kvae.config import LossConfig, RunConfig
from kvae.epoch_progress import TrainProgress
from kvae.errors import KvaeError
from kvae.model import KmerVAE
from kvae.model.files import check_layout
from kvae.presets import loss_for
from kvae.row_sources import Features, open_rows
from kvae.run_folder import RunFolder
from kvae.training.options import configure
from kvae.training.run import train

__all__ = ["fit"]


def fit(
    model: KmerVAE,
    features: Features,
    output: str | Path | None,
    *,
    loss: LossConfig | None,
    settings: Mapping[str, Any],
    go_on: bool,
    device: str,
    threads: int | None,
    force: bool,
    progress: TrainProgress | None,
) -> list[dict[str, Any]]:
    """Train a model in place, see `KmerVAE.fit`; the figures of its epochs.

    ``go_on`` is whether it starts from the weights that it has.
    """
    base = RunConfig(model=model.config, loss=loss or loss_for(model.config))
    config = configure(None, base, settings)
    if config.model != model.config:
        raise KvaeError("the model is what it is: give settings of the training and the loss")
    source = open_rows(
        features,
        k=model.layout.ks,
        cutting=config.sequences,
        seed=config.training.seed,
        threads=threads,
        layout=model.layout,
    )
    check_layout(model.layout.fingerprint, source.layout, str(source.path))
    weights_on = next(model.parameters()).device
    with tempfile.TemporaryDirectory(prefix="kvae-fit.", ignore_cleanup_errors=True) as temporary:
        init = Path(temporary) / "start.safetensors" if go_on else None
        if init is not None:
            model.save(init)
        result = train(
            source,
            Path(temporary) / "run" if output is None else output,
            config=config,
            init=init,
            device=device,
            threads=threads,
            force=force,
            progress=progress,
        )
        run = RunFolder(result.run)
        best = KmerVAE.load(run.model, layout=model.layout, device=weights_on)
        model.load_state_dict(best.state_dict())
        return run.read_metrics()
