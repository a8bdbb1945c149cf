"""A method of one's own in three parts: an objective, networks and a score."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from deft_lightning import Networks, Objective, Posterior
from deft_lightning.metrics import nmi
from deft_lightning.model.objectives import Loss, elbo_parts


class OrderedVAE(Objective):
    """beta-VAE whose later latents cost more: loss = R + beta sum_j w_j KL_j, with w_j from 1 to `spread`."""

    label = "ordered VAE"

    def __init__(self, spread: float = 2.0) -> None:
        super().__init__()
        self.spread = spread

    def loss(self, reconstruction: Tensor, posterior: Posterior, sample: Tensor, pressure: Tensor) -> Loss:
        parts = elbo_parts(reconstruction, posterior)
        kl = parts["kl/latent"]  # [D]
        weights = torch.linspace(1.0, self.spread, len(kl), device=kl.device)
        total = reconstruction + pressure * (weights * kl).sum()
        return Loss(total, {"loss": total, **parts})


class Encoder(nn.Module):
    """Images [B, C, H, W] to the posterior of their latents, mean and log variance [B, latents]."""

    def __init__(self, image_shape: tuple[int, int, int], width: int, latents: int) -> None:
        super().__init__()
        channels, height, _ = image_shape
        self.patches = nn.Conv2d(channels, width, kernel_size=8, stride=8)
        self.head = nn.Linear(width * (height // 8) ** 2, 2 * latents)

    def forward(self, images: Tensor) -> Posterior:
        return Posterior(*self.head(torch.relu(self.patches(images)).flatten(1)).chunk(2, dim=1))


class Patches(Networks):
    """Images in patches of 8 x 8 pixels."""

    sizes = (32, 64, 128)

    def __init__(self, width: int = 32) -> None:
        self.width = width

    def encoder(self, image_shape: tuple[int, int, int], latents: int, groups: int) -> nn.Module:
        return Encoder(image_shape, self.width, latents)

    def decoder(self, image_shape: tuple[int, int, int], latents: int) -> nn.Module:
        channels, height, _ = image_shape
        return nn.Sequential(  # latents [B, D] to the parameters of the likelihood [B, C, H, W]
            nn.Linear(latents, self.width * (height // 8) ** 2),
            nn.ReLU(),
            nn.Unflatten(1, (self.width, height // 8, height // 8)),
            nn.ConvTranspose2d(self.width, channels, kernel_size=8, stride=8),
        )


def sparsity(codes: np.ndarray, factors: np.ndarray) -> float:
    """How much of the NMI matrix [D, K] lies in its largest entries, one for each factor."""
    matrix = nmi(codes, factors)
    return float(matrix.max(axis=0).sum() / max(matrix.sum(), 1e-12))
