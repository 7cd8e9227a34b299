"""Facts of a run in words."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kvae.config import ProfileEncoderConfig
from kvae.reporting.curves import Curve
from kvae.reporting.numbers import bases, counted, number, percent, seconds
from kvae.reporting.reading import RunFacts

__all__ = ["beside", "command", "facts", "lead"]


def lead(run: RunFacts, n_parameters: int) -> str:
    """Say in a few sentences what a run is, and whether it is through."""
    text = (
        f"A variational autoencoder of the design “{run.title}”"
        if run.config is not None and run.config.preset
        else "A variational autoencoder"
    )
    text += f" with {n_parameters:,} parameters: every row of k\u2011mers becomes "
    text += f"{run.model.n_latent} numbers."
    rows = run.split.get("train_rows")
    if rows:
        of = f" of {bases(run.data['bases'])}" if "bases" in run.data else ""
        text += f" It was trained on {rows:,} rows{of}"
        text += f" and watched on {run.split['validation_rows']:,} others."
    if run.config is None:
        return text + " This is a model without the folder of its run."
    if not run.epochs:
        return text + " No epoch is finished yet."
    best = run.epochs[run.best or 0]["epoch"]
    if run.is_finished:
        ending = f"All {counted(len(run.epochs), 'epoch')} are done; the best was {best}."
        if len(run.epochs) == 1:
            ending = "Its one epoch is done."
    else:
        ending = (
            f"It is not finished: {len(run.epochs)} of {run.planned} epochs are done, the best"
            f" was {best}."
        )
    return f"{text} {ending}"


def facts(run: RunFacts, n_parameters: int, fingerprint: str | None) -> list[tuple[str, str]]:
    """List what was run: names and values."""
    found = [("Model", _model(run, n_parameters))]
    found += _rows(run)
    if run.config is not None:
        found.append(("Epochs", _epochs(run)))
        found.append(("Settings", _settings(run)))
    found += _machine(run.environment)
    if run.epochs:
        rates = sorted(float(epoch.get("rows_per_second", 0.0)) for epoch in run.epochs)
        middle = rates[len(rates) // 2]
        found.append(("Time", f"{seconds(run.seconds)} in epochs, {middle:,.0f} rows a second"))
    if fingerprint:
        found.append(("Fingerprint", f"{fingerprint}, of the weights"))
    return found


def _model(run: RunFacts, n_parameters: int) -> str:
    preset = f"preset {run.config.preset}, " if run.config and run.config.preset else ""
    kind = "on a sphere" if isinstance(run.model.encoder, ProfileEncoderConfig) else "normal"
    return (
        f"{preset}{n_parameters:,} parameters; latent of {run.model.n_latent} units, {kind};"
        f" output space {run.model.output_space}"
    )


def _rows(run: RunFacts) -> list[tuple[str, str]]:
    found = []
    data, split = run.data, run.split
    if data:
        # Names alone: a page is sent to people who have other folders.
        files = ", ".join(Path(str(entry["path"])).name for entry in data.get("inputs", ()))
        text = f"{data['rows']:,} rows of {bases(data['bases'])} from"
        text += f" {counted(data['sources'], 'sequence file')}"
        found.append(("Data", f"{text}: {files}" if files else text))
    if split:
        units = {"source": "whole files", "contig": "whole contigs", "row": "single rows"}
        held = split.get("held_out", [])
        unit = units.get(str(split.get("unit")), "rows")
        text = f"{split['train_rows']:,} rows to train on, {split['validation_rows']:,} held out"
        text += f" as {unit}" + (f" ({len(held):,})" if held else "")
        found.append(("Split", text))
    return found


def _epochs(run: RunFacts) -> str:
    if not run.epochs:
        return f"none of {run.planned} finished yet"
    best = run.epochs[run.best or 0]
    loss = number(best["validation"]["loss"])
    done = f"{len(run.epochs)} of {run.planned}"
    state = "finished" if run.is_finished else "not finished: kvae train --resume goes on"
    return f"{done}, {state}; best {best['epoch']}, with a validation loss of {loss}"


def _settings(run: RunFacts) -> str:
    assert run.config is not None
    training = run.config.training
    text = f"batches of {training.batch_size} rows, learning rate {training.lr:g}"
    text += f" ({training.schedule}), seed {training.seed}"
    if run.config.loss.contrast_weight > 0:
        text += f"; rows of one {training.positives} count as alike"
    if run.in_halves:
        text += "; one half of each row predicts the other"
    return text


def _machine(environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    if not environment:
        return []
    found = []
    device, name = environment.get("device"), environment.get("device_name")
    text = f"{device} ({name})" if name else str(device)
    threads, processes = environment.get("threads"), environment.get("processes")
    if threads:
        text += f", {counted(int(threads), 'thread')}"
    if processes and processes > 1:
        text += f", {processes} processes"
    found.append(("Device", f"{text}, {environment.get('precision', '')}".rstrip(", ")))
    if environment.get("started"):
        found.append(("Started", str(environment["started"])))
    packages = environment.get("packages") or {}
    versions = [f"{key} {value}" for key, value in packages.items() if value]
    versions.append(f"Python {environment.get('python', '')}".strip())
    found.append(("Versions", ", ".join(versions)))
    if environment.get("platform"):
        found.append(("System", str(environment["platform"])))
    return found


def command(run: RunFacts) -> str:
    """Return the command that started or last resumed a run, empty where it is not known."""
    words = run.environment.get("command")
    if not isinstance(words, list) or not words:
        return ""
    first, *rest = [str(word) for word in words]
    name = first.rpartition("/")[2]
    return shlex.join(["kvae" if name in ("kvae", "__main__.py") else name, *rest])


def beside(curve: Curve) -> str:
    """Write the levels of a curve."""
    show = percent if curve.is_share else number
    return ", ".join(f"{line.name} {show(line.value)}" for line in curve.lines)
