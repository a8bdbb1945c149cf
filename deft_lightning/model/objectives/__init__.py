"""Objectives: the loss, and which of its terms the pressure weights. The contract is in `base`."""

from deft_lightning.model.global_batch import global_batch
from deft_lightning.model.objectives.annealed_vae import AnnealedVAE
from deft_lightning.model.objectives.base import Loss, Objective, elbo_parts, loss_function
from deft_lightning.model.objectives.beta_vae import BetaVAE
from deft_lightning.model.objectives.decomposition import Decomposition, kl_decomposition, minibatch_decomposition
from deft_lightning.model.objectives.dip_vae import DIPVAE1, DIPVAE2
from deft_lightning.model.objectives.factor_vae import FactorVAE
from deft_lightning.model.objectives.tc import DEFTTC, BetaTCVAE

__all__ = [
    "DEFTTC",
    "DIPVAE1",
    "DIPVAE2",
    "AnnealedVAE",
    "BetaTCVAE",
    "BetaVAE",
    "Decomposition",
    "FactorVAE",
    "Loss",
    "Objective",
    "elbo_parts",
    "global_batch",
    "kl_decomposition",
    "loss_function",
    "minibatch_decomposition",
]
