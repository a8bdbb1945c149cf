"""Images that are held out: which ones, and that no batch of the training has any of them."""

from __future__ import annotations

import pytest
import torch

from deft_lightning.common.errors import DeftError
from deft_lightning.data import BatchLoader, FactorDataModule
from deft_lightning.data.held_out import split
from tests.helpers import TinySprites


def data(share: float = 0.25, seed: int = 3, batch_size: int = 16) -> FactorDataModule:
    return FactorDataModule(TinySprites(channels=3), batch_size, seed, held_out=share)


def test_a_split_has_every_image_once_and_the_share_that_is_asked_for():
    training, held_out = split(1000, 0.1, seed=0)
    assert len(held_out) == 100
    assert torch.equal(torch.cat([training, held_out]).sort().values, torch.arange(1000))


def test_a_split_is_a_function_of_the_seed_and_uniform():
    assert torch.equal(split(1000, 0.1, seed=5).held_out, split(1000, 0.1, seed=5).held_out)
    assert not torch.equal(split(1000, 0.1, seed=5).held_out, split(1000, 0.1, seed=6).held_out)
    counts = torch.zeros(20)
    for seed in range(400):
        counts[split(20, 0.25, seed).held_out] += 1
    assert ((counts - 100) ** 2 / 75).sum() < 43.8  # chi squared, 0.999 quantile with 19 degrees of freedom


def test_without_a_share_nothing_is_held_out_and_the_order_of_the_batches_is_as_it_was():
    whole = FactorDataModule(TinySprites(), 16, 3)
    assert whole.split is None
    ours, plain = whole.train_dataloader(), BatchLoader(96, 16, 3)
    for one, other in zip(ours, plain, strict=True):
        assert torch.equal(one.indices, other.indices)


def test_an_epoch_of_training_shows_each_training_image_once_and_no_other():
    module = data(batch_size=8)
    indices = torch.cat([batch.indices for batch in module.train_dataloader()])
    assert torch.equal(indices.sort().values, module.split.training)
    assert not set(indices.tolist()) & set(module.split.held_out.tolist())
    assert (module.training_size, module.scored_size) == (72, 24)


def test_scores_are_computed_on_images_that_are_held_out():
    module = data()
    assert set(module.sample(24).tolist()) == set(module.split.held_out.tolist())
    assert set(module.sample(500).tolist()) <= set(module.split.held_out.tolist())
    one, other = module.sample_of_all(90, 0), data(seed=4).sample_of_all(90, 0)
    assert torch.equal(one, other)  # models of several seeds are compared on the same images


def test_the_validation_images_are_those_held_out_each_once():
    module = data(batch_size=7)
    batches = list(module.val_dataloader())
    assert [len(batch) for batch in batches] == [6, 6, 6, 6]  # all alike, rather than 7, 7, 7, 3
    assert len(module.val_dataloader()) == 4
    masks = TinySprites().images(module.split.held_out, torch.Generator())
    assert torch.equal(torch.cat(batches).amax(1, keepdim=True) > 0, masks > 0)
    assert all(map(torch.equal, batches, module.val_dataloader()))


@pytest.mark.parametrize("share", [-0.1, 1, 1.5, "half", True, float("nan")])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(DeftError, match=r"data.held_out is .*: give a share from 0 to below 1, as in 0.1."):
        data(share)


def test_a_share_of_too_few_images_is_refused():
    with pytest.raises(DeftError, match=r"data.held_out is 0.01, which is 1 of 96 images: hold out at least 2"):
        _ = data(0.01).split


def test_a_share_that_leaves_no_image_to_train_on_is_refused():
    with pytest.raises(DeftError, match=r"data.held_out is 0.999, which is all of 96 images: leave some to train on"):
        _ = data(0.999).split


def test_fewer_training_images_than_a_batch_are_refused():
    with pytest.raises(DeftError, match="batch_size is 16: give a whole number from 1 to 10, the number of images"):
        data(0.9).train_dataloader()
