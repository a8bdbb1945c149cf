"""SmallNORB: the published photographs, or rendered images with the same factors; 48,600 images in memory."""

from __future__ import annotations

import logging
import os

import numpy as np
import torch

from deft_lightning.common.errors import DeftError
from deft_lightning.data import cache, sources
from deft_lightning.data.base import StoredImages
from deft_lightning.data.factors import FactorSpace
from deft_lightning.data.smallnorb import published, renderer

log = logging.getLogger(__name__)

_NOTICES = {
    "published": "SmallNORB: the published images.",
    "rendered": "SmallNORB: images with the same factors, rendered by this package, not the photographs; "
    "`python -m deft_lightning.data prepare smallnorb` fetches the published ones.",
}


class SmallNORB(StoredImages):
    """SmallNORB: 48,600 grey images of toys, float32 [B, 1, 64, 64].

    Factors are category 5, elevation 9, azimuth 18 and lighting 6, lighting fastest; the instance, 10 in each category,
    is a nuisance. `root` is the folder of the prepared data (default: the user's cache folder). `source` is "published"
    (the photographs of the left camera), "rendered" (by this package) or "auto": the published files if they are there,
    else rendered. `path` is the folder of the published files (default: `smallnorb` in `root`). An image takes 4096
    bytes of memory, the data set 199 MB. Raises `DeftError` when the source is unknown, or its images can be neither
    read nor made.

    Reference: LeCun, Huang and Bottou, Learning Methods for Generic Object Recognition, 2004.
    """

    name = "smallnorb"
    shape = (1, 64, 64)
    space: FactorSpace = renderer.SPACE

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        source: str = "auto",
        path: str | os.PathLike[str] | None = None,
    ) -> None:
        if path is not None and source == "rendered":
            raise DeftError(f"data.path is {path}, but data.source=rendered reads no files: leave one of the two out.")
        selection = sources.select(
            source, lambda: published.load(root, path, self.space), lambda: rendered(root, self.space)
        )
        self.source, self.digest = selection.source, selection.prepared.digest[:16]
        self.notices = (_NOTICES[self.source], *selection.notices)
        self._pixels = torch.from_numpy(selection.prepared.arrays["images"]).unsqueeze(1)  # uint8 [48600, 1, 64, 64]


def rendered(root: str | os.PathLike[str] | None, space: FactorSpace = renderer.SPACE) -> cache.Prepared:
    """The rendered `images`, uint8 [len(space), 64, 64], from the cache in `root` or rendered now."""

    def build() -> dict[str, cache.Blocks]:
        log.info("the images that replace SmallNORB are rendered once and kept in %s.", path)
        shape = (len(space), 64, 64)
        return {"images": cache.Blocks(shape, np.dtype(np.uint8), renderer.blocks(space), "Rendering SmallNORB")}

    path = cache.resolve_root(root) / "smallnorb_rendered.h5"
    return cache.load_or_build(path, build, kind="rendered SmallNORB", version=renderer.VERSION)
