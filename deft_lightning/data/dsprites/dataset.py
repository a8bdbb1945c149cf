"""dSprites with its Color and Noisy variants: bit-packed images, unpacked and coloured on the device."""

from __future__ import annotations

import logging
import os
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding

from deft_lightning.data import cache, sources
from deft_lightning.data.base import FactorDataset
from deft_lightning.data.dsprites import published, renderer
from deft_lightning.data.factors import FactorSpace

log = logging.getLogger(__name__)

_NOTICES = {
    "published": "dSprites: the published images.",
    "rendered": "dSprites: images rendered by this package; `python -m deft_lightning.data prepare dsprites` "
    "fetches the published ones.",
}


class DSprites(FactorDataset):
    """dSprites: 737,280 binary images, float32 [B, 1, 64, 64], of a white sprite on black.

    Factors are shape 3, scale 6, orientation 40, posX 32 and posY 32, posY fastest. `root` is the folder of the
    prepared data (default: the user's cache folder). `source` is "published" (the published file), "rendered" (by this
    package) or "auto": the published file if it is in the folder, else rendered. An image takes 512 bytes of memory,
    the data set 377 MB. Raises `DeftError` when the source is unknown, or its images can be neither read nor made.

    Reference: Matthey et al., dSprites, 2017.
    """

    name = "dsprites"
    shape = (1, 64, 64)
    space: FactorSpace = renderer.SPACE

    def __init__(self, root: str | os.PathLike[str] | None = None, source: str = "auto") -> None:
        selection = sources.select(source, lambda: published.load(root), lambda: rendered(root))
        self.source, self.digest = selection.source, selection.prepared.digest[:16]
        self.notices = (_NOTICES[self.source], *selection.notices)
        self._packed = torch.from_numpy(selection.prepared.arrays["images"])  # uint8 [737280, 512]
        self._unpacking = unpacking_table(self.shape[0])  # [256, 8 C]

    def __len__(self) -> int:
        return len(self._packed)

    def to(self, device: torch.device | str) -> Self:
        """Move the bit-packed images to `device`."""
        self.device = torch.device(device)
        self._packed = self._packed.to(self.device)
        self._unpacking = self._unpacking.to(self.device)
        return self

    def images(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """Images, float32 [B, C, 64, 64] in [0, 1], channels last in memory, on the data set's device.

        `indices` int64 [B] may be on any device; `generator` is on the data set's device, and the nuisances are drawn
        from it.
        """
        indices = indices.to(self.device)
        # One table look-up turns a byte into 8 float pixels with C equal, interleaved channels.
        masks = embedding(self._packed[indices].int(), self._unpacking)  # [B, 512, 8 C]
        masks = masks.view(len(indices), 64, 64, self.shape[0])  # [B, 64, 64, C]
        return self._decorate(masks, generator).permute(0, 3, 1, 2)  # [B, C, 64, 64]

    def _decorate(self, masks: Tensor, generator: torch.Generator) -> Tensor:
        """Images [B, 64, 64, C] from masks [B, 64, 64, C] of 0 and 1, which may be overwritten."""
        return masks


class ColorDSprites(DSprites):
    """Color dSprites: a sprite of one RGB colour, each channel uniform in [0.5, 1], on black; [B, 3, 64, 64].

    The colour is a nuisance, not a factor: it is drawn at every access.
    Reference: Locatello et al., Challenging Common Assumptions, 2019, section 5.
    """

    name = "color_dsprites"
    shape = (3, 64, 64)

    def _decorate(self, masks: Tensor, generator: torch.Generator) -> Tensor:
        colours = 0.5 + 0.5 * torch.rand(len(masks), 3, generator=generator, device=self.device)
        # Eight pixels at a time: a contiguous axis of 24 is four times as fast as one of 3.
        flat = masks.view(len(masks), 512, 24)
        return flat.mul_(colours.repeat(1, 8).unsqueeze(1)).view_as(masks)


class NoisyDSprites(DSprites):
    """Noisy dSprites: a white sprite on noise, uniform in [0, 1] for each pixel and channel; [B, 3, 64, 64].

    The noise is a nuisance: it is drawn at every access.
    Reference: Locatello et al., Challenging Common Assumptions, 2019, section 5.
    """

    name = "noisy_dsprites"
    shape = (3, 64, 64)

    def _decorate(self, masks: Tensor, generator: torch.Generator) -> Tensor:
        return torch.maximum(masks, torch.rand(masks.shape, generator=generator, device=self.device))


def unpacking_table(channels: int) -> Tensor:
    """The 8 pixels of every byte, highest bit first, each repeated for every channel: float32 [256, 8 channels]."""
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
    return torch.from_numpy(bits.repeat(channels, axis=1).astype(np.float32))


def rendered(root: str | os.PathLike[str] | None) -> cache.Prepared:
    """The rendered `images`, bit-packed, uint8 [737280, 512], from the cache in `root` or rendered now."""

    def build() -> dict[str, cache.Blocks]:
        log.info("dSprites is rendered once and kept in %s.", path)
        shape = (len(renderer.SPACE), renderer.BYTES)
        return {"images": cache.Blocks(shape, np.dtype(np.uint8), renderer.blocks(), "Rendering dSprites")}

    path = cache.resolve_root(root) / "dsprites_rendered.h5"
    return cache.load_or_build(path, build, kind="rendered dSprites", version=renderer.VERSION)
