"""Clusters around a given number of centres (k-means)."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning

from kvae.nearest import unit_rows

__all__ = ["centre_clusters"]

# Products of rows and centres beyond which centres are moved by samples of the rows.
_SMALL = 200_000_000
_BATCH = 16_384


def centre_clusters(vectors: NDArray[np.float32], k: int, seed: int = 0) -> NDArray[np.int64]:
    """Cluster vectors into k by their angles.

    Parameters
    ----------
    vectors
        Shape (rows, latent).
    k
        How many, at most as many as there are rows.
    seed
        Decides where centres start.

    Returns
    -------
    ndarray of int64, shape (rows,)
        Clusters from 0 in no order.
    """
    unit = unit_rows(vectors)
    if len(unit) * k <= _SMALL:
        model = KMeans(k, n_init=3, random_state=seed)
    else:
        model = MiniBatchKMeans(k, n_init=1, batch_size=_BATCH, random_state=seed)
    with warnings.catch_warnings():
        # Fewer distinct vectors than clusters: the clusters say so themselves.
        warnings.simplefilter("ignore", ConvergenceWarning)
        found: NDArray[np.int64] = model.fit_predict(unit).astype(np.int64)
    return found
