"""The contract every data set keeps: indices in, one float image batch out, on the data set's device."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

import torch
from torch import Tensor

from deft_lightning.data.factors import FactorSpace
from deft_lightning.errors import DeftError


class FactorDataset(ABC):
    """Images with known, partly known or unknown factors, fetched a whole batch at a time.

    A batch is a function of (indices, generator state): nuisances such as colours come from the generator
    and from nowhere else. Subclasses set the attributes below, and move every tensor they own in `to`.
    """

    name: str
    """Short name, as in the configuration: "color_dsprites"."""
    source: str
    """Where the pixels come from: "rendered" by this package, "official" files, or the user's own "file"."""
    shape: tuple[int, int, int]
    """Channels, height and width of an image."""
    space: FactorSpace | None = None
    """The grid of factors; None when labels are absent or do not form a full grid."""
    notices: tuple[str, ...] = ()
    """Sentences the user must see at the start of a run: a stand-in is used, images were resized, ..."""
    digest: str = ""
    """Of the stored pixels, in hex; runs are not resumed on others. Empty when it is not known."""
    device: torch.device = torch.device("cpu")
    """Where the data set's tensors are, and where it puts the images."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of images."""

    @abstractmethod
    def images(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """Images, float32 [B, C, H, W] in [0, 1], on the data set's device.

        `indices` int64 [B] may be on any device; `generator` is on the data set's device and feeds the
        nuisances, if there are any.
        """

    @abstractmethod
    def to(self, device: torch.device | str) -> Self:
        """Move the data set's tensors to `device`; returns the data set itself."""

    @property
    def factor_names(self) -> tuple[str, ...]:
        """Names of the K labelled factors; empty when there are no labels."""
        return self.space.factor_names if self.space is not None else ()

    def factors(self, indices: Tensor) -> Tensor | None:
        """Factor values, int64 [B, K], of the images at `indices` [B]; None when there are no labels."""
        return self.space.factors(indices) if self.space is not None else None

    def sample_with_fixed_factor(self, factor: int, count: int, batch: int, generator: torch.Generator) -> Tensor:
        """Groups of images that agree in one factor: indices, int64 [count, batch], on the generator's device.

        Each group holds factor number `factor` at one value, drawn uniformly among its values. The other
        factors, nuisances included, are free: drawn uniformly from the grid where there is one, else the
        images are drawn, with replacement, from those that have the value. As the FactorVAE and beta-VAE scores
        need it (Kim and Mnih 2018; Higgins et al. 2017). Raises DeftError when there is no such factor.
        """
        if not 0 <= factor < len(self.factor_names):
            raise DeftError(
                f"{self.name} has no factor number {factor}: its labelled factors are {list(self.factor_names)}, "
                "counted from 0"
            )
        device = generator.device
        if self.space is not None:
            columns = [
                torch.randint(size, (count, batch), generator=generator, device=device)
                for size in self.space.factor_sizes
            ]
            columns[factor][:] = columns[factor][:, :1].clone()  # the first draw of a group for all of it
            return self.space.indices(torch.stack(columns, dim=-1).flatten(0, 1), generator).view(count, batch)

        values = self.factors(torch.arange(len(self), device=device))
        assert values is not None
        rows = values[:, factor].argsort()  # images with the same value stand together
        sizes = values[:, factor].unique(return_counts=True)[1]
        group = torch.randint(len(sizes), (count, 1), generator=generator, device=device)
        draw = torch.rand(count, batch, generator=generator, device=device)
        return rows[(sizes.cumsum(0) - sizes)[group] + (draw * sizes[group]).long()]

    @property
    def provenance(self) -> dict[str, str]:
        """What results.json and the report say about the origin of the pixels."""
        return {"source": self.source} | ({"digest": self.digest} if self.digest else {})


class StoredImages(FactorDataset):
    """A data set that keeps its images as bytes, `_pixels` uint8 [N, C, H, W], and draws nothing."""

    _pixels: Tensor

    def __len__(self) -> int:
        return len(self._pixels)

    def to(self, device: torch.device | str) -> Self:
        """Move the images to `device`."""
        self.device = torch.device(device)
        self._pixels = self._pixels.to(self.device)
        return self

    def images(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """Images, float32 [B, C, H, W] in [0, 1], on the data set's device; nothing is drawn.

        `indices` int64 [B] on any device.
        """
        return self._pixels[indices.to(self.device)].float().div_(255)
