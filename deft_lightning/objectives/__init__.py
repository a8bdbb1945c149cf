"""What the pressure presses on: one short file per objective, over the contract in `base`."""

from deft_lightning.objectives.base import Loss, Objective, elbo_parts, global_batch, reconstruction
from deft_lightning.objectives.beta_vae import BetaVAE

__all__ = ["BetaVAE", "Loss", "Objective", "elbo_parts", "global_batch", "reconstruction"]
