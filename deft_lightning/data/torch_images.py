"""An ordinary map-style torch Dataset of the user's, with its transforms, as a data set of this package."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from deft_lightning.common.errors import DeftError
from deft_lightning.data import streaming
from deft_lightning.data.base import FactorDataset, on_device

WANTED = (
    "give (channels, height, width) as floats in [0, 1] or as uint8, a PIL image of 8 bits a channel, or an array "
    "(height, width, channels)"
)


class TorchImages(FactorDataset):
    """The images of a map-style torch Dataset, read when they are asked for.

    An item is an image or a tuple (image, factors). An image is a tensor [C, H, W], uint8 or floats in [0, 1], a PIL
    image or an array [H, W] or [H, W, C]; all have one shape. Factors are a whole number, or K of them; `factor_names`
    of the Dataset, if it has that, are their names. What an item draws from torch, NumPy or `random` is a function of
    the run's seed and the step. There is no grid of factors. `name` and `digest` are taken from the Dataset where it
    has them; with a digest, a run is resumed only on the same images.

    Raises `DeftError` for a Dataset without length or images, and for an item of another form.
    """

    source = "torch Dataset"
    reader: ItemReader
    on_host = True

    def __init__(self, dataset: Dataset) -> None:
        kind = type(dataset).__name__
        self._count = _length(dataset, kind)
        self.name, self.digest = str(getattr(dataset, "name", kind)), str(getattr(dataset, "digest", ""))
        self.reader = ItemReader(dataset, self.name)
        first = self.reader(0, 0)
        channels, height, width = first.pixels.shape
        self.shape = self.reader.shape = (channels, height, width)
        values = 0 if first.factors is None else len(first.factors)
        given = getattr(dataset, "factor_names", None)
        self._names = tuple(f"factor_{place}" for place in range(values)) if given is None else tuple(map(str, given))
        if len(self._names) != values:
            raise DeftError(
                f"{self.name} has {len(self._names)} factor names, and item 0 has {values} factors: give one name each."
            )
        self.reader.values = values

    def __len__(self) -> int:
        return self._count

    def to(self, device: torch.device | str) -> Self:
        """Return batches on `device`; items are read on the CPU."""
        self.device = torch.device(device)
        return self

    @property
    def factor_names(self) -> tuple[str, ...]:
        """Names of the K labelled factors; empty where there are no labels."""
        return self._names

    def images(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """Images, float32 [B, C, H, W] in [0, 1], on the data set's device; seeds of the items from `generator`."""
        return on_device(streaming.decode(self.reader, streaming.keys(indices, generator)).pixels, self.device)

    def factors(self, indices: Tensor) -> Tensor | None:
        """Factor values, int64 [B, K], of the images at `indices` [B], whose items are read for it."""
        if not self._names:
            return None
        found = streaming.decode(self.reader, [(index, 0) for index in indices.tolist()]).factors
        assert found is not None
        return found.to(indices.device)


class ItemReader:
    """Reads single items of `dataset`, which messages call `name`; `shape` and `values` are those all must have."""

    shape: tuple[int, int, int] | None = None
    values: int | None = None
    """Number of factors."""

    def __init__(self, dataset: Any, name: str) -> None:
        self._dataset, self._name = dataset, name

    def __call__(self, index: int, seed: int) -> streaming.Item:
        where = f"item {index} of {self._name}"
        with _seeded(seed):
            try:
                item = self._dataset[index]
            except DeftError:
                raise
            except Exception as error:  # of the user's code
                reason = next(iter(str(error).splitlines()), "")
                raise DeftError(
                    f"{where} cannot be read ({type(error).__name__}: {reason}): look at its code and transforms."
                ) from error
        if isinstance(item, tuple | list) and len(item) == 1:  # of a TensorDataset
            item = item[0]
        labelled = isinstance(item, tuple | list)
        if labelled and len(item) != 2:
            raise DeftError(f"{where} has {len(item)} parts: give an image, or (image, factors).")
        pixels = _pixels(item[0] if labelled else item, where)
        if self.shape is not None and tuple(pixels.shape) != self.shape:
            shape = " x ".join(map(str, pixels.shape))
            raise DeftError(f"{where} is {shape}, and item 0 is {' x '.join(map(str, self.shape))}: resize all to one.")
        factors = _factors(item[1], where) if labelled else None
        if self.values is not None and len(factors or ()) != self.values:
            raise DeftError(
                f"{where} has {len(factors or ())} factors, and item 0 has {self.values}: give all as many."
            )
        return streaming.Item(pixels, factors)


def _length(dataset: Any, kind: str) -> int:
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise DeftError(f"{kind} is no map-style torch Dataset: it needs __len__ and __getitem__.")
    if not len(dataset):
        raise DeftError(f"{kind} has no items: give images to train on.")
    return len(dataset)


def _pixels(image: Any, where: str) -> Tensor:
    """The image of an item, [C, H, W] uint8 or float32 in [0, 1]."""
    if isinstance(image, Image.Image):
        if image.mode[0] in "IF":  # of 16 or 32 bits; Pillow would cut them off at 255
            raise DeftError(f"{where} is a PIL image of mode {image.mode}: {WANTED}.")
        image = np.array(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"))
    if isinstance(image, np.ndarray) and image.ndim == 3:
        image = image.transpose(2, 0, 1)
    if isinstance(image, np.ndarray):
        image = torch.from_numpy(np.ascontiguousarray(image))
    if not isinstance(image, Tensor) or image.ndim not in (2, 3):
        what = f"of shape {list(image.shape)}" if isinstance(image, Tensor) else f"a {type(image).__name__}"
        raise DeftError(f"{where} is {what}: {WANTED}.")
    image = image if image.ndim == 3 else image.unsqueeze(0)
    if image.dtype == torch.uint8:
        return image
    image = image.to(torch.float32)
    low, high = float(image.min()), float(image.max())
    if not (low >= 0 and high <= 1):  # also where there is a NaN
        raise DeftError(f"{where} has values from {low:g} to {high:g}: {WANTED}.")
    return image


def _factors(labels: Any, where: str) -> tuple[int, ...]:
    """The factor values of an item."""
    try:
        values = np.atleast_1d(np.asarray(labels, dtype=np.float64))
    except (TypeError, ValueError):
        values = np.full(1, np.nan)
    if values.ndim != 1 or not np.isfinite(values).all() or (values != np.round(values)).any():
        raise DeftError(f"the factors of {where} are {labels!r}: give whole numbers, one for each factor.")
    return tuple(int(value) for value in values)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed what transforms draw from: torch, NumPy and `random`; afterwards all of them are as before."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002  # what transforms use
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        random.setstate(states[2])


def as_images(dataset: Any) -> FactorDataset:
    """`dataset`, if it is a `FactorDataset`; a map-style torch Dataset as one.

    Raises `DeftError` for anything else, and as `TorchImages` does.
    """
    if isinstance(dataset, FactorDataset):
        return dataset
    if isinstance(dataset, Dataset) or (hasattr(dataset, "__getitem__") and not isinstance(dataset, Sequence | dict)):
        return TorchImages(dataset)
    raise DeftError(
        f"the data are a {type(dataset).__name__}: give a data set of deft_lightning, or a map-style torch Dataset."
    )
