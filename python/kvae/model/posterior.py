"""The approximate posterior of a row's latent."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# exp(10) is far beyond any useful variance and far below overflow; outside this
# range the gradient is zero, so a stray row cannot blow up the KL divergence.
LOG_VAR_LIMIT = 10.0


@dataclass(frozen=True)
class Latent:
    """Diagonal normal distribution of the latent of each row.

    Attributes
    ----------
    mean, log_var
        Mean and natural logarithm of the variance, shape (rows, latent units).
    """

    mean: Tensor
    log_var: Tensor

    def sample(
        self, generator: torch.Generator | None = None, noise_BL: Tensor | None = None
    ) -> Tensor:
        """Draw one latent per row by reparameterisation, shape (rows, latent units).

        ``noise_BL`` is standard normal noise; it is drawn here where omitted.
        """
        if noise_BL is None:
            noise_BL = torch.randn(
                self.mean.shape,
                generator=generator,
                dtype=self.mean.dtype,
                device=self.mean.device,
            )
        return self.mean + torch.exp(0.5 * self.log_var) * noise_BL

    def kl(self) -> Tensor:
        """KL divergence to N(0, I) of every unit in nats, shape (rows, latent units)."""
        mean_BL, log_var_BL = self.mean.float(), self.log_var.float()
        return 0.5 * (log_var_BL.exp() + mean_BL.square() - 1.0 - log_var_BL)
