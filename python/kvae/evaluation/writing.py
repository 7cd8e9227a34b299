"""The files of an evaluation."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from kvae.atomic import atomic_output
from kvae.evaluation.outcome import Evaluation
from kvae.evaluation.tables import as_markdown, describe
from kvae.remote.uris import RemotePath

__all__ = ["FILES", "write_outputs"]

_JSON, _MARKDOWN = "evaluation.json", "evaluation.md"
_PICTURES = ("evaluation.png", "evaluation.svg")
FILES = (_JSON, _MARKDOWN, *_PICTURES)


def write_outputs(evaluation: Evaluation, folder: Path, *, force: bool) -> None:
    """Write the tables and the picture, each file as a whole or not at all."""
    from kvae.evaluation.picture import draw

    if not isinstance(folder, RemotePath):
        folder.mkdir(exist_ok=True)
    plain = _without_nan(evaluation.as_dict())
    texts = {
        _JSON: json.dumps(plain, indent=2, ensure_ascii=False) + "\n",
        _MARKDOWN: as_markdown(evaluation),
    }
    for name, text in texts.items():
        with atomic_output(folder / name, force=force) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")
    title = describe(evaluation).partition(". ")[0].replace("`", "")
    for name in _PICTURES:
        with atomic_output(folder / name, force=force) as temporary:
            draw([(temporary, name.rpartition(".")[2])], evaluation, title)


def _without_nan(tree: Any) -> Any:
    """JSON knows no number that is none: null stands for it."""
    if isinstance(tree, dict):
        return {key: _without_nan(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_without_nan(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree
