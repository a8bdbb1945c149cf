"""A data set as a LightningDataModule: Lightning moves indices, and images are made on the device."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor
from torch.utils.data import Dataset

from deft_lightning.common import checks
from deft_lightning.common.seeding import Stream, derive_seed, generator
from deft_lightning.data import registry, streaming
from deft_lightning.data.ahead import Ahead
from deft_lightning.data.base import ByteImages, FactorDataset, on_device, pinned
from deft_lightning.data.batches import Batch, BatchLoader
from deft_lightning.data.held_out import Split, split
from deft_lightning.data.streaming import StreamLoader
from deft_lightning.data.torch_images import as_images

log = logging.getLogger(__name__)


class FactorDataModule(pl.LightningDataModule):
    """Training batches and evaluation samples of one data set.

    `dataset` is a `FactorDataset`, a map-style torch Dataset (see `TorchImages`), or the name of a data set, such as
    "color_dsprites", which is loaded when the trainer prepares its data. `batch_size` counts all processes together.
    The module receives a training batch as images, float32 [B, C, H, W] in [0, 1]: this process's slice of a global
    batch that is a function of (seed, step).

    `held_out` is the share of the images, drawn by the seed, that is never trained on. Samples for scores are then
    drawn from these, and they are the trainer's validation images. `workers` is the number of processes that decode
    images which are neither in memory nor mapped; 0 for none, None for one less than there are cores, at most 4. What
    they decode does not depend on their number.

    Raises `DeftError` when the data can be neither read nor made, or batch size or share do not fit.
    """

    def __init__(
        self,
        dataset: FactorDataset | Dataset | str,
        batch_size: int = 64,
        seed: int = 0,
        held_out: float = 0.0,
        workers: int | None = None,
    ) -> None:
        super().__init__()
        self.batch_size, self.seed = batch_size, seed
        self.held_out = checks.share("data.held_out", held_out)
        self.workers = streaming.default_workers() if workers is None else checks.whole("data.workers", workers)
        if self.held_out:  # defined only then, or Lightning warns about a validation without images
            self.val_dataloader = self._val_dataloader  # type: ignore[method-assign]
        self._dataset_or_name = dataset
        self._dataset: FactorDataset | None = None
        self._loader: BatchLoader | None = None
        self._restored: dict[str, int] | None = None
        self._generators: dict[torch.device, torch.Generator] = {}
        self._ahead = Ahead()

    @property
    def dataset(self) -> FactorDataset:
        """The data set; the first access loads it, if it was given by name, and logs its notices."""
        if self._dataset is None:
            source = self._dataset_or_name
            self._dataset = registry.load(source) if isinstance(source, str) else as_images(source)
            _log_notices(self._dataset.notices)
        return self._dataset

    @cached_property
    def split(self) -> Split | None:
        """Which images are trained on and which are held out; None where none are held out."""
        return split(len(self.dataset), self.held_out, self.seed)

    @property
    def training_images(self) -> Tensor | None:
        """Indices of the images that are trained on, int64; None where these are all."""
        return None if self.split is None else self.split.training

    @property
    def training_size(self) -> int:
        """Number of images that are trained on."""
        return len(self.dataset) if self.split is None else len(self.split.training)

    @property
    def scored_size(self) -> int:
        """Number of images that scores are computed on: those held out, or all where none are."""
        return len(self.dataset) if self.split is None else len(self.split.held_out)

    @property
    def description(self) -> dict[str, Any]:
        """The data, as results.json describes them; `held_out` is the number of such images, where there are any."""
        held_out = {} if self.split is None else {"held_out": len(self.split.held_out)}
        return self.dataset.description | held_out

    def prepare_data(self) -> None:
        """Fill the cache on disk in one process of each machine, before the other processes read it."""
        _ = self.dataset

    def setup(self, stage: str) -> None:
        """Load the data set in this process; a fresh fit starts at epoch 0."""
        _ = self.dataset
        self._loader = self._restored = None

    def train_dataloader(self) -> BatchLoader:
        """The batches of indices for this process; the same loader during the whole fit."""
        if self._loader is None:
            trainer = self.trainer
            rank, world_size = (trainer.global_rank, trainer.world_size) if trainer is not None else (0, 1)
            device = torch.device("cpu") if trainer is None or self.dataset.on_host else trainer.strategy.root_device
            order = (self.training_size, self.batch_size, self.seed, rank, world_size, self.training_images, device)
            reader = self.dataset.reader
            self._loader = BatchLoader(*order) if reader is None else StreamLoader(reader, self.workers, *order)
            if self._restored is not None:
                self._loader.load_state_dict(self._restored)
            elif trainer is not None:
                self._loader.set_epoch(trainer.current_epoch)  # a second fit of the same trainer
        return self._loader

    def _val_dataloader(self) -> HeldOutLoader:
        """The images held out, float32 [B, C, H, W], in batches of about `batch_size`."""
        assert self.split is not None
        return HeldOutLoader(self, self.split.held_out)

    # Lightning restores a loader's state only when it takes the epoch for unfinished, so a position at the end of an
    # epoch would be lost. It always restores the state of the data module.
    def state_dict(self) -> dict[str, Any]:
        """The position of the training loader, for the checkpoint."""
        return {} if self._loader is None else self._loader.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Start the next fit at the position in the checkpoint."""
        self._restored = state_dict or None

    def teardown(self, stage: str) -> None:
        """End the workers that decode images, and the thread that gathers batches ahead."""
        if isinstance(self._loader, StreamLoader):
            self._loader.close()
        self._ahead.close()

    def on_exception(self, exception: BaseException) -> None:
        """The same where a fit ends early, when Lightning calls no `teardown`; the workers of an evaluation as well."""
        self.teardown("fit")
        streaming.close_all()

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a batch, or make its images where they are on the host and the indices had better stay there too."""
        if isinstance(batch, Batch) and self.dataset.on_host:
            return self._images(batch, device)  # indices on a device would have to be waited for
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Images, float32 [B, C, H, W], of a `Batch` of indices; anything else is returned as it is."""
        return self._images(batch, batch.indices.device) if isinstance(batch, Batch) else batch

    def _images(self, batch: Batch, device: torch.device) -> Tensor:
        """This process's images of a global batch, on `device`."""
        if self.dataset.device != device:
            self.dataset.to(device)
        if batch.pixels is not None:
            return on_device(pinned(batch.pixels, device), device)
        data = self.dataset
        if isinstance(data, ByteImages) and data.reader is None and data.on_host and device.type != "cpu":
            following = None if self._loader is None else self._loader.upcoming()
            return data.decode(self._ahead.gather(data, batch.indices, following))[batch.part]
        if device not in self._generators:
            self._generators[device] = torch.Generator(device)
        random = self._generators[device].manual_seed(derive_seed(self.seed, Stream.NUISANCE, batch.step, 0))
        # Every process makes the images of the global batch, which is a small part of a step's work, so that the
        # nuisances do not depend on the number of processes.
        images = self.dataset.images(batch.indices, random)
        return images[batch.part]

    def sample(self, count: int, seed: int | None = None) -> Tensor:
        """Indices, int64 [count], of uniformly drawn images for an evaluation; a function of the seed.

        Drawn from the images held out, or from all where none are; without replacement as long as there are `count`.
        `seed` defaults to the data module's.
        """
        drawn = self._draw(self.scored_size, count, seed)
        return drawn if self.split is None else self.split.held_out[drawn]

    def sample_of_all(self, count: int, seed: int) -> Tensor:
        """The same, drawn from all images: equal for data modules that differ in their seed alone."""
        return self._draw(len(self.dataset), count, seed)

    def _draw(self, size: int, count: int, seed: int | None) -> Tensor:
        random = generator(self.seed if seed is None else seed, Stream.EVALUATION, 1)
        if count > size:
            return torch.randint(size, (count,), generator=random)
        return torch.randperm(size, generator=random)[:count].clone()

    def evaluation_images(self, indices: Tensor, batch_size: int = 256, seed: int | None = None) -> Iterator[Tensor]:
        """The images at `indices` [N] in batches [up to batch_size, C, H, W] on the data set's device.

        Nuisances are a function of (seed, indices, batch_size), so that an evaluation can be repeated.
        """
        for images, _ in self.evaluation_sample(indices, batch_size, seed):
            yield images

    def evaluation_sample(
        self, indices: Tensor, batch_size: int = 256, seed: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        """The same images, each batch with its factor values, int64 [up to batch_size, K], or None without labels."""
        seed, reader, parts = self.seed if seed is None else seed, self.dataset.reader, indices.split(batch_size)
        if reader is None:
            random = generator(seed, Stream.EVALUATION, 2, device=self.dataset.device)
            for part in parts:
                yield self.dataset.images(part, random), self.dataset.factors(part)
            return
        random = generator(seed, Stream.EVALUATION, 2)
        wanted = (streaming.keys(part, random) for part in parts)
        stream = streaming.DecodedStream(reader, wanted, self.workers if len(parts) > 1 else 0)
        for part, decoded in zip(parts, stream, strict=True):
            # Pictures of a folder come without their labels, which the data set has as a table.
            factors = self.dataset.factors(part) if decoded.factors is None else decoded.factors
            yield on_device(decoded.pixels, self.dataset.device), factors


class HeldOutLoader:
    """The images at `indices` [N] of `data`: batches float32 [B, C, H, W], equal in every pass.

    All batches have about the same size, so that what is estimated on a batch is comparable.
    """

    def __init__(self, data: FactorDataModule, indices: Tensor) -> None:
        self._data, self._indices = data, indices
        self._size = math.ceil(len(indices) / math.ceil(len(indices) / data.batch_size))

    def __len__(self) -> int:
        return math.ceil(len(self._indices) / self._size)

    def __iter__(self) -> Iterator[Tensor]:
        return self._data.evaluation_images(self._indices, self._size)


@rank_zero_only
def _log_notices(notices: tuple[str, ...]) -> None:
    for notice in notices:
        log.warning(notice)  # a warning is shown even where logging was not set up
