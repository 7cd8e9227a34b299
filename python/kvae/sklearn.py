"""The encoder as a transformer of scikit-learn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from kvae import defaults
from kvae.errors import KvaeError
from kvae.featurizing import featurize_sequences
from kvae.layout import Layout
from kvae.presets import get_preset
from kvae.row_sources import Features
from kvae.sequences import pack_sequences

if TYPE_CHECKING:
    from kvae.model import KmerVAE

__all__ = ["KmerEncoder"]

# Rows of sequences are made and encoded so many at a time: 34 MB of them.
_SEQUENCES_AT_A_TIME = 1024


class KmerEncoder(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Encodes sequences, or rows of features, to latent vectors.

    Parameters
    ----------
    model
        A trained model, which `fit` only opens: ``kvae`` for the one that comes with the
        package, a run folder, a ``.safetensors`` file or a `kvae.KmerVAE`.
    preset
        Instead of a trained model: the design that `fit` trains. The preset ``kvae``
        takes sequences only.
    latent
        Latent units of a model that is trained, the preset's where omitted.
    epochs, random_state
        How long to train a model, and its seed.
    batch_size
        Rows encoded at a time.
    device
        Where to compute: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
    threads
        CPU threads, all that are available where omitted.

    Attributes
    ----------
    model_ : kvae.KmerVAE
        The model that `transform` encodes with.
    n_features_in_ : int
        Fields of a row, where `fit` was given an array of rows.

    Examples
    --------
    >>> from sklearn.cluster import KMeans
    >>> from sklearn.pipeline import make_pipeline
    >>> make_pipeline(KmerEncoder(), KMeans(8)).fit_predict(sequences)  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str | Path | KmerVAE = "kvae",
        *,
        preset: str | None = None,
        latent: int | None = None,
        epochs: int = defaults.EPOCHS,
        random_state: int = defaults.SEED,
        batch_size: int = defaults.ENCODE_BATCH_SIZE,
        device: str = "auto",
        threads: int | None = None,
    ) -> None:
        self.model = model
        self.preset = preset
        self.latent = latent
        self.epochs = epochs
        self.random_state = random_state
        self.batch_size = batch_size
        self.device = device
        self.threads = threads

    def fit(self, X: Any, y: Any = None) -> Self:
        """Open the model, or train one on X.

        Parameters
        ----------
        X
            Sequences (a list of ``str`` or ``bytes``, letters as in a FASTA file, each
            of which is a row), or rows of log-space features of shape (rows, fields),
            or an object with rows such as a `kvae.FeatureStore`.
        y
            Nothing: it is ignored.

        Returns
        -------
        KmerEncoder
            This object.

        Raises
        ------
        KvaeError
            For a model that is not there, X that does not fit it, and as
            `kvae.KmerVAE.fit` does.
        """
        from kvae.device import resolve_device
        from kvae.model import KmerVAE

        if self.preset is not None:
            self.model_ = self._train(X)
        elif isinstance(self.model, KmerVAE):
            self.model_ = self.model
        else:
            device = resolve_device(self.device)
            self.model_ = KmerVAE.from_pretrained(self.model, device=device)
        if hasattr(X, "shape") and _has_rows(X):
            self._check_width(X)
            self.n_features_in_ = int(X.shape[1])
        return self

    def _train(self, X: Any) -> KmerVAE:
        from kvae.device import resolve_device
        from kvae.model import KmerVAE

        layout = Layout.from_ks(get_preset(str(self.preset)).model.ks)
        overrides = {} if self.latent is None else {"latent": self.latent}
        model = KmerVAE.from_preset(str(self.preset), layout=layout, **overrides)
        sequences = _sequences(X)
        features: Features = X
        if sequences is not None:
            features = pack_sequences(sequences, k=layout.ks, threads=self.threads)
        model.fit(
            features,
            epochs=self.epochs,
            seed=self.random_state,
            device=self.device,
            threads=self.threads,
        )
        return model.to(resolve_device(self.device))

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Encode rows.

        Parameters
        ----------
        X
            As for `fit`.

        Returns
        -------
        ndarray of float32, shape (rows, latent units)

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        KvaeError
            For a sequence without letters, and rows of another layout or with values
            that are not finite.
        """
        check_is_fitted(self, "model_")
        sequences = _sequences(X)
        if sequences is None:
            if hasattr(X, "shape"):
                self._check_width(X)
                X = np.asarray(X)
            return self._encode(X)
        if len(sequences) == 0:
            raise KvaeError("there are no sequences to encode")
        ks = self.model_.layout.ks
        return np.concatenate(
            [
                self._encode(featurize_sequences(part, k=ks, threads=self.threads))
                for part in _parts(sequences)
            ]
        )

    def _encode(self, features: Features) -> NDArray[np.float32]:
        return self.model_.encode(features, batch_size=self.batch_size, threads=self.threads)

    def _check_width(self, X: Any) -> None:
        expected = self.model_.layout.n_fields
        if len(X.shape) != 2 or X.shape[1] != expected:
            raise KvaeError(
                f"rows of {expected} fields expected, got an array of shape {tuple(X.shape)}"
            )

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Names of the latent units: ``z1``, ``z2`` and so on, as in files of `kvae.encode`.

        Parameters
        ----------
        input_features
            Nothing: it is ignored.
        """
        check_is_fitted(self, "model_")
        n_latent = self.model_.config.n_latent
        return np.array([f"z{i + 1}" for i in range(n_latent)], dtype=object)

    def __sklearn_tags__(self) -> Any:
        """Tell that sequences are taken, and float32 is given."""
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = True
        tags.transformer_tags.preserves_dtype = []
        return tags


def _sequences(X: Any) -> Sequence[str | bytes] | None:
    """Return X as a list of sequences, None where it is something else.

    Raises
    ------
    KvaeError
        For one sequence that is not in a list, and a list of what is no sequence.
    """
    if isinstance(X, str | bytes):
        raise KvaeError("a list of sequences expected, got one sequence: put it in a list")
    if _has_rows(X):
        return None
    sequences = list(X)
    for i, sequence in enumerate(sequences):
        if not isinstance(sequence, str | bytes):
            raise KvaeError(
                f"sequences (str or bytes) or rows of shape (rows, fields) expected, and entry {i} "
                f"is of type {type(sequence).__name__}"
            )
    return sequences


def _has_rows(X: Any) -> bool:
    """Tell a feature file, and an array of rows, from a list of sequences."""
    return hasattr(X, "source_codes") or (hasattr(X, "shape") and len(X.shape) == 2)


def _parts(sequences: Sequence[str | bytes]) -> Iterator[Sequence[str | bytes]]:
    for start in range(0, len(sequences), _SEQUENCES_AT_A_TIME):
        yield sequences[start : start + _SEQUENCES_AT_A_TIME]
