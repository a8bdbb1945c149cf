"""The interface of every data set: indices in, one float image batch out, on the data set's device."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor

from deft_lightning.data.factors import FactorSpace

if TYPE_CHECKING:
    from deft_lightning.data.streaming import Reader


class FactorDataset(ABC):
    """Images with known, partly known or unknown factors, drawn a whole batch at a time.

    A batch is a function of the indices and the state of the generator: nuisances such as colours come from the
    generator only. Subclasses set the attributes below, and move all their tensors in `to`.
    """

    name: str
    """Short name, as in the configuration: "color_dsprites"."""
    source: str
    """Where the images come from: "rendered" by this package, "published" files, or the user's "file"."""
    shape: tuple[int, int, int]
    """Channels, height and width of an image."""
    space: FactorSpace | None = None
    """The grid of factors; None where labels are absent or do not form a full grid."""
    notices: tuple[str, ...] = ()
    """Sentences that the user must see at the start of a run: rendered images are used, images were resized, ..."""
    digest: str = ""
    """Digest of the stored images, in hex; a run is resumed only with the same. Empty where it is not known."""
    device: torch.device = torch.device("cpu")
    """The device of the data set's tensors and of the images it returns."""
    reader: Reader | None = None
    """Reads single images, where these are neither in memory nor mapped; DataLoader's workers may call it."""

    @property
    def on_host(self) -> bool:
        """Whether the images stay in host memory whatever `device` is, and only batches move to it."""
        return False

    @abstractmethod
    def __len__(self) -> int:
        """Number of images."""

    @abstractmethod
    def images(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """Images, float32 [B, C, H, W] in [0, 1], on the data set's device.

        `indices` int64 [B] may be on any device; `generator` is on the data set's device, and the nuisances, if there
        are any, are drawn from it.
        """

    @abstractmethod
    def to(self, device: torch.device | str) -> Self:
        """Move the data set's tensors to `device`; returns the data set itself."""

    @property
    def factor_names(self) -> tuple[str, ...]:
        """Names of the K labelled factors; empty where there are no labels."""
        return self.space.factor_names if self.space is not None else ()

    def factors(self, indices: Tensor) -> Tensor | None:
        """Factor values, int64 [B, K], of the images at `indices` [B]; None where there are no labels."""
        return self.space.factors(indices) if self.space is not None else None

    @property
    def provenance(self) -> dict[str, str]:
        """The origin of the images, as results.json and the report show it."""
        return {"source": self.source} | ({"digest": self.digest} if self.digest else {})

    @property
    def description(self) -> dict[str, Any]:
        """The data set, as results.json and thresholds.json describe it."""
        return {
            "name": self.name,
            "images": len(self),
            "shape": list(self.shape),
            "factors": list(self.factor_names),
            "factor_sizes": [] if self.space is None else list(self.space.factor_sizes),
            **self.provenance,
            "notices": list(self.notices),
        }


def on_device(pixels: Tensor, device: torch.device) -> Tensor:
    """Pixels, uint8 or float32 in [0, 1], as float32 in [0, 1] on `device`; the host need not wait for pinned ones."""
    pixels = pixels.to(device, non_blocking=True)
    return pixels.float().div_(255) if pixels.dtype == torch.uint8 else pixels.float()


def pinned(pixels: Tensor, device: torch.device) -> Tensor:
    """`pixels`, in pinned memory if they are on the host and go to CUDA: then the host need not wait for the copy."""
    return pixels.pin_memory() if device.type == "cuda" and pixels.device.type == "cpu" else pixels


class ByteImages(FactorDataset):
    """A data set without nuisances whose images are bytes: a batch is gathered where they are, decoded on `device`.

    What is gathered is a function of the indices alone, so that it may be gathered ahead in another thread.
    """

    _pixels: Tensor | np.ndarray

    def __len__(self) -> int:
        return len(self._pixels)

    @abstractmethod
    def gather(self, indices: Tensor) -> Tensor:
        """The bytes of the images at `indices` int64 [B], where the images are kept; pinned if they go to CUDA."""

    @abstractmethod
    def decode(self, pixels: Tensor) -> Tensor:
        """Images, float32 [B, C, H, W] in [0, 1] on `device`, of what `gather` returned."""

    def images(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """Images, float32 [B, C, H, W] in [0, 1], on the data set's device; `generator` is not used.

        `indices` int64 [B] may be on any device; the one that holds the images is best.
        """
        return self.decode(self.gather(indices))


class StoredImages(ByteImages):
    """Images in memory, `_pixels` uint8 [N, C, H, W]: in that of the device, unless there are more than `RESIDENT`."""

    RESIDENT = 4 * 2**30
    """Bytes of a data set up to which it moves to the device as a whole."""
    _pixels: Tensor

    @property
    def on_host(self) -> bool:
        """Whether the data set is larger than `RESIDENT`."""
        return self._pixels.nbytes > self.RESIDENT

    def to(self, device: torch.device | str) -> Self:
        """Move the images to `device`, or return batches on it where they stay on the host."""
        self.device = torch.device(device)
        if not self.on_host:
            self._pixels = self._pixels.to(self.device)
        return self

    def gather(self, indices: Tensor) -> Tensor:
        """The bytes of the images at `indices` int64 [B], uint8 [B, C, H, W], where the images are."""
        return pinned(self._pixels[indices.to(self._pixels.device)], self.device)

    def decode(self, pixels: Tensor) -> Tensor:
        """Images, float32 [B, C, H, W] in [0, 1] on `device`."""
        return on_device(pixels, self.device)


class MappedImages(ByteImages):
    """Images that stay on disk, `_pixels` uint8 [N, H, W, C], memory-mapped.

    The system keeps in memory what fits there of the images that were read; the data set itself takes next to none.
    """

    on_host = True
    _pixels: np.ndarray

    def to(self, device: torch.device | str) -> Self:
        """Return batches on `device`; the map stays where it is."""
        self.device = torch.device(device)
        return self

    def gather(self, indices: Tensor) -> Tensor:
        """The bytes of the images at `indices` int64 [B], uint8 [B, H, W, C] in host memory."""
        return pinned(torch.from_numpy(self._pixels[indices.cpu().numpy()]), self.device)

    def decode(self, pixels: Tensor) -> Tensor:
        """Images, float32 [B, C, H, W] in [0, 1], channels last in memory, on `device`."""
        return on_device(pixels, self.device).permute(0, 3, 1, 2)
