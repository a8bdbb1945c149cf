from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor

from deft_lightning.common.errors import DeftError
from deft_lightning.data import Batch, FactorDataModule, registry
from tests.helpers import TinySprites

PER_EPOCH = 6  # batches of 16 out of 96 images


class Recorder(pl.LightningModule):
    """Keeps the images of every training batch, and a weight that every batch changes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3, 64, 64))
        self.seen: list[Tensor] = []

    def training_step(self, images: Tensor, batch_idx: int) -> Tensor:
        self.seen.append(images.clone())
        return (self.weight * images).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.1)


class Unchanged(Recorder):
    """For grey images, which it does not keep."""

    def training_step(self, images: Tensor, batch_idx: int) -> Tensor:
        return (self.weight[:1] * images).mean()


class SaveAt(pl.Callback):
    """Writes a checkpoint at one batch or epoch end, as the usual callbacks do."""

    def __init__(self, path: Path, *, step: int | None = None, epoch: int | None = None) -> None:
        self.path, self.step, self.epoch = path, step, epoch

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)

    def on_train_epoch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.current_epoch == self.epoch:
            trainer.save_checkpoint(self.path)


def data(seed: int = 3) -> FactorDataModule:
    return FactorDataModule(TinySprites(channels=3), batch_size=16, seed=seed)


def quiet_trainer(**options: Any) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )


def fit(limits: dict[str, int], callbacks: list[pl.Callback] | None = None, **options: Any) -> Recorder:
    module, trainer = Recorder(), quiet_trainer(callbacks=callbacks, **limits)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, datamodule=data(), **options)
    return module


def same(a: Recorder, b: Recorder) -> bool:
    """Whether the last batches of `a` are those of `b`, and the weights are equal bit for bit."""
    tail = a.seen[len(a.seen) - len(b.seen) :]
    return torch.equal(a.weight, b.weight) and all(map(torch.equal, tail, b.seen))


LIMITS = pytest.mark.parametrize(
    "limits", [{"max_epochs": 3}, {"max_steps": 3 * PER_EPOCH, "max_epochs": -1}], ids=["epochs", "steps"]
)


@LIMITS
@pytest.mark.parametrize("step", [1, 5, 6, 7, 12, 13, 17])
def test_a_resumed_fit_sees_the_rest_and_ends_bit_equal(tmp_path, limits, step):
    checkpoint = tmp_path / "last.ckpt"
    whole = fit(limits, [SaveAt(checkpoint, step=step)])
    resumed = fit(limits, ckpt_path=checkpoint, weights_only=True)
    assert len(whole.seen) == 3 * PER_EPOCH
    assert len(resumed.seen) == 3 * PER_EPOCH - step
    assert same(whole, resumed)


@LIMITS
@pytest.mark.parametrize("epoch", [0, 1])
def test_a_fit_resumed_at_the_end_of_an_epoch_starts_the_next_one(tmp_path, limits, epoch):
    checkpoint = tmp_path / "last.ckpt"
    whole = fit(limits, [SaveAt(checkpoint, epoch=epoch)])
    resumed = fit(limits, ckpt_path=checkpoint, weights_only=True)
    assert len(resumed.seen) == (2 - epoch) * PER_EPOCH
    assert same(whole, resumed)


@pytest.mark.parametrize("stop", [2, 6, 9, 12])
def test_a_fit_stopped_by_max_steps_is_resumed_where_it_was(tmp_path, stop):
    whole = fit({"max_steps": 3 * PER_EPOCH, "max_epochs": -1})
    checkpoint = tmp_path / "last.ckpt"
    trainer = quiet_trainer(max_steps=stop, max_epochs=-1)
    module = Recorder()
    trainer.fit(module, datamodule=data())
    trainer.save_checkpoint(checkpoint)
    resumed = fit({"max_steps": 3 * PER_EPOCH, "max_epochs": -1}, ckpt_path=checkpoint, weights_only=True)
    assert len(module.seen) + len(resumed.seen) == 3 * PER_EPOCH
    assert same(whole, resumed)


def test_shortened_epochs_go_through_all_the_data():
    whole, short = fit({"max_steps": 12}), fit({"max_steps": 12, "limit_train_batches": 4})
    assert same(whole, short)


def test_an_epoch_of_training_shows_each_image_once():
    indices = torch.cat([batch.indices for batch in data().train_dataloader()])
    assert sorted(indices.tolist()) == list(range(96))


def test_a_data_module_starts_over_in_every_fit_and_continues_in_a_second_fit_of_one_trainer():
    module, datamodule = Recorder(), data()
    trainer = quiet_trainer(max_epochs=1)
    trainer.fit(module, datamodule=datamodule)
    trainer.fit_loop.max_epochs = 2
    trainer.fit(module, datamodule=datamodule)
    again = Recorder()
    quiet_trainer(max_epochs=2).fit(again, datamodule=datamodule)
    assert len(module.seen) == len(again.seen) == 2 * PER_EPOCH
    assert all(map(torch.equal, module.seen, again.seen))  # only the batches: a second fit has a new optimiser


def test_the_images_of_a_batch_are_a_function_of_seed_and_step():
    batch = Batch(torch.arange(16), 7)
    images = data().on_after_batch_transfer(batch, 0)
    assert images.shape == (16, 3, 64, 64)
    assert images.dtype == torch.float32
    datamodule = data()
    datamodule.on_after_batch_transfer(Batch(torch.arange(3), 2), 0)  # what came before does not matter
    assert torch.equal(images, datamodule.on_after_batch_transfer(batch, 0))
    assert not torch.equal(images, data().on_after_batch_transfer(Batch(torch.arange(16), 8), 0))
    assert not torch.equal(images, data(seed=4).on_after_batch_transfer(batch, 0))


def test_what_is_not_a_batch_of_indices_is_left_alone():
    images = torch.rand(2, 3, 64, 64)
    assert data().on_after_batch_transfer(images, 0) is images


def test_a_sample_is_without_replacement_while_there_are_images_and_a_function_of_the_seed():
    datamodule = data()
    assert sorted(datamodule.sample(96).tolist()) == list(range(96))
    assert torch.equal(datamodule.sample(20), data().sample(20))
    assert not torch.equal(datamodule.sample(20), datamodule.sample(20, seed=9))
    many = datamodule.sample(9600)
    counts = torch.bincount(many, minlength=96)
    assert ((counts - 100.0) ** 2 / 100).sum() < 143  # chi squared, 0.999 quantile with 95 degrees of freedom


def test_evaluation_images_can_be_repeated():
    datamodule = data()
    indices = datamodule.sample(40)
    first = list(datamodule.evaluation_images(indices, batch_size=16))
    assert [len(part) for part in first] == [16, 16, 8]
    assert all(map(torch.equal, first, data().evaluation_images(indices, batch_size=16)))
    other = data().evaluation_images(indices, batch_size=16, seed=1)
    assert not torch.equal(first[0], next(other))
    masks = TinySprites().images(indices, torch.Generator())
    assert torch.equal(torch.cat(first).amax(1, keepdim=True) > 0, masks > 0)


def test_a_named_data_set_is_built_once_and_only_when_needed(monkeypatch):
    built: list[TinySprites] = []

    def build() -> TinySprites:
        built.append(TinySprites())
        return built[-1]

    monkeypatch.setitem(registry.DATASETS, "tiny", build)
    datamodule = FactorDataModule("tiny")
    assert built == []
    datamodule.prepare_data()
    datamodule.setup("fit")
    assert datamodule.dataset is built[0]
    assert len(built) == 1


class StandIn(TinySprites):
    notices = ("A stand-in is used.", "Images were resized.")


@pytest.mark.parametrize("dataset", ["stand-in", StandIn()])
def test_a_fit_logs_the_notices_once(dataset, monkeypatch, caplog):
    """As warnings, which are shown even where logging was not set up."""
    monkeypatch.setitem(registry.DATASETS, "stand-in", StandIn)
    datamodule = FactorDataModule(dataset, batch_size=16)
    assert caplog.messages == []
    for _ in range(2):
        quiet_trainer(max_epochs=1).fit(Unchanged(), datamodule=datamodule)
    logged = [(record.levelname, record.message) for record in caplog.records if record.name.startswith("deft_light")]
    assert logged == [("WARNING", notice) for notice in StandIn.notices]


def test_of_several_processes_one_logs_the_notices(monkeypatch, caplog):
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    _ = FactorDataModule(StandIn()).dataset
    assert caplog.messages == []


def test_the_error_about_an_unknown_name_lists_the_names():
    with pytest.raises(DeftError, match=r"the data set is 'dsprite': use one of dsprites, color_dsprites"):
        FactorDataModule("dsprite").prepare_data()


def test_resuming_with_another_seed_is_refused(tmp_path):
    state = data().train_dataloader().state_dict()
    datamodule = data(seed=4)
    datamodule.load_state_dict(state)
    with pytest.raises(DeftError, match="seed is 4, but the checkpoint's data order has seed 3"):
        datamodule.train_dataloader()
