"""What an evaluation reads: a model, rows that fit it, and a reference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kvae.config import SequencesConfig
from kvae.errors import KvaeError
from kvae.evaluation.compositions import KS
from kvae.evaluation.vectors import Reference
from kvae.featurizing import DEFAULT_KS
from kvae.labels import SPECIES, label_rows, read_labels
from kvae.model import KmerVAE
from kvae.model.files import model_fingerprint, read_model_config
from kvae.pretrained import run_or_pretrained
from kvae.row_sources import Features, open_rows
from kvae.run_folder import RunFolder
from kvae.sampling import balanced_rows
from kvae.store import FeatureStore

__all__ = ["about", "open_model", "open_reference"]


def open_model(
    model: str | Path | KmerVAE,
    features: Features,
    threads: int | None,
    *,
    verify: bool = True,
    cache: str | Path | None = None,
) -> tuple[FeatureStore, KmerVAE, SequencesConfig]:
    """Open rows that fit a model, the model, and how sequences are cut into its rows.

    They are cut as those that the model was trained on.

    Raises
    ------
    KvaeError
        Where there is no model or no rows, or they do not fit each other.
    """
    if isinstance(model, KmerVAE):
        store = _open_store(
            features, model.layout.ks, SequencesConfig(), threads, verify=verify, cache=cache
        )
        if store.layout.fingerprint != model.layout.fingerprint:
            raise KvaeError(
                f"{store.path}: has rows of layout {store.layout.fingerprint}, and the model"
                f" reads {model.layout.fingerprint}"
            )
        return store, _checked(model), SequencesConfig()
    run = RunFolder(run_or_pretrained(model))
    k: Sequence[int] = DEFAULT_KS
    cutting = SequencesConfig()
    if run.path.is_file():
        k = read_model_config(run.path).ks
    elif run.is_run:
        config = run.read_config()
        k = config.model.ks
        cutting = config.sequences.model_copy(update={"resample": False})
    store = _open_store(features, k, cutting, threads, verify=verify, cache=cache)
    return store, _checked(run.load_model(store.layout)), cutting


def _open_store(
    features: Features,
    k: Sequence[int],
    cutting: SequencesConfig,
    threads: int | None,
    *,
    verify: bool,
    cache: str | Path | None,
) -> FeatureStore:
    """Open rows that have what predictors are made of."""
    store = open_rows(features, k=k, cutting=cutting, threads=threads, verify=verify, cache=cache)
    if not isinstance(store, FeatureStore):
        raise KvaeError(f"{store.path}: rows to evaluate must come from a file of features")
    if missing := [k for k in KS if k not in store.layout.ks]:
        raise KvaeError(
            f"{store.path}: has no {missing[0]}-mers, and an evaluation needs 7-, 4- and 3-mers"
        )
    return store


def _checked(model: KmerVAE) -> KmerVAE:
    if (block := model.config.decoder.sparse.block) != "7-mers":
        raise KvaeError(f"the model decodes {block}, and an evaluation is one of 7-mers")
    return model


def open_reference(
    reference: Features | None,
    labels: str | Path | None,
    store: FeatureStore,
    cutting: SequencesConfig,
    rows: int,
    seed: int,
    threads: int | None,
    *,
    verify: bool = True,
    cache: str | Path | None = None,
) -> Reference | None:
    """Open reference rows, None where there are none.

    Parameters
    ----------
    reference, labels
        Of the command line. Rows without a label are left out where there are any.
    store
        The evaluated rows, whose layout the reference must have.
    cutting
        How sequences are cut into rows.
    rows
        How many at most, spread over all files.
    seed
        Decides which.
    threads
        To read them with.
    verify
        Hold what is read of them against its checksums.
    cache
        Folder for copies of remote files.
    """
    if reference is None:
        return None
    theirs = _open_store(reference, store.layout.ks, cutting, threads, verify=verify, cache=cache)
    if theirs.layout.fingerprint != store.layout.fingerprint:
        raise KvaeError(f"{theirs.path}: has rows of another layout than {store.path}")
    everything = np.arange(len(theirs), dtype=np.int64)
    if labels is None:
        return Reference(theirs, balanced_rows(theirs.source_codes, everything, rows, seed))
    table = read_labels(labels)
    name = next((name for name in SPECIES if name in table.columns), table.choose()[0])
    column = label_rows(theirs, table, [name]).columns[name]
    known = everything[column != ""]
    chosen = balanced_rows(theirs.source_codes, known, rows, seed)
    return Reference(theirs, chosen, column[chosen])


def about(
    model: str | Path | KmerVAE,
    vae: KmerVAE,
    store: FeatureStore,
    reference: Features | None,
    table_path: str | Path | None,
) -> dict[str, Any]:
    """Facts about what is evaluated."""
    return {
        "model": "a model in memory" if isinstance(model, KmerVAE) else str(model),
        "fingerprint": model_fingerprint(vae),
        "latent": vae.config.n_latent,
        "features": str(store.path),
        "layout": store.layout.fingerprint,
        "labels": None if table_path is None else str(table_path),
        "reference": None if reference is None else _name(reference),
    }


def _name(features: Features) -> str:
    if isinstance(features, str | Path):
        return str(features)
    if isinstance(features, Sequence):
        return ", ".join(str(path) for path in features)
    return str(getattr(features, "path", "array"))
