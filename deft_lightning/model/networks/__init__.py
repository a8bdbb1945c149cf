"""Encoders and decoders. The interface is in `base`; each family of networks has a file."""

from deft_lightning.model.networks.base import Encoders, Networks, Posterior, initialise
from deft_lightning.model.networks.convolutional import Burgess, Convolutional, Locatello

__all__ = ["Burgess", "Convolutional", "Encoders", "Locatello", "Networks", "Posterior", "initialise"]
