"""Every data set is decoded on a GPU as it is on the CPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from deft_lightning.data import FactorDataModule
from deft_lightning.data.base import FactorDataset, StoredImages
from deft_lightning.data.dsprites.dataset import ColorDSprites, DSprites, NoisyDSprites, unpacking_table
from deft_lightning.data.dsprites.scream import ScreamDSprites
from tests.data.test_ahead import EXPECTED, Large, Mapped, Small

COUNT = 64


def without_files(kind: type[FactorDataset]) -> FactorDataset:
    """A data set of 64 random images."""
    dataset = kind.__new__(kind)
    random = torch.Generator().manual_seed(0)
    if isinstance(dataset, StoredImages):
        dataset._pixels = torch.randint(256, (COUNT, *dataset.shape), dtype=torch.uint8, generator=random)
    if isinstance(dataset, DSprites):
        dataset._packed = torch.randint(256, (COUNT, 512), dtype=torch.uint8, generator=random)
        dataset._unpacking = unpacking_table(dataset.shape[0])
    if isinstance(dataset, ScreamDSprites):
        dataset._half = torch.rand(274, 217, 3, generator=random) / 2
    return dataset


class Grey(StoredImages):
    """As SmallNORB is, and Cars3D and images of one's own with more channels."""

    name, source, shape = "grey", "file", (1, 64, 64)


@pytest.mark.parametrize("kind", [DSprites, ColorDSprites, NoisyDSprites, ScreamDSprites, Grey])
def test_images_on_the_device_are_those_of_the_cpu(
    kind: type[FactorDataset], device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same nuisances: a generator of the device would draw others."""
    indices = torch.randint(COUNT, (16,), generator=torch.Generator().manual_seed(1))
    draws = {name: getattr(torch, name) for name in ("rand", "randint")}
    for name, draw in draws.items():

        def on_the_host(*args: Any, draw: Any = draw, device: Any = None, **options: Any) -> Tensor:
            return draw(*args, **options).to(device)  # type: ignore[no-any-return]

        monkeypatch.setattr(torch, name, on_the_host)
    theirs = without_files(kind).images(indices, torch.Generator().manual_seed(2))
    ours = without_files(kind).to(device).images(indices.to(device), torch.Generator().manual_seed(2))
    assert ours.device == device
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours.cpu(), theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", [Mapped, Large, Small])
def test_an_epoch_of_images_from_the_host_is_that_of_the_cpu(kind: Any, device: torch.device) -> None:
    """Pinned batches, gathered ahead, do not overwrite each other."""
    data = FactorDataModule(kind(), batch_size=8)
    kept = []
    for _ in range(20):
        for batch in data.train_dataloader():
            indices = batch.indices.clone()
            images = data.on_after_batch_transfer(data.transfer_batch_to_device(batch, device, 0), 0)
            kept.append((indices, images))
    data.teardown("fit")
    # CUDA multiplies by 1 / 255 instead of dividing: the expected images are decoded there.
    expected = (EXPECTED * 255).round().to(device).div_(255)
    assert all(torch.equal(images, expected[indices.to(device)]) for indices, images in kept)
