"""Codes of a fixed sample of images, from which scores and pictures are made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deft_lightning.data.datamodule import FactorDataModule
from deft_lightning.metrics import factor_entropy, nmi
from deft_lightning.model.module import DEFT
from deft_lightning.model.networks import Posterior

MIN_KL = 0.01
"""Nats. A latent with less KL passes no information."""
MIN_NMI = 0.1
"""A latent with less NMI with every factor gets no label."""


class Encoding(NamedTuple):
    """The posteriors of N images.

    Attributes:
        indices: of the images in the data set, [N].
        codes: mean of the posterior, [N, D].
        log_variance: of the posterior, [N, D].
        factors: [N, K], or None for data without labels.
        kl: per latent, averaged over the images, [D] in nats.
    """

    indices: Tensor
    codes: NDArray[np.float32]
    log_variance: NDArray[np.float32]
    factors: NDArray[np.int64] | None
    kl: NDArray[np.float64]

    def kl_of_images(self) -> NDArray[np.float64]:
        """KL of every image, summed over latents, [N] in nats."""
        posterior = Posterior(torch.as_tensor(self.codes).double(), torch.as_tensor(self.log_variance).double())
        return posterior.kl().sum(dim=1).numpy()


def encode(module: DEFT, data: FactorDataModule, indices: Tensor, seed: int | None = None) -> Encoding:
    """Encode the images at `indices` [N]. `seed` is that of their nuisances, by default the seed of `data`."""
    parts, labels = [], []
    for images, factors in data.evaluation_sample(indices, seed=seed):
        parts.append(Posterior(*(x.cpu() for x in module.encode(images))))
        if factors is not None:
            labels.append(factors.cpu())
    posterior = Posterior(*(torch.cat(x) for x in zip(*parts, strict=True)))
    return Encoding(
        indices,
        posterior.mean.numpy(),
        posterior.log_variance.numpy(),
        torch.cat(labels).numpy() if labels else None,
        Posterior(*(x.double() for x in posterior)).kl().mean(dim=0).numpy(),
    )


def reconstruction_errors(module: DEFT, data: FactorDataModule, encoding: Encoding) -> NDArray[np.float64]:
    """Negative log likelihood of every image of `encoding` when its mean code is decoded, [N] in nats."""
    errors, first = [], 0
    for images in data.evaluation_images(encoding.indices):
        codes = torch.as_tensor(encoding.codes[first : first + len(images)], device=module.device)
        with module.evaluating():
            error = module.likelihood.pixel_nll(module.decoder(codes), images.to(module.device))  # [B, C, H, W]
        errors.append(error.flatten(1).sum(dim=1).cpu().double())
        first += len(images)
    return torch.cat(errors).numpy()


def encoded_factors(
    nmi_matrix: NDArray[np.float64], kl: NDArray[np.float64], names: Sequence[str]
) -> list[tuple[str, float]]:
    """The factor of highest NMI of every latent, and that NMI, [D]; ("", 0) for a latent that encodes none.

    These are latents with less KL than `MIN_KL`, or whose highest NMI is below `MIN_NMI`.

    Args:
        nmi_matrix: [D, K].
        kl: of every latent, [D] in nats.
        names: of the factors, [K].
    """
    best = nmi_matrix.argmax(axis=1)
    return [
        (names[k], float(row[k])) if information >= MIN_KL and row[k] >= MIN_NMI else ("", 0.0)
        for row, k, information in zip(nmi_matrix, best, kl, strict=True)
    ]


def latent_labels(encoding: Encoding, names: tuple[str, ...], bins: int) -> list[str]:
    """Label every latent, [D], with the factor of highest NMI and its value, such as "posX 0.83".

    A latent with less KL than `MIN_KL`, or whose highest NMI is below `MIN_NMI`, has an empty label. All labels are
    empty where the data have no factors.

    Args:
        encoding: the posteriors.
        names: of the factors, [K].
        bins: per latent, for the NMI.
    """
    if encoding.factors is None or not factor_entropy(encoding.factors).any():
        return [""] * len(encoding.kl)
    matrix = nmi(encoding.codes, encoding.factors, bins)  # [D, K]
    return [f"{name} {value:.2f}" if name else "" for name, value in encoded_factors(matrix, encoding.kl, names)]
