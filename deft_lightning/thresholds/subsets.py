"""Subsets of a data set in which one factor varies (section 6.1)."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from deft_lightning.data.base import FactorDataset
from deft_lightning.data.factors import FactorSpace


class Subset(FactorDataset):
    """The images at `indices` [N] of a data set; random nuisances are drawn at every access, as in the data set."""

    def __init__(self, dataset: FactorDataset, indices: Tensor) -> None:
        self.name, self.source, self.shape, self.device = dataset.name, dataset.source, dataset.shape, dataset.device
        self._dataset, self._indices = dataset, indices

    def __len__(self) -> int:
        return len(self._indices)

    def to(self, device: torch.device | str) -> Self:
        """Move the whole data set, which subsets may share, and the indices."""
        self._dataset.to(device)
        self.device = self._dataset.device
        self._indices = self._indices.to(self.device)
        return self

    def images(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """Images, float32 [B, C, H, W]; `indices` int64 [B] are positions in the subset."""
        return self._dataset.images(self._indices[indices.to(self._indices.device)], generator)


def varying(space: FactorSpace, index: int, factor: str) -> Tensor:
    """Indices, int64 [number of values of `factor`], of the images that share all but `factor` with that at `index`.

    The nuisance factors of the space are shared too.
    """
    varied = space.names.index(factor)
    grid = torch.arange(len(space)).view(space.sizes)  # the last factor varies fastest
    position = [int(value) for value in torch.unravel_index(torch.tensor(index), space.sizes)]
    selection = tuple(slice(None) if axis == varied else value for axis, value in enumerate(position))
    return grid[selection].clone()
