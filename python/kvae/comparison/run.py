"""``kvae.compare``: several configurations on the same rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from kvae.atomic import atomic_output
from kvae.comparison.entries import Entry, read_entries
from kvae.comparison.outcome import Outcome
from kvae.comparison.sample import RowSample
from kvae.comparison.tables import as_json, as_markdown, as_tsv
from kvae.config import RunConfig
from kvae.epoch_progress import TrainProgress
from kvae.errors import KvaeError
from kvae.row_sources import RowSource, open_rows
from kvae.run_folder import RunFolder
from kvae.training.options import continued
from kvae.training.run import TrainingInterrupted, train

__all__ = ["Comparison", "ComparisonInterrupted", "compare"]

_FORMAT = "kvae-compare-1"
_FACTS = "compare.json"


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Attributes
    ----------
    folder
        A run folder per configuration, ``compare.tsv``, ``compare.json``,
        ``compare.md``, ``compare.png`` and ``compare.svg``.
    outcomes
        The configurations in the given order.
    """

    folder: Path
    outcomes: list[Outcome]

    @property
    def failed(self) -> list[Outcome]:
        """Those whose training failed."""
        return [outcome for outcome in self.outcomes if outcome.status == "failed"]


class ComparisonInterrupted(TrainingInterrupted):
    """Ctrl-C during a comparison; the message says how to go on."""


def compare(
    features: str | Path | RowSource = "feats.arrow",
    configs: str | Iterable[str] | Mapping[str, RunConfig] = (),
    output: str | Path = "compare",
    *,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    seed: int | None = None,
    rows: int | None = None,
    device: str = "auto",
    threads: int | None = None,
    force: bool = False,
    progress: TrainProgress | None = None,
) -> Comparison:
    """Train several configurations on the same rows and put their figures side by side.

    All see the same split and start from the same seed. Called again with the
    same arguments it goes on where it was stopped, and what is finished is not
    trained again; ``epochs`` may be raised, and configurations added.

    Parameters
    ----------
    features
        Feature file, or an object with rows such as a `kvae.FeatureStore`.
    configs
        Presets, TOML or JSON files, ``NAME=BASE,KEY=VALUE,...`` (see
        `kvae.comparison.entries`), or configurations by name.
    output
        Folder to make: a run folder per configuration, the tables and the picture.
    epochs, batch_size, lr, seed
        For all configurations; their own where omitted.
    rows
        Use a sample of this many rows, see `kvae.comparison.sample.sample_rows`.
    device, threads
        As for `kvae.train`.
    force
        Start all of these configurations over.
    progress
        Told what happens; silent where omitted.

    Returns
    -------
    Comparison
        Configurations whose training failed are in it, with the reason; the
        others are not held up by them.

    Raises
    ------
    KvaeError
        Before anything is trained: for unreadable entries or features, a folder
        that holds something else, and a run there of another configuration.
    ComparisonInterrupted
        On Ctrl-C. Every finished epoch is in the folder then.
    """
    progress = progress or TrainProgress()
    changes = {
        "training.epochs": epochs,
        "training.batch_size": batch_size,
        "training.lr": lr,
        "training.seed": seed,
    }
    entries = read_entries(configs, {k: v for k, v in changes.items() if v is not None})
    source = open_rows(features)
    n_all = len(source)
    if rows is not None:
        source = RowSample(source, rows)
    folder = Path(output)
    about = {"format": _FORMAT, "features": str(source.path), "of_rows": n_all, "rows": len(source)}
    _check_folder(folder, about, entries, force=force)
    for entry in entries if force and folder.exists() else ():
        run = RunFolder(folder / entry.name)
        run.check_free(force=True)
        if run.is_run:
            with run.reserved():
                run.start(entry.config)
    folder.mkdir(exist_ok=True)
    outcomes = [Outcome(entry) for entry in entries]
    _write_tables(folder, about, outcomes)
    for i, entry in enumerate(entries):
        progress.message(f"[{i + 1}/{len(entries)}] {entry.name}")
        try:
            outcomes[i] = _train(folder, entry, source, device, threads, progress)
        except TrainingInterrupted as interruption:
            finished = RunFolder(folder / entry.name).read_metrics()
            outcomes[i] = Outcome(entry, epochs=finished)
            _write_tables(folder, about, outcomes)
            raise ComparisonInterrupted(
                f"interrupted in {entry.name}; every finished epoch is in {folder}: "
                "the same command goes on from there",
                interruption.signal,
            ) from interruption
        if outcomes[i].problem:
            progress.message(f"{entry.name} failed: {outcomes[i].problem}")
        _write_tables(folder, about, outcomes)
    _write_pictures(folder, about, outcomes)
    return Comparison(folder, outcomes)


def _check_folder(
    folder: Path, about: Mapping[str, Any], entries: list[Entry], *, force: bool
) -> None:
    """Refuse what cannot be continued, before anything is written."""
    if not folder.absolute().parent.is_dir():
        raise KvaeError(f"{folder.parent}: no such folder")
    if not folder.exists():
        return
    if not folder.is_dir():
        raise KvaeError(f"{folder} exists and is not a folder")
    stored = _read_facts(folder)
    if stored is None:
        if any(folder.iterdir()):
            raise KvaeError(f"{folder} exists and holds something else than a comparison")
        return
    if force:
        return
    for key in ("of_rows", "rows"):
        if stored.get(key) != about[key]:
            raise KvaeError(
                f"{folder} compares {stored.get('rows')} of {stored.get('of_rows')} rows, not "
                f"{about['rows']} of {about['of_rows']}: give --force to start over, or another -o"
            )
    for entry in entries:
        _check_run(RunFolder(folder / entry.name), entry.config)


def _read_facts(folder: Path) -> dict[str, Any] | None:
    """Read ``compare.json``; None where there is none of ours."""
    try:
        facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return facts if isinstance(facts, dict) and facts.get("format") == _FORMAT else None


def _check_run(run: RunFolder, config: RunConfig) -> None:
    """Refuse to go on with a run of another configuration, or with more epochs."""
    if not run.is_run:
        run.check_free(force=False)
        return
    advice = "give --force to start over, or another name"
    try:
        continued(run, None, config, {})
    except KvaeError as error:
        raise KvaeError(f"{error} ({advice})") from None
    if (done := len(run.read_metrics())) > config.training.epochs:
        raise KvaeError(
            f"{run.path} has {done} epochs, more than the {config.training.epochs} asked "
            f"for: give --epochs {done}, or {advice.removeprefix('give ')}"
        )


def _train(
    folder: Path,
    entry: Entry,
    source: RowSource,
    device: str,
    threads: int | None,
    progress: TrainProgress,
) -> Outcome:
    """Train what is left of a configuration, and read what there is then."""
    run = RunFolder(folder / entry.name)
    try:
        result = train(
            source,
            run.path,
            config=entry.config,
            device=device,
            threads=threads,
            resume=run.is_run,
            progress=progress,
        )
        outcome = Outcome(entry, "finished", n_parameters=result.n_parameters)
    except KvaeError as error:
        outcome = Outcome(entry, "failed", problem=" ".join(str(error).split()))
    except torch.OutOfMemoryError:
        # The largest model must not take the others' results with it.
        outcome = Outcome(entry, "failed", problem=f"out of memory on {device}")
    return replace(outcome, epochs=run.read_metrics())


def _write_tables(folder: Path, about: Mapping[str, Any], outcomes: list[Outcome]) -> None:
    """Write the tables as they stand; each is replaced as a whole."""
    facts = {**about, "configurations": as_json(outcomes)}
    texts = {
        _FACTS: json.dumps(facts, indent=2, ensure_ascii=False) + "\n",
        "compare.tsv": as_tsv(outcomes),
        "compare.md": as_markdown(outcomes, _describe(about)),
    }
    for name, text in texts.items():
        with atomic_output(folder / name, force=True) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")


def _write_pictures(folder: Path, about: Mapping[str, Any], outcomes: list[Outcome]) -> None:
    from kvae.comparison.picture import draw

    with (
        atomic_output(folder / "compare.png", force=True) as png,
        atomic_output(folder / "compare.svg", force=True) as svg,
    ):
        draw([(png, "png"), (svg, "svg")], outcomes, _describe(about))


def _describe(about: Mapping[str, Any]) -> str:
    rows, all_rows = about["rows"], about["of_rows"]
    share = f"{rows:,} rows" if rows == all_rows else f"{rows:,} of {all_rows:,} rows"
    return f"{share} of {Path(about['features']).name}, the same split and seed for all"
