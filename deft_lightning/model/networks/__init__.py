"""Encoders and decoders. The contract is in `base`; each family of networks has a file."""

from deft_lightning.model.networks.base import Encoders, Networks, Posterior, check_shapes, initialise
from deft_lightning.model.networks.convolutional import Burgess, Convolutional, Locatello
from deft_lightning.model.networks.residual import Residual

__all__ = [
    "Burgess",
    "Convolutional",
    "Encoders",
    "Locatello",
    "Networks",
    "Posterior",
    "Residual",
    "check_shapes",
    "initialise",
]
