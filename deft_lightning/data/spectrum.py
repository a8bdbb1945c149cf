"""The spectrum of a data set: the pressures at which a collapsed VAE begins to pass information. No model, no labels.

A VAE is collapsed when its decoder gives the mean image p for every code and its posteriors are the prior. To second
order in the signal of one latent, R + beta KL falls below that state for beta below the largest eigenvalue of

    Cov((x - p) / sqrt(p (1 - p)))    for Bernoulli pixels
    Cov(x) / sigma^2                  for Gaussian ones

and further latents have the next eigenvalues. docs/thresholds.md derives this.

`torch.svd_lowrank` and scikit-learn's `randomized_svd` need all images in memory, as floats. The subspace iteration
that they are made of (Halko, Martinsson & Tropp 2011, algorithm 4.4) can read them in batches, once an iteration.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deft_lightning.common import checks
from deft_lightning.common.errors import DeftError
from deft_lightning.common.seeding import Stream, generator
from deft_lightning.data.base import FactorDataset

COUNT = 10
"""Eigenvalues that are computed."""
RARE = 0.001
"""A Bernoulli pixel with a smaller mean, or one that is as near to 1, is left out: what it counts
would be decided by fewer than twelve of 12,000 images."""
MOST, LEAST = 12_000, 1_000
"""Images of a sample. Of a smaller data set all images are taken, several times if there are fewer than `LEAST`, each
time with new nuisances."""
BATCH = 500
"""Images that are in memory at a time."""
ALIKE = 0.05
"""Neighbouring eigenvalues that differ by less than this fraction are called alike: a sample cannot order them."""

GUARD = 22
"""Directions that are iterated beside those asked for: the more, the fewer iterations."""
ITERATIONS, TOLERANCE = 30, 1e-4
"""Iterations end when no eigenvalue changes by more than this fraction of the first, or after so many."""


class Spectrum(NamedTuple):
    """The largest eigenvalues of a data set and their directions.

    Attributes:
        eigenvalues: in nats of reconstruction for one nat of KL, descending, [k].
        directions: what one standard deviation of the latent adds to the mean image, [k, C, H, W]; 0 in pixels that are
            left out. The sign is arbitrary.
        images: number of images.
        pixels: number of values of an image that are not left out.
    """

    eigenvalues: NDArray[np.float64]
    directions: NDArray[np.float32]
    images: int
    pixels: int


class Sample:
    """A sample of the images of `dataset`, a function of `seed`: batches [up to 500, C, H, W], equal at every pass.

    `images` are the indices to draw from, int64 [N]; all by default. Images that are read one at a time are read once
    and then kept, as floats.
    """

    def __init__(self, dataset: FactorDataset, seed: int = 0, images: Tensor | None = None) -> None:
        self._dataset, self._seed = dataset, seed
        self._kept: list[Tensor] | None = None
        size = len(dataset) if images is None else len(images)
        if size > MOST:
            order = torch.randperm(size, generator=generator(seed, Stream.SPECTRUM, 0))
            indices = order[:MOST].sort().values  # sorted: images on disk are read in their order
        else:
            indices = torch.arange(size).repeat(max(1, LEAST // size))
        self._indices = indices if images is None else images[indices]

    def __iter__(self) -> Iterator[Tensor]:
        if self._dataset.reader is None:
            return self._read()
        if self._kept is None:
            self._kept = list(self._read())
        return iter(self._kept)

    def _read(self) -> Iterator[Tensor]:
        nuisances = generator(self._seed, Stream.SPECTRUM, 1, device=self._dataset.device)
        for part in self._indices.split(BATCH):
            yield self._dataset.images(part, nuisances)


def spectrum_of(
    dataset: FactorDataset,
    seed: int = 0,
    noise_variance: float | None = None,
    rare: float = RARE,
    images: Tensor | None = None,
) -> Spectrum:
    """`spectrum` of a fixed sample of a data set: at most 12,000 images, nuisances drawn for each.

    `images` are the indices to draw from, int64 [N]; all by default.
    """
    try:
        return spectrum(Sample(dataset, seed, images), noise_variance, rare)
    except DeftError as error:
        raise DeftError(f"{dataset.name}: {error}") from error


@torch.no_grad()
def spectrum(batches: Iterable[Tensor], noise_variance: float | None = None, rare: float = RARE) -> Spectrum:
    """The `COUNT` largest eigenvalues of the standardised covariance of images, fewer for images of fewer pixels.

    Args:
        batches: images [B, C, H, W] in [0, 1], on any device; iterated several times, with the same images.
        noise_variance: sigma^2 of a Gaussian likelihood; None for a Bernoulli likelihood.
        rare: Bernoulli pixels whose mean is below this, or above 1 less this, are left out.

    Raises:
        DeftError: where no pixel varies, or all that do are left out; for a number out of range.
    """
    checks.number("rare", rare, 0, 0.5)
    if noise_variance is not None:
        checks.number("noise_variance", noise_variance, above=True)
    mean, varies, images = _moments(batches)
    shape, mean, varies = mean.shape, mean.flatten(), varies.flatten()
    if noise_variance is None:
        kept, variance = varies & (mean >= rare) & (mean <= 1 - rare), mean * (1 - mean)
    else:
        kept, variance = varies, torch.full_like(mean, noise_variance)
    if not kept.any():
        raise DeftError(
            "all images are the same, so that there is no information threshold: give different images."
            if not varies.any()
            else f"every pixel is the same in more than {1 - rare:.1%} of the images, so that their spectrum says "
            "nothing: give schedule.beta_high as a number."
        )
    mean, scale = mean[kept], variance[kept].sqrt()
    eigenvalues, vectors = _eigenpairs(batches, kept, mean, scale, images)
    directions = torch.zeros(len(eigenvalues), shape.numel())
    directions[:, kept] = (vectors * (scale[:, None] * eigenvalues.sqrt())).T
    return Spectrum(eigenvalues.double().numpy(), directions.view(-1, *shape).numpy(), images, int(kept.sum()))


def alike(eigenvalues: Sequence[float]) -> list[list[int]]:
    """Groups of neighbouring `eigenvalues`, descending, each within 5% of the one before: positions from 0."""
    groups = [[0]]
    for place, (above, below) in enumerate(pairwise(eigenvalues), start=1):
        if above - below > ALIKE * above:
            groups.append([])
        groups[-1].append(place)
    return [group for group in groups if len(group) > 1]


def _moments(batches: Iterable[Tensor]) -> tuple[Tensor, Tensor, int]:
    """The mean image [C, H, W], which of its values vary at all [C, H, W], and the number of images."""
    total, low, high, count = None, None, None, 0
    for batch in batches:
        sums, least, most = (x.cpu() for x in (batch.sum(dim=0), batch.amin(dim=0), batch.amax(dim=0)))
        total = sums if total is None else total + sums
        low = least if low is None else torch.minimum(low, least)
        high = most if high is None else torch.maximum(high, most)
        count += len(batch)
    if total is None or low is None or high is None:
        raise DeftError("there are no images: give at least two.")
    return total / count, high > low, count


def _eigenpairs(
    batches: Iterable[Tensor], kept: Tensor, mean: Tensor, scale: Tensor, images: int
) -> tuple[Tensor, Tensor]:
    """Eigenvalues [k], descending, and eigenvectors [P, k] of the covariance of the P standardised pixels `kept`."""

    def covariance(block: Tensor) -> Tensor:
        """The covariance matrix times `block` [P, b]."""
        product = torch.zeros_like(block)
        for batch in batches:
            pixels = batch.flatten(1)[:, kept.to(batch.device)].sub_(mean.to(batch.device)).div_(scale.to(batch.device))
            product += (pixels.T @ (pixels @ block.to(batch.device))).cpu()
        return product / images

    size = min(COUNT + GUARD, len(mean))
    random = torch.Generator().manual_seed(0)
    block = torch.linalg.qr(torch.randn(len(mean), size, generator=random)).Q
    previous = torch.zeros(size)
    for _ in range(ITERATIONS):
        product = covariance(block)
        values, rotation = torch.linalg.eigh(block.T @ product)  # ascending
        vectors = block @ rotation
        if (values - previous)[-COUNT:].abs().max() <= TOLERANCE * values[-1]:
            break
        previous, block = values, torch.linalg.qr(product).Q
    return values.clamp(min=0).flip(0)[:COUNT], vectors.flip(1)[:, :COUNT]
