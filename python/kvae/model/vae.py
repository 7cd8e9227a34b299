"""The variational autoencoder of k-mer compositions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, Self, cast, runtime_checkable

import torch
from torch import Tensor, nn

from kvae import defaults
from kvae.config import LossConfig, ModelConfig, override
from kvae.errors import KvaeError
from kvae.layout import Layout, default_layout
from kvae.model.decoder import Decoded, Decoder
from kvae.model.encoder import build_encoder
from kvae.model.losses import Elbo, negative_elbo
from kvae.model.posterior import Latent
from kvae.model.targets import Target, TargetReader
from kvae.presets import get_preset


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
    >>> model = KmerVAE.from_preset("dot", latent=64)     # doctest: +SKIP
    >>> model.eval().inference(x_BF).mean.shape        # doctest: +SKIP
    torch.Size([5, 64])
    """

    def __init__(self, config: ModelConfig, layout: Layout) -> None:
        super().__init__()
        self.config = config
        self.layout = layout
        self.encoder = build_encoder(config, layout)
        self.decoder = Decoder(config, layout)
        self.read_target = TargetReader(config, layout)

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
    def from_pretrained(cls, *, layout: Layout | None = None) -> KmerVAE:
        """Load the model that comes with the package, in evaluation mode.

        It has the preset ``kvae`` and was trained on genomes of several hundred
        species. ``layout`` is as for `load`.
        """
        from kvae.pretrained import PRETRAINED, model_path

        return cls.load(model_path(PRETRAINED), layout=layout)

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
        """
        loss = loss or LossConfig()
        beta = loss.beta if beta is None else beta
        latent, decoded = self(x_BF, generator, noise_BL)
        paired = loss.target == "half"
        target: Target = self.read_target(x_BF.roll(len(x_BF) // 2, 0) if paired else x_BF)
        if paired and classes_B is None:
            classes_B = torch.arange(len(x_BF) // 2, device=x_BF.device).repeat(2)
        n_target = self.read_target.n_target
        return negative_elbo(latent, decoded, target, n_target, loss, beta, pool, classes_B)

    @property
    def n_parameters(self) -> int:
        """Parameters plus the running means and variances of BatchNorm."""
        return sum(tensor.numel() for _, tensor in self.counted_tensors())

    def counted_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Tensors that count as parameters: all but BatchNorm's step counters."""
        for name, tensor in self.state_dict().items():
            if tensor.is_floating_point():
                yield name, tensor

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
            The ``.safetensors`` file.
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

        return load_model(Path(path), layout or default_layout()).to(device).eval()
