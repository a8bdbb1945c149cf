"""One table of codes for all scores: a fixed sample of images, encoded once a step."""

from __future__ import annotations

from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from deft_lightning.common.errors import DeftError
from deft_lightning.data.datamodule import FactorDataModule
from deft_lightning.metrics import factor_entropy, nmi
from deft_lightning.model.module import DEFT
from deft_lightning.model.networks import Posterior


class Codes(NamedTuple):
    """Mean codes [N, D] of the images at `indices` [N], and what goes with them.

    `log_variance` of the codes [N, D], their factors [N, K] or None, and the mean KL per latent [D] in nats.
    """

    indices: Tensor
    codes: NDArray[np.float32]
    log_variance: NDArray[np.float32]
    factors: NDArray[np.int64] | None
    kl: NDArray[np.float64]

    def kl_of_images(self) -> NDArray[np.float64]:
        """KL of every image, summed over latents, [N] nats."""
        posterior = Posterior(torch.as_tensor(self.codes).double(), torch.as_tensor(self.log_variance).double())
        return posterior.kl().sum(dim=1).numpy()


@torch.no_grad()
def encode(module: DEFT, data: FactorDataModule, indices: Tensor, seed: int | None = None) -> Codes:
    """Encode the images at `indices` [N] to their mean codes; `seed` of the nuisances is by default the data's."""
    parts = []
    for images in data.evaluation_images(indices, seed=seed):
        posterior = module.encode(images.to(module.device, memory_format=torch.channels_last))
        parts.append(Posterior(*(x.float().cpu() for x in posterior)))
    posterior = Posterior(*(torch.cat(x) for x in zip(*parts, strict=True)))
    factors = data.dataset.factors(indices)
    return Codes(
        indices,
        posterior.mean.numpy(),
        posterior.log_variance.numpy(),
        None if factors is None else factors.cpu().numpy(),
        Posterior(*(x.double() for x in posterior)).kl().mean(dim=0).numpy(),
    )


@torch.no_grad()
def reconstruction_errors(module: DEFT, data: FactorDataModule, table: Codes) -> NDArray[np.float64]:
    """Reconstruction error in nats of every image of `table`, decoded from its mean code, [N]."""
    errors, first = [], 0
    for images in data.evaluation_images(table.indices):
        codes = torch.as_tensor(table.codes[first : first + len(images)], device=module.device)
        logits = module.decoder(codes)
        error = binary_cross_entropy_with_logits(logits, images.to(module.device), reduction="none")  # [B, C, H, W]
        errors.append(error.flatten(1).sum(dim=1).cpu().double())
        first += len(images)
    return torch.cat(errors).numpy()


def data_of(trainer: pl.Trainer) -> FactorDataModule:
    """The trainer's data module; raises `DeftError` when it trains on something else, which cannot be scored."""
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, FactorDataModule):
        raise DeftError("scores and pictures need a FactorDataModule: give one to fit, or leave these callbacks out.")
    return data


_latest: WeakKeyDictionary[pl.Trainer, tuple[tuple[int, int], Codes]] = WeakKeyDictionary()


def codes_now(trainer: pl.Trainer, num_points: int) -> Codes:
    """The table of the trainer's current step, shared by all callbacks: the first that asks computes it."""
    key = (trainer.global_step, num_points)
    known = _latest.get(trainer)
    if known is None or known[0] != key:
        data = data_of(trainer)
        count = min(num_points, len(data.dataset))
        known = key, encode(trainer.lightning_module, data, data.sample(count))  # type: ignore[arg-type]
        _latest[trainer] = known
    return known[1]


def latent_titles(table: Codes, names: tuple[str, ...], bins: int) -> list[str]:
    """For every latent the factor it tells most about and that NMI, as "posX 0.83"; empty without labels, [D]."""
    if table.factors is None or not factor_entropy(table.factors).any():
        return [""] * len(table.kl)
    matrix = nmi(table.codes, table.factors, bins)  # [D, K]
    best = matrix.argmax(axis=1)
    return [f"{names[k]} {row[k]:.2f}" for row, k in zip(matrix, best, strict=True)]
