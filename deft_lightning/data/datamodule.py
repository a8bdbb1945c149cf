"""A data set as a LightningDataModule: Lightning moves indices, and images are made on the device."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor

from deft_lightning.common.seeding import Stream, derive_seed, generator
from deft_lightning.data import registry
from deft_lightning.data.ahead import Ahead
from deft_lightning.data.base import ByteImages, FactorDataset
from deft_lightning.data.batches import Batch, BatchLoader

log = logging.getLogger(__name__)


class FactorDataModule(pl.LightningDataModule):
    """Training batches and evaluation samples of one data set.

    `dataset` is a `FactorDataset` or the name of one, such as "color_dsprites", which is loaded when the trainer
    prepares its data. `batch_size` counts all processes together. The module receives a training batch as images,
    float32 [B, C, H, W] in [0, 1]: this process's slice of a global batch that is a function of (seed, step). Raises
    `DeftError` when the data can be neither read nor made, or the batch size does not fit.
    """

    def __init__(self, dataset: FactorDataset | str, batch_size: int = 64, seed: int = 0) -> None:
        super().__init__()
        self.batch_size, self.seed = batch_size, seed
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
            self._dataset = registry.load(source) if isinstance(source, str) else source
            _log_notices(self._dataset.notices)
        return self._dataset

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
            self._loader = BatchLoader(len(self.dataset), self.batch_size, self.seed, rank, world_size, device)
            if self._restored is not None:
                self._loader.load_state_dict(self._restored)
            elif trainer is not None:
                self._loader.set_epoch(trainer.current_epoch)  # a second fit of the same trainer
        return self._loader

    # Lightning restores a loader's state only when it takes the epoch for unfinished, so a position at the end of an
    # epoch would be lost. It always restores the state of the data module.
    def state_dict(self) -> dict[str, Any]:
        """The position of the training loader, for the checkpoint."""
        return {} if self._loader is None else self._loader.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Start the next fit at the position in the checkpoint."""
        self._restored = state_dict or None

    def teardown(self, stage: str) -> None:
        """End the thread that gathers batches ahead."""
        self._ahead.close()

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
        if isinstance(self.dataset, ByteImages) and self.dataset.on_host and device.type != "cpu":
            following = None if self._loader is None else self._loader.upcoming()
            return self.dataset.decode(self._ahead.gather(self.dataset, batch.indices, following))[batch.part]
        if device not in self._generators:
            self._generators[device] = torch.Generator(device)
        random = self._generators[device]
        random.manual_seed(derive_seed(self.seed, Stream.NUISANCE, batch.step, 0))
        # Every process makes the images of the global batch, which is a small part of a step's work, so that the
        # nuisances do not depend on the number of processes.
        images = self.dataset.images(batch.indices, random)
        return images[batch.part]

    def sample(self, count: int, seed: int | None = None) -> Tensor:
        """Indices, int64 [count], of uniformly drawn images for an evaluation; a function of the seed.

        Drawn without replacement as long as there are `count` images. `seed` defaults to the data module's.
        """
        random = generator(self.seed if seed is None else seed, Stream.EVALUATION, 1)
        size = len(self.dataset)
        if count > size:
            return torch.randint(size, (count,), generator=random)
        return torch.randperm(size, generator=random)[:count].clone()

    def evaluation_images(self, indices: Tensor, batch_size: int = 256, seed: int | None = None) -> Iterator[Tensor]:
        """The images at `indices` [N] in batches [up to batch_size, C, H, W] on the data set's device.

        Nuisances are a function of (seed, indices, batch_size), so that an evaluation can be repeated.
        """
        seed = self.seed if seed is None else seed
        random = generator(seed, Stream.EVALUATION, 2, device=self.dataset.device)
        for part in indices.split(batch_size):
            yield self.dataset.images(part, random)


@rank_zero_only
def _log_notices(notices: tuple[str, ...]) -> None:
    for notice in notices:
        log.warning(notice)  # a warning is shown even where logging was not set up
