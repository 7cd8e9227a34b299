"""The variational autoencoder of k-mer compositions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, cast, runtime_checkable

import torch
from torch import Tensor, nn

from kvae import defaults
from kvae.config import LossConfig, ModelConfig, override
from kvae.errors import KvaeError
from kvae.layout import Layout, default_layout
from kvae.model.decoder import Decoded, Decoder, Readouts, mean_gc
from kvae.model.encoder import build_encoder
from kvae.model.losses import Elbo, Mean, narrow_terms, negative_elbo, weighed
from kvae.model.one_pass import Watch, has_one_pass, pass_over
from kvae.model.posterior import Latent
from kvae.model.targets import Target, TargetReader
from kvae.presets import get_preset

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kvae.epoch_progress import TrainProgress
    from kvae.progress import Progress
    from kvae.reconstructing import Reconstructed
    from kvae.row_sources import Features


@runtime_checkable
class StartsFromFile(Protocol):
    """A part of a model that starts from a file."""

    def read_weights(self, layout: Layout) -> None:
        """Read the file."""
        ...


class KmerVAE(nn.Module):
    """Variational autoencoder on rows of log-space k-mer features.

    Parameters
    ----------
    config
        Architecture, for example ``kvae.presets.get_preset("dot").model``.
    layout
        Layout of the feature rows; all widths that depend on the features come
        from it.

    Raises
    ------
    KvaeError
        Where the layout lacks a block that the configuration names.

    Examples
    --------
    >>> model = KmerVAE.from_preset("dot", latent=64)  # doctest: +SKIP
    >>> model.fit("feats.arrow", epochs=5)  # doctest: +SKIP
    >>> model.encode("feats.arrow").shape  # doctest: +SKIP
    (89604, 64)
    """

    def __init__(self, config: ModelConfig, layout: Layout) -> None:
        super().__init__()
        self.config = config
        self.layout = layout
        self.encoder = build_encoder(config, layout)
        self.decoder = Decoder(config, layout)
        self.read_target = TargetReader(config, layout)
        # Of every epoch that `fit` has trained: what `metrics.jsonl` has of it.
        self.history: list[dict[str, Any]] = []
        self._is_trained = False

    @classmethod
    def from_preset(
        cls, name: str = defaults.PRESET, *, layout: Layout | None = None, **overrides: Any
    ) -> Self:
        """Build an untrained model by name.

        Parameters
        ----------
        name
            A preset, see `kvae.presets.PRESETS`.
        layout
            Layout of the features, the default one where omitted.
        **overrides
            Fields of `kvae.config.ModelConfig` to change, such as ``latent=64``.

        Raises
        ------
        KvaeError
            For an unknown preset or field.
        """
        config = override(get_preset(name).model, overrides)
        return cls(config, layout or default_layout())

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path = "kvae",
        *,
        layout: Layout | None = None,
        device: str | torch.device = "cpu",
    ) -> KmerVAE:
        """Load a trained model, in evaluation mode.

        Parameters
        ----------
        name_or_path
            ``kvae`` or ``pretrained`` for the model that comes with the package: it has
            the preset ``kvae`` and was trained on genomes of several hundred species.
            Else a run folder or a ``.safetensors`` file.
        layout
            Layout of the features it will see; the one with just the k-mers that the
            model uses where omitted.
        device
            Where to put the weights.

        Raises
        ------
        KvaeError
            Where there is no model, and as `load` does.
        """
        from kvae.model.files import read_model_config
        from kvae.pretrained import model_path

        path = model_path(name_or_path)
        layout = layout or Layout.from_ks(read_model_config(path).ks)
        return cls.load(path, layout=layout, device=device)

    def initialise(self) -> None:
        """Fill in what comes from other files, such as a pretrained readout's weights.

        Called once before training. A loaded model holds them itself.

        Raises
        ------
        KvaeError
            For a file that is missing or does not fit.
        """
        for module in self.modules():
            if isinstance(module, StartsFromFile):
                module.read_weights(self.layout)

    def inference(self, x_BF: Tensor) -> Latent:
        """Approximate posterior of feature rows.

        Parameters
        ----------
        x_BF
            Log-space feature rows, float, shape (rows, ``layout.n_fields``).

        Raises
        ------
        KvaeError
            For rows of another width.
        """
        if x_BF.ndim != 2 or x_BF.shape[1] != self.layout.n_fields:
            raise KvaeError(
                f"rows of {self.layout.n_fields} fields expected, "
                f"got an array of shape {tuple(x_BF.shape)}"
            )
        return cast(Latent, self.encoder(x_BF))

    def generative(self, z_BL: Tensor) -> Decoded:
        """Decode latents of shape (rows, latent units)."""
        return cast(Decoded, self.decoder(z_BL))

    def forward(
        self,
        x_BF: Tensor,
        generator: torch.Generator | None = None,
        noise_BL: Tensor | None = None,
    ) -> tuple[Latent, Decoded]:
        """Encode, draw a latent and decode it.

        ``generator`` is the source of the noise, torch's global one where omitted;
        ``noise_BL`` is the noise itself.
        """
        latent = self.inference(x_BF)
        return latent, self.generative(latent.sample(generator, noise_BL))

    def elbo(
        self,
        x_BF: Tensor,
        loss: LossConfig | None = None,
        *,
        beta: float | None = None,
        generator: torch.Generator | None = None,
        noise_BL: Tensor | None = None,
        pool: Callable[[Tensor], Tensor] | None = None,
        classes_B: Tensor | None = None,
        watch: Watch | None = None,
    ) -> Elbo:
        """Negative ELBO of a batch.

        Parameters
        ----------
        x_BF
            Log-space feature rows, shape (rows, ``layout.n_fields``). Where the
            loss's target is ``half``, first the one half of every row and then, in the
            same order, the other: each is decoded as its counterpart.
        loss
            Weights; the defaults of `kvae.config.LossConfig` where omitted.
        beta
            Weight of the KL divergence during warm-up; ``loss.beta`` where omitted.
        generator
            Source of the latent noise.
        noise_BL
            The noise itself, standard normal, shape (rows, latent units).
        pool
            For a part of a batch: see `kvae.model.losses.negative_elbo`.
        classes_B
            Which rows the contrast takes for alike, integers of shape (rows,); every
            row is a class of its own where omitted.
        watch
            What to sum for the metrics. Where it is given, and design and loss allow it
            (`kvae.model.one_pass.has_one_pass`), all is computed in one pass, which is
            faster and needs less memory, and outputs and targets are not kept.
        """
        loss = loss or LossConfig()
        beta = loss.beta if beta is None else beta
        paired = loss.target == "half"
        if paired and classes_B is None:
            classes_B = torch.arange(len(x_BF) // 2, device=x_BF.device).repeat(2)
        n_target = self.read_target.n_target
        # Each half is decoded as the other.
        shift = len(x_BF) // 2 if paired else 0
        if watch is not None and has_one_pass(self.config, loss):
            latent = self.inference(x_BF)
            said = self.decoder.readouts(latent.sample(generator, noise_BL))
            terms, sums = self._in_one_pass(said, x_BF, shift, watch)
            return weighed(latent, terms, n_target, loss, beta, pool, classes_B, sums)
        latent, decoded = self(x_BF, generator, noise_BL)
        target: Target = self.read_target(x_BF.roll(-shift, 0) if paired else x_BF)
        return negative_elbo(latent, decoded, target, n_target, loss, beta, pool, classes_B)

    def _in_one_pass(
        self, said: Readouts, x_BF: Tensor, shift: int, watch: Watch
    ) -> tuple[dict[str, Mean], dict[str, Tensor]]:
        """Terms of the loss, and sums for the metrics."""
        decoder, reader = self.decoder, self.read_target
        found = pass_over(said.value, said.gate_logit, x_BF, shift, decoder, reader, watch)
        n_rows = x_BF.new_tensor(float(len(x_BF)), dtype=torch.float32)
        n_cells = n_rows * said.value.shape[1]
        counts = {"nats": n_rows, "valMSE": found.sums["present"].to(n_rows.dtype)}
        terms = {
            name: Mean(total, counts.get(name, n_cells)) for name, total in found.totals.items()
        }
        wanted, gc_B1 = reader.narrow(x_BF)
        wanted = {name: rows_BK.roll(-shift, 0) for name, rows_BK in wanted.items()}
        if found.derived is None:
            dense, decoded_gc_B1 = said.dense, mean_gc(said.gcs)
        else:
            dense, decoded_gc_B1 = decoder.name_derived(found.derived)
        with torch.autocast(x_BF.device.type, enabled=False):
            terms |= narrow_terms(dense, decoded_gc_B1, wanted, gc_B1.roll(-shift, 0))
        return terms, found.sums

    @property
    def n_parameters(self) -> int:
        """Parameters plus the running means and variances of BatchNorm."""
        return sum(tensor.numel() for _, tensor in self.counted_tensors())

    def counted_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Tensors that count as parameters: all but BatchNorm's step counters."""
        for name, tensor in self.state_dict().items():
            if tensor.is_floating_point():
                yield name, tensor

    def fit(
        self,
        features: Features,
        output: str | Path | None = None,
        *,
        epochs: int = defaults.EPOCHS,
        batch_size: int = defaults.BATCH_SIZE,
        lr: float = defaults.LR,
        seed: int = defaults.SEED,
        loss: LossConfig | None = None,
        settings: Mapping[str, Any] | None = None,
        device: str = "auto",
        threads: int | None = None,
        force: bool = False,
        progress: TrainProgress | None = None,
    ) -> Self:
        """Train on rows, as `kvae.train` does, and keep the weights of the best epoch.

        A model that was loaded or fitted before goes on from its weights; a new one
        starts from weights that ``seed`` decides.

        Parameters
        ----------
        features
            A feature file; sequence files and folders; an object with rows such as a
            `kvae.FeatureStore`; or an array or tensor of rows, shape (rows,
            ``layout.n_fields``). The preset ``kvae`` learns from halves of sequences,
            which an array does not have.
        output
            Run folder to keep; none is kept where omitted.
        epochs
            Passes over the training rows. About a tenth of the rows is held out.
        batch_size, lr, seed
            See `kvae.config.TrainConfig`.
        loss
            The loss of the model's preset where omitted.
        settings
            Further keys of the configuration to values, for example
            ``{"training.precision": "fp32", "sequences.resample": True}``.
        device
            Where to train: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``. The
            weights of this model stay where they are.
        threads
            CPU threads, all that are available where omitted.
        force
            Replace a run that is in ``output``.
        progress
            Told what happens; silent where omitted.

        Returns
        -------
        KmerVAE
            This model, in evaluation mode. Its ``history`` holds a dictionary per
            epoch, the lines of a run's ``metrics.jsonl``.

        Raises
        ------
        KvaeError
            For rows of another layout, and as `kvae.train` does.
        """
        from kvae.fitting import fit

        named = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "seed": seed}
        changes = {f"training.{key}": value for key, value in named.items()}
        self.history = fit(
            self,
            features,
            output,
            loss=loss,
            settings=changes | dict(settings or {}),
            go_on=self._is_trained,
            device=device,
            threads=threads,
            force=force,
            progress=progress,
        )
        self._is_trained = True
        return self.eval()

    def encode(
        self,
        features: Features,
        *,
        batch_size: int = defaults.ENCODE_BATCH_SIZE,
        threads: int | None = None,
        progress: Progress | None = None,
    ) -> NDArray[np.float32]:
        """Latents of rows: the means of their posteriors, where the model's weights are.

        Parameters
        ----------
        features
            As for `fit`. Sequence files are cut as `kvae.featurize` does by default.
        batch_size
            Rows encoded at a time.
        threads
            CPU threads, all that are available where omitted.
        progress
            Told about every batch.

        Returns
        -------
        ndarray of float32, shape (rows, latent units)

        Raises
        ------
        KvaeError
            For rows of another layout or with values that are not finite.
        """
        from kvae.encoding import encode

        return encode(self, features, batch_size=batch_size, threads=threads, progress=progress)

    def reconstruct(
        self,
        features: Features,
        *,
        tilt: bool = False,
        refine: bool = False,
        batch_size: int = defaults.ENCODE_BATCH_SIZE,
        threads: int | None = None,
        progress: Progress | None = None,
    ) -> Reconstructed:
        """Encode rows and decode them: which 7-mers occur in them, and how often.

        Parameters
        ----------
        features, batch_size, threads, progress
            As for `encode`. Memory is that of the result, 64 kB a row.
        tilt
            Whether to move the profile of every row towards the row's own 4-mers, of which
            a latent keeps what says where the row comes from: nearer to this row, not to
            the genome that it is of. For models that decode profiles, such as ``kvae``.
        refine
            Whether to look further than the encoder does: the latent is moved by some steps
            to where the row's own 7-mers are more likely, and the profile a little towards its
            4-mers. Nearer to the genome that the row is of, in three times the time. For the
            same models.

        Returns
        -------
        kvae.reconstructing.Reconstructed
            ``kmers``, a list of 8,192 canonical 7-mers, and two float32 arrays of shape
            (rows, 8192): ``presence``, the probability that a 7-mer occurs in the row,
            and ``value``, its frequency.

        Raises
        ------
        KvaeError
            As for `encode`.
        """
        from kvae.reconstructing import reconstruct

        return reconstruct(
            self,
            features,
            tilt=tilt,
            refine=refine,
            batch_size=batch_size,
            threads=threads,
            progress=progress,
        )

    def save(self, path: str | Path, **facts: Any) -> None:
        """Write weights, configuration and layout to one safetensors file, atomically.

        Parameters
        ----------
        path
            Target; an existing file is replaced.
        **facts
            Further JSON values to keep beside the configuration.
        """
        from kvae.model.files import save_model

        save_model(self, Path(path), facts)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        layout: Layout | None = None,
        device: str | torch.device = "cpu",
    ) -> KmerVAE:
        """Read a model written by `save`, in evaluation mode.

        Parameters
        ----------
        path
            The ``.safetensors`` file (`from_pretrained` takes run folders, too).
        layout
            Layout of the features it will see, the default one where omitted.
        device
            Where to put the weights.

        Raises
        ------
        KvaeError
            For a missing, damaged or forged file, non-finite weights, or a model
            of another layout.
        """
        from kvae.model.files import load_model

        model = load_model(Path(path), layout or default_layout()).to(device).eval()
        model._is_trained = True
        return model
