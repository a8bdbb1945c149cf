"""The contract every data set keeps: indices in, one float image batch out, on the data set's device."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self

import torch
from torch import Tensor

from deft_lightning.data.factors import FactorSpace


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

    @property
    def provenance(self) -> dict[str, str]:
        """What results.json and the report say about the origin of the pixels."""
        return {"source": self.source} | ({"digest": self.digest} if self.digest else {})

    @property
    def description(self) -> dict[str, Any]:
        """What results.json and thresholds.json say of the data."""
        return {
            "name": self.name,
            "images": len(self),
            "shape": list(self.shape),
            "factors": list(self.factor_names),
            "factor_sizes": [] if self.space is None else list(self.space.factor_sizes),
            **self.provenance,
            "notices": list(self.notices),
        }


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
