"""The grid of factor values of a data set: from image index to factor values and back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from deft_lightning.common.errors import DeftError


@dataclass(frozen=True)
class FactorSpace:
    """A full grid of factor values: one image for every combination, the last factor changing fastest.

    `names` and `sizes` (numbers of values) list all factors of the grid. Those in `nuisance` vary between images but
    are neither reported nor scored, such as the instance of a SmallNORB category. `len(space)` is the number of
    images.

    Raises `DeftError` when names and sizes do not fit, a size is below 1 or a nuisance name is unknown.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    nuisance: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.names) != len(self.sizes) or len(set(self.names)) != len(self.names):
            raise DeftError(f"FactorSpace.names is {self.names}: give distinct names, one for each size {self.sizes}.")
        if min(self.sizes, default=0) < 1:
            raise DeftError(f"FactorSpace.sizes is {self.sizes}: give every factor at least one value.")
        if unknown := sorted(set(self.nuisance) - set(self.names)):
            raise DeftError(f"FactorSpace.nuisance has {', '.join(unknown)}: use names from {self.names}.")

    def __len__(self) -> int:
        return math.prod(self.sizes)

    @cached_property
    def factor_names(self) -> tuple[str, ...]:
        """Names of the K factors that are not nuisance, in grid order."""
        return tuple(name for name in self.names if name not in self.nuisance)

    @cached_property
    def factor_sizes(self) -> tuple[int, ...]:
        """Number of values of each of the K factors that are not nuisance."""
        return tuple(self.sizes[self.names.index(name)] for name in self.factor_names)

    @cached_property
    def _strides(self) -> tuple[int, ...]:
        return tuple(math.prod(self.sizes[place + 1 :]) for place in range(len(self.sizes)))

    def _columns(self, names: tuple[str, ...], device: torch.device) -> tuple[Tensor, Tensor]:
        """Strides and sizes [len(names)] of some of the factors, on `device`."""
        places = [self.names.index(name) for name in names]
        strides = torch.tensor([self._strides[place] for place in places], dtype=torch.int64, device=device)
        sizes = torch.tensor([self.sizes[place] for place in places], dtype=torch.int64, device=device)
        return strides, sizes

    def factors(self, indices: Tensor) -> Tensor:
        """Factor values, int64 [B, K], of the images at `indices` [B], without the nuisance factors.

        Raises `DeftError` when an index is outside the space.
        """
        if indices.numel() and (int(indices.min()) < 0 or int(indices.max()) >= len(self)):
            low, high = int(indices.min()), int(indices.max())
            raise DeftError(f"the image indices are {low} to {high}: give indices from 0 to {len(self) - 1}.")
        strides, sizes = self._columns(self.factor_names, indices.device)
        return indices.to(torch.int64).unsqueeze(1) // strides % sizes

    def indices(self, factors: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Indices, int64 [B], of images with the factor values `factors` [B, K].

        Nuisance factors are drawn uniformly from `generator`, which is on the device of `factors`; without a
        generator they are 0, so that the image is always the same. Raises `DeftError` when `factors` has another
        shape or a value outside its factor's range.
        """
        strides, sizes = self._columns(self.factor_names, factors.device)
        factors = factors.to(torch.int64)
        if factors.ndim != 2 or factors.shape[1] != len(sizes):
            shape = list(factors.shape)
            raise DeftError(f"the factor values are {shape}: give [B, {len(sizes)}], columns {self.factor_names}.")
        if bool(((factors < 0) | (factors >= sizes)).any()):
            raise DeftError(f"a factor value is out of range: count from 0, up to below the sizes {self.factor_sizes}.")
        indices = (factors * strides).sum(dim=1)
        if generator is not None and self.nuisance:
            strides, sizes = self._columns(tuple(n for n in self.names if n in self.nuisance), factors.device)
            for stride, size in zip(strides.tolist(), sizes.tolist(), strict=True):
                draw = torch.randint(size, indices.shape, generator=generator, device=factors.device)
                indices = indices + stride * draw
        return indices
