"""A discriminant map of whitened compositions, and a network that corrects it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from kvae.model.discriminants import discriminants, evened
from kvae.model.layers import find_block, in_float32, without_autocast
from kvae.model.posterior import LOG_VAR_LIMIT, Latent

if TYPE_CHECKING:
    from kvae.config import ModelConfig, ProfileEncoderConfig
    from kvae.layout import Layout

# The network starts as a small correction of the linear map.
_CORRECTION = 0.3


class InputNoise(nn.Module):
    """Normal noise on whitened inputs while training."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.std = std

    def forward(self, x_BI: Tensor) -> Tensor:
        """Add noise."""
        if not self.training or self.std == 0.0:
            return x_BI
        return x_BI + self.std * torch.randn_like(x_BI)


class Shrunk(nn.Module):
    """A part of every row, but all of it while training.

    The correction learns the classes that it is trained on better than others. Made
    smaller where it is used, it costs these little and helps those.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x_BL: Tensor) -> Tensor:
        """Scale the rows."""
        return x_BL if self.training else self.share * x_BL


class ProfileEncoder(nn.Module):
    """Encoder of a `kvae.config.ProfileEncoderConfig`.

    A sampled count has a variance in proportion to itself, so its square root has
    the same noise everywhere: frequencies enter as square roots, in which a rare
    7-mer is no louder than a common one. The scatter within classes, sampling noise
    and the variation along a genome, is whitened away before anything is learned.
    """

    centre: Tensor
    axes: Tensor
    mean_input: Tensor
    whitening: Tensor

    def __init__(self, config: ModelConfig, layout: Layout) -> None:
        super().__init__()
        encoder = cast("ProfileEncoderConfig", config.encoder)
        self._pseudocount = layout.pseudocount
        self._whole = [find_block(layout, name) for name in encoder.blocks]
        self._compressed = find_block(layout, encoder.compressed)
        n_components = min(encoder.components, self._compressed.size)
        n_in = sum(block.size for block in self._whole) + n_components
        # What `learn` finds; until then the map takes inputs as they are.
        self.register_buffer("centre", torch.zeros(self._compressed.size))
        self.register_buffer("axes", torch.eye(self._compressed.size, n_components))
        self.register_buffer("mean_input", torch.zeros(n_in))
        self.register_buffer("whitening", torch.eye(n_in))
        self.noise = InputNoise(encoder.noise)
        self.discriminant = nn.Linear(n_in, config.shared_latent, bias=False)
        layers: list[nn.Module] = []
        n_hidden = n_in
        for width in encoder.hidden:
            layers += [nn.Linear(n_hidden, width), nn.LayerNorm(width), nn.GELU()]
            layers += [nn.Dropout(encoder.dropout)]
            n_hidden = width
        self.hidden = nn.Sequential(*layers)
        self.correction = nn.Linear(n_hidden, config.shared_latent)
        nn.init.normal_(self.correction.weight, std=_CORRECTION / math.sqrt(n_hidden))
        self.shrunk = Shrunk(encoder.share)
        self.log_var = nn.Linear(n_hidden, config.shared_latent)
        nn.init.zeros_(self.log_var.weight)
        nn.init.constant_(self.log_var.bias, -2.0)

    def forward(self, x_BF: Tensor) -> Latent:
        """Encode feature rows of shape (rows, fields)."""
        # In float32: differences of compositions are small beside themselves.
        with without_autocast(x_BF.device):
            x_BI = (self._inputs(x_BF.float()) - self.mean_input) @ self.whitening
        x_BI = self.noise(x_BI)
        h_BH = self.hidden(x_BI)
        mean_BL = in_float32(self.discriminant, x_BI)
        mean_BL = mean_BL + self.shrunk(in_float32(self.correction, h_BH))
        mean_BL = functional.normalize(mean_BL, dim=1) * math.sqrt(mean_BL.shape[1])
        log_var_BL = in_float32(self.log_var, h_BH)
        return Latent(mean_BL, log_var_BL.clamp(-LOG_VAR_LIMIT, LOG_VAR_LIMIT))

    def _inputs(self, x_BF: Tensor) -> Tensor:
        """Square roots of frequencies, compressed where they are many, (rows, inputs)."""
        whole = [self._root(x_BF[:, block.slice]) for block in self._whole]
        root_BK = self._root(x_BF[:, self._compressed.slice])
        return torch.cat([*whole, (root_BK - self.centre) @ self.axes], dim=1)

    def _root(self, log_BK: Tensor) -> Tensor:
        return (log_BK.exp() - self._pseudocount).clamp(min=0.0).sqrt()

    @torch.no_grad()
    def learn(self, x_NF: Tensor, classes_N: Tensor) -> None:
        """Learn principal components, whitening and the discriminant map from rows.

        The map is that of linear discriminant analysis: the directions in which
        classes differ most, in units of the scatter within them, but those in which
        they differ very much scaled down, see `evened`.

        Parameters
        ----------
        x_NF
            Rows, shape (rows, fields), several of each class.
        classes_N
            Their classes, integers from 0.
        """
        root_NK = self._root(x_NF[:, self._compressed.slice].float())
        self.centre.copy_(root_NK.mean(dim=0))
        n_axes = min(self.axes.shape[1], *root_NK.shape)
        # Some more than are kept make the last ones exact.
        n_found = min(n_axes + 40, *root_NK.shape)
        axes_KC = torch.svd_lowrank(root_NK.sub_(self.centre), q=n_found, niter=2)[2]
        self.axes.zero_()
        self.axes[:, :n_axes] = axes_KC[:, :n_axes]
        del root_NK
        found = discriminants(self._inputs(x_NF.float()).double(), classes_N)
        self.mean_input.copy_(found.mean)
        self.whitening.copy_(found.whitening)
        n_latent = min(self.discriminant.out_features, len(found.between))
        scale_L = evened(found.between[:n_latent])
        self.discriminant.weight.zero_()
        weight_LI = scale_L[:, None] * found.directions[:, :n_latent].T
        self.discriminant.weight[:n_latent] = weight_LI.float()
