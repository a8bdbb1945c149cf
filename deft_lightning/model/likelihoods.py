"""Likelihoods p(x|z): what the output of the decoder means, and so the reconstruction term of every loss.

A decoder gives one number for every pixel and channel. A likelihood turns these parameters into a negative log
likelihood, in nats, and into the mean, which decoded images show.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deft_lightning.common import checks
from deft_lightning.model.global_batch import global_batch

HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


class Likelihood(nn.Module, ABC):
    """p(x|z) of images, given the output of a decoder. Pixels and channels are independent."""

    @property
    @abstractmethod
    def label(self) -> str:
        """The name in tables and figures."""

    @abstractmethod
    def pixel_nll(self, parameters: Tensor, images: Tensor) -> Tensor:
        """Negative log likelihood of every pixel and channel, [B, C, H, W] in nats.

        Args:
            parameters: output of the decoder, [B, C, H, W].
            images: [B, C, H, W] in [0, 1].
        """

    @abstractmethod
    def mean(self, parameters: Tensor) -> Tensor:
        """The mean of p(x|z), [B, C, H, W] in [0, 1], of the output of a decoder [B, C, H, W]."""

    def nll(self, parameters: Tensor, images: Tensor) -> Tensor:
        """The reconstruction term: `pixel_nll` summed over pixels and channels, averaged over the batch, in nats."""
        return self.pixel_nll(parameters, images).sum() / images.shape[0]

    def update(self, parameters: Tensor, images: Tensor) -> dict[str, Tensor]:
        """Learn from the batch of a training step, without gradients: called once a step. Most learn nothing.

        What it learns belongs in buffers, so that it is saved in checkpoints.

        Returns:
            What is logged beside the parts of the loss: scalars by name.
        """
        return {}


class Bernoulli(Likelihood):
    """One Bernoulli for every pixel and channel, the likelihood of the paper. The parameters are logits.

        -log p(x) = -x log m - (1 - x) log(1 - m),    m = sigmoid(parameter)

    For grey values it is the cross entropy, not a density over [0, 1]: see `ContinuousBernoulli`.
    """

    label = "Bernoulli"

    def pixel_nll(self, parameters: Tensor, images: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(parameters, images, reduction="none")

    def mean(self, parameters: Tensor) -> Tensor:
        return torch.sigmoid(parameters)


class Gaussian(Likelihood):
    """A Gaussian with the same standard deviation for all pixels.

        -log p(x) = (x - m)^2 / (2 sigma^2) + log sigma + 1/2 log 2 pi,    m = sigmoid(parameter)

    The sigmoid keeps the mean, and so decoded images, in [0, 1].

    Args:
        sigma: the standard deviation, on the scale of images in [0, 1].

    Raises:
        DeftError: unless sigma is a number above 0.
    """

    def __init__(self, sigma: float = 0.1) -> None:
        super().__init__()
        self.sigma = checks.number("likelihood.sigma", sigma, above=True)

    @property
    def label(self) -> str:
        return f"Gaussian sigma {self.sigma:g}"

    def pixel_nll(self, parameters: Tensor, images: Tensor) -> Tensor:
        scaled = (images - self.mean(parameters)) / self.sigma
        return 0.5 * scaled.square() + (math.log(self.sigma) + HALF_LOG_2PI)

    def mean(self, parameters: Tensor) -> Tensor:
        return torch.sigmoid(parameters)


class LearntGaussian(Likelihood):
    """A Gaussian with one standard deviation for all pixels, always at its optimum (sigma-VAE, Rybkin et al. 2021).

        sigma^2 = mean of (x - m)^2 over the pixels of a batch,    m = sigmoid(parameter)

    In training the batch is the global one, of all processes. Its sigma is logged as `sigma`. In evaluation sigma is
    that of a running mean of the squared error: over all steps so far, and once there are `WINDOW` of them, over about
    as many. Sigma is at least e^-6, as in the paper.
    """

    label = "Gaussian learnt sigma"
    WINDOW = 100
    FLOOR = math.exp(-6.0)
    steps: Tensor
    squared_error: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros(()))
        self.register_buffer("squared_error", torch.ones(()))

    def pixel_nll(self, parameters: Tensor, images: Tensor) -> Tensor:
        # The gradient with respect to sigma is zero at the optimum, so that none has to flow through it.
        squared_error = self._of_batch(parameters, images) if self.training else self.squared_error
        sigma = self._sigma(squared_error)
        scaled = (images - self.mean(parameters)) / sigma
        return 0.5 * scaled.square() + (sigma.log() + HALF_LOG_2PI)

    def mean(self, parameters: Tensor) -> Tensor:
        return torch.sigmoid(parameters)

    @torch.no_grad()
    def update(self, parameters: Tensor, images: Tensor) -> dict[str, Tensor]:
        """Add the global batch to the running mean; returns its sigma."""
        squared_error = self._of_batch(parameters, images)
        self.steps += 1
        self.squared_error.lerp_(squared_error, (1.0 / self.steps).clamp(min=1.0 / self.WINDOW))
        return {"sigma": self._sigma(squared_error)}

    def _of_batch(self, parameters: Tensor, images: Tensor) -> Tensor:
        with torch.no_grad():
            return global_batch((images - self.mean(parameters)).square().mean()[None]).mean()

    def _sigma(self, squared_error: Tensor) -> Tensor:
        return squared_error.sqrt().clamp(min=self.FLOOR)


class ContinuousBernoulli(Likelihood):
    """The continuous Bernoulli, a density over [0, 1] for grey values (Loaiza-Ganem & Cunningham 2019).

        -log p(x) = log((e^a - 1) / a) - a x

    with the parameter a, the logit of the lambda of the paper. The mean is 1 / (1 - e^-a) - 1 / a, which is further
    from 0 and 1 than sigmoid(a). A density can be above 1, and the term below 0 nats.
    """

    label = "continuous Bernoulli"
    NEAR_ZERO = 0.2
    """Of |a|; below, where both formulas subtract nearly equal numbers, their series are exact to double precision."""

    def pixel_nll(self, parameters: Tensor, images: Tensor) -> Tensor:
        near, size = self._split(parameters)
        # (e^a - 1) / a is e^max(a, 0) (1 - e^-|a|) / |a|, in which nothing overflows, and near 0 e^(a/2) sinh(h) / h
        # with h = a / 2.
        linear = torch.where(near, 0.5 * parameters, F.relu(parameters)) - parameters * images
        squared = self._small(parameters).square()
        series = squared * (1 / 24 - squared * (1 / 2880 - squared * (1 / 181_440 - squared / 9_676_800)))
        return linear + torch.where(near, series, (-torch.expm1(-size)).log() - size.log())

    def mean(self, parameters: Tensor) -> Tensor:
        near, size = self._split(parameters)
        below = 1.0 / size - 1.0 / torch.expm1(size)  # the mean for -|a|; for |a| it is 1 minus this
        small = self._small(parameters)
        squared = small.square()
        series = small * (1 / 12 - squared * (1 / 720 - squared * (1 / 30_240 - squared / 1_209_600)))
        return torch.where(near, 0.5 + series, torch.where(parameters > 0, 1.0 - below, below))

    def _split(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Where |a| is small, and |a| elsewhere; 1 where it is small, so that no gradient is infinite there."""
        near = parameters.abs() < self.NEAR_ZERO
        return near, torch.where(near, 1.0, parameters.abs())

    def _small(self, parameters: Tensor) -> Tensor:
        return parameters.clamp(-self.NEAR_ZERO, self.NEAR_ZERO)
