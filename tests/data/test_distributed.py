"""Two processes that communicate through gloo."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, distributed

from deft_lightning.data import FactorDataModule, registry
from tests.helpers import TinySprites


class Numbered(TinySprites):
    """Leaves a mark when it is built; the first pixel of an image is its index, the second a nuisance."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        rank = distributed.get_rank() if distributed.is_initialized() else 0
        with open(folder / f"built_{rank}", "a") as file:
            file.write("x")

    def images(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        images = super().images(indices, generator)
        images[:, 0, 0, 0] = indices
        images[:, 0, 0, 1] = torch.rand(len(images), generator=generator)
        return images


class Listing(pl.LightningModule):
    """Records the images that this process saw in each epoch."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder, self.seen, self.drawn = folder, [[], [], []], []
        self.weight = torch.nn.Parameter(torch.ones(()))

    def training_step(self, images: Tensor, batch_idx: int) -> Tensor:
        self.seen[self.current_epoch] += images[:, 0, 0, 0].int().tolist()
        self.drawn += images[:, 0, 0, 1].tolist()
        return self.weight * images.mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def on_train_end(self) -> None:
        torch.save((self.seen, self.drawn), self.folder / f"seen_{self.global_rank}")


@pytest.mark.skipif(not distributed.is_available(), reason="needs torch.distributed")
def test_each_image_is_seen_once_an_epoch_by_exactly_one_process(tmp_path, monkeypatch):
    monkeypatch.setitem(registry.DATASETS, "numbered", partial(Numbered, tmp_path))
    datamodule = FactorDataModule("numbered", batch_size=16)
    pl.Trainer(
        accelerator="cpu", devices=2, strategy="ddp_fork", max_epochs=3, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    ).fit(Listing(tmp_path), datamodule=datamodule)  # fmt: skip
    (first, drawn), (second, also_drawn) = (torch.load(tmp_path / f"seen_{rank}") for rank in (0, 1))
    for mine, yours in zip(first, second, strict=True):
        assert len(mine) == len(yours) == 48
        assert sorted(mine + yours) == list(range(96))
    assert first[0] != first[1] != first[2]
    assert not set(drawn) & set(also_drawn)  # no two images of a batch share their nuisances
    assert [(tmp_path / f"built_{rank}").read_text() for rank in (0, 1)] == ["x", "x"]  # once in each process
