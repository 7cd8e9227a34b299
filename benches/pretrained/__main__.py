"""Train the model that comes with the package, and examine it on species it has not seen.

    python benches/pretrained ../shared -o pretrained-run

makes ``train``, ``seen`` and ``unseen`` of the shared genomes, trains the preset
``kvae`` on the first with species as positives, and examines it on the others: pieces
of the same genomes that were kept from training, and pieces of species of which none
was. Every vector of `kvae.evaluate` stands beside it. One core takes about twenty
minutes, half of it for the training; with ``--test 2`` another fifth of the species is the
one that is not seen.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import torch
from pieces import write_pieces

import kvae
from kvae.config import read_setting
from kvae.epoch_progress import EpochRecord, TrainProgress
from kvae.model import KmerVAE

# Whatever differs from the preset. Pieces are at most 40 kb long, their halves at
# most 20 kb; classes are known, so a contrast may be sharp.
SETTINGS = {
    "sequences.window": 20_000,
    "sequences.min_length": 3_000,
    "sequences.resample": True,
    "training.positives": "species",
    "training.batch_size": 256,
    "training.per_class": 2,
    "training.schedule": "cosine",
    "training.validation": 0.02,
    "loss.temperature": 0.07,
    "loss.contrast_weight": 1000.0,
}
EPOCHS = 24
# In use the encoder is not what the decoder was trained with: it has to adapt.
DECODER_EPOCHS = 4
# Pieces that are examined of each kind.
ROWS = 4_000


class Lines(TrainProgress):
    """Prints a line for each epoch."""

    def message(self, text: str) -> None:
        """Print a message."""
        print(text, flush=True)

    def epoch(self, record: EpochRecord, line: str) -> None:
        """Print the figures of an epoch."""
        print(line, flush=True)


def main() -> None:
    """Prepare, train, examine; what is there already is not done again."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shared", type=Path, help="folder with genomes and species")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--test", type=int, default=0, help="fold of the species to examine with")
    parser.add_argument(
        "--without", type=int, action="append", default=[], help="further folds not to train on"
    )
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--export", type=Path, help="write the model here, at half precision")
    parser.add_argument("-t", "--threads", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    args.output.mkdir(exist_ok=True)
    prepared, run = args.output / "prepared.json", args.output / "run"
    settings = SETTINGS | dict(map(read_setting, args.set))
    if not prepared.exists():
        out = {args.test, *args.without}
        excluded = write_pieces(args.shared, args.output, args.test, out)
        facts = {"left out folds": sorted(out), "pieces left out for their species": excluded}
        prepared.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    started = time.monotonic()
    train(args, args.output / "encoder", settings, args.epochs)
    frozen = settings | {"training.freeze": ["encoder"]}
    train(args, run, frozen, DECODER_EPOCHS, init=args.output / "encoder")
    print(f"trained for {(time.monotonic() - started) / 60:.0f} min")
    if args.export:
        export(run / "model.safetensors", args.export)
    for name in ("seen", "unseen"):
        kvae.evaluate(
            run,
            kvae.open_sequences(args.output / name, window=0, threads=args.threads),
            args.output / f"examined-{name}",
            labels=args.output / f"{name}.tsv",
            by=("species", "genus"),
            reference=args.output / "train",
            reference_labels=args.output / "train.tsv",
            rows=ROWS,
            threads=args.threads,
            force=True,
        )
        print((args.output / f"examined-{name}" / "evaluation.md").read_text(encoding="utf-8"))


def train(
    args: argparse.Namespace,
    run: Path,
    settings: dict[str, Any],
    epochs: int,
    init: Path | None = None,
) -> None:
    """Train a run, or what is left of it."""
    kvae.train(
        args.output / "train",
        run,
        preset="kvae",
        settings=settings,
        labels=args.output / "train.tsv",
        init=init,
        epochs=epochs,
        seed=args.seed,
        threads=args.threads,
        resume=True,
        progress=Lines(),
    )


def export(source: Path, target: Path) -> None:
    """Write a model's weights at half precision, which is what the package holds."""
    model = KmerVAE.load(source).half()
    model.save(target, source="benches/pretrained")
    half = KmerVAE.load(target)
    worst = max(
        float((a.float() - b.float()).abs().max())
        for a, b in zip(model.state_dict().values(), half.state_dict().values(), strict=True)
        if torch.is_floating_point(a)
    )
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB, largest difference {worst:.2g}")


if __name__ == "__main__":
    main()
