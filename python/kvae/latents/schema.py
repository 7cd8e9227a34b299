"""Columns of a latent file."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

__all__ = ["LATENT_FORMAT", "LATENT_KEY", "LOGVAR_KEY", "latent_schema"]

LATENT_FORMAT = "kvae-latent-1"
# Where the vectors stand in an AnnData file.
LATENT_KEY = "obsm/X_kvae"
LOGVAR_KEY = "obsm/X_kvae_logvar"


def latent_schema(n_latent: int, facts: dict[str, Any], *, with_logvar: bool) -> pa.Schema:
    """Columns of a latent file; ``facts`` become the metadata entry ``kvae``."""
    vector = pa.list_(pa.field("item", pa.float32(), nullable=False), n_latent)
    fields = [
        pa.field("id", pa.string()),
        pa.field("source", pa.dictionary(pa.int32(), pa.string())),
        pa.field("start", pa.uint64()),
        pa.field("end", pa.uint64()),
        pa.field("length", pa.uint64()),
        pa.field("latent", vector, nullable=False),
    ]
    if with_logvar:
        fields.append(pa.field("logvar", vector, nullable=False))
    text = json.dumps({"format": LATENT_FORMAT, "latent": n_latent, **facts})
    return pa.schema(fields, metadata={"kvae": text})
