"""An evaluation's tables of usefulness, read back from its file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvae.errors import KvaeError
from kvae.evaluation.outcome import FORMAT, LATENT

__all__ = ["Scores", "Useful", "UsefulLine", "read_scores"]

# Figures that are shown, where the evaluation has them, and whether they are shares.
_SHOWN = {
    "knn5": "5-NN accuracy",
    "recall@1": "recall@1",
    "kmeans_ari": "k-means ARI",
    "kmeans_nmi": "k-means NMI",
    "kmeans_f1": "k-means F1",
    "hdbscan_ari": "HDBSCAN ARI",
}


@dataclass(frozen=True)
class UsefulLine:
    """One kind of vectors.

    Attributes
    ----------
    name
        What they are; ``latent`` is the model's.
    is_model
        Whether they are.
    values
        Mean and standard deviation of each figure, None where there is none.
    """

    name: str
    is_model: bool
    values: tuple[tuple[float, float | None] | None, ...]


@dataclass(frozen=True)
class Useful:
    """What vectors are good for, by one label.

    Attributes
    ----------
    label
        The label.
    labels, rows
        How many there are.
    figures
        Names of the columns.
    lines
        Kinds of vectors, the best first by the first figure.
    """

    label: str
    labels: int
    rows: int
    figures: tuple[str, ...]
    lines: tuple[UsefulLine, ...]


@dataclass(frozen=True)
class Scores:
    """An evaluation.

    Attributes
    ----------
    path
        Its file.
    about
        A sentence: which model on which rows.
    fingerprint
        Of the weights of that model.
    features
        Name of the file that its rows are from.
    useful
        By label.
    words
        What the evaluation says of itself.
    """

    path: Path
    about: str
    fingerprint: str
    features: str
    useful: tuple[Useful, ...]
    words: tuple[str, ...]


def read_scores(path: str | Path) -> Scores:
    """Read ``evaluation.json``, or the one in a folder of `kvae.evaluate`.

    Raises
    ------
    KvaeError
        For a file that is missing, damaged or of another kind.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "evaluation.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        raise KvaeError(f"{path}: {reason}: make it with kvae evaluate") from error
    except ValueError as error:
        raise KvaeError(f"{path}: is damaged: evaluate again") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise KvaeError(f"{path}: is no evaluation of this version: evaluate again")
    try:
        useful = [_useful(label, found) for label, found in content["usefulness"].items()]
        within = content.get("within")
        if within is not None:
            title = f"{within['label']} within {within['group']}"
            useful.append(_useful(title, within["vectors"]))
        about = (
            f"{content['model']} on {content['rows']:,} of {content['of_rows']:,} rows of"
            f" {content['features']}"
        )
        return Scores(
            path,
            about,
            str(content["fingerprint"]),
            Path(str(content["features"])).name,
            tuple(useful),
            tuple(map(str, content["words"])),
        )
    except (KeyError, TypeError, ValueError, AttributeError, StopIteration) as error:
        raise KvaeError(f"{path}: is damaged: evaluate again") from error


def _useful(label: str, vectors: Mapping[str, Mapping[str, Any]]) -> Useful:
    first = next(iter(vectors.values()))
    found = [key for key in _SHOWN if any(key in line["scores"] for line in vectors.values())]
    lines = [
        UsefulLine(name, name == LATENT, tuple(_value(line["scores"], key) for key in found))
        for name, line in vectors.items()
    ]
    lines.sort(key=lambda line: -(line.values[0][0] if line.values and line.values[0] else 0.0))
    figures = tuple(_SHOWN[key] for key in found)
    return Useful(label, int(first["labels"]), int(first["rows"]), figures, tuple(lines))


def _value(scores: Mapping[str, Any], key: str) -> tuple[float, float | None] | None:
    if key not in scores or scores[key]["mean"] is None:
        return None
    spread = scores[key]["sd"]
    return float(scores[key]["mean"]), None if spread is None else float(spread)


def best_figures(lines: Sequence[UsefulLine]) -> tuple[float, ...]:
    """Largest mean of each figure."""
    columns = zip(*(line.values for line in lines), strict=True)
    return tuple(max((value[0] for value in column if value), default=0.0) for column in columns)
