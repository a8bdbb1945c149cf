"""A model in use: what `encode`, `decode`, `reconstruct` and `traverse` take, return and refuse."""

from __future__ import annotations

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

from deft_lightning import DEFT, DeftError
from deft_lightning.common.pictures import rgb
from deft_lightning.model import inference
from deft_lightning.model.inference import name_latents
from tests.helpers import TinySprites, tiny_module


@pytest.fixture(scope="module")
def grey() -> torch.Tensor:
    return TinySprites().images(torch.arange(96), torch.Generator())


@pytest.fixture
def model() -> DEFT:
    return tiny_module()


def test_codes_are_those_of_the_training_path_in_any_number_of_batches(
    model: DEFT, grey: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "BATCH", 10)
    posterior = model.encode(grey)
    expected = model.infer(grey)
    assert posterior.mean.shape == posterior.log_variance.shape == (96, 10)
    for ours, theirs in zip(posterior, expected, strict=True):
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-5, atol=1e-5)
    assert not posterior.mean.requires_grad
    assert expected.mean.requires_grad  # the training path keeps gradients
    assert model.training


def test_the_mode_is_restored_also_after_an_error(model: DEFT, grey: torch.Tensor) -> None:
    with pytest.raises(DeftError):
        model.encode(grey - 1)
    assert model.training
    assert torch.is_grad_enabled()
    assert not model.eval().reconstruct(grey[:2]).requires_grad
    assert not model.training


def test_uint8_and_arrays_are_the_same_images(model: DEFT, grey: torch.Tensor) -> None:
    expected = model.encode(grey).mean
    as_bytes = (grey * 255).to(torch.uint8)
    assert torch.equal(model.encode(as_bytes).mean, expected)
    assert torch.equal(model.encode(as_bytes.numpy()).mean, expected)
    assert torch.equal(model.encode(grey.double().numpy()).mean, expected)


def test_grey_images_fit_a_model_of_colours_and_the_reverse(model: DEFT, grey: torch.Tensor) -> None:
    colour = tiny_module(image_shape=(3, 64, 64))
    assert torch.equal(colour.encode(grey).mean, colour.encode(grey.expand(-1, 3, -1, -1)).mean)
    red = torch.cat([grey, torch.zeros_like(grey), torch.zeros_like(grey)], dim=1)
    torch.testing.assert_close(model.encode(red).mean, model.encode(0.299 * grey).mean)
    assert model.reconstruct(red[:3]).shape == (3, 1, 64, 64)


def test_decoded_images_are_the_means_of_the_pixels(model: DEFT) -> None:
    latents = torch.randn(7, 10, generator=torch.Generator().manual_seed(0))
    images = model.decode(latents)
    assert images.shape == (7, 1, 64, 64)
    torch.testing.assert_close(images, torch.sigmoid(model.decoder(latents)).detach())
    assert torch.equal(model.decode(latents.double().numpy()), images)


def test_a_traversal_moves_one_latent_and_keeps_the_others(model: DEFT, grey: torch.Tensor) -> None:
    values = [-2.0, 0.0, 0.5]
    images = model.traverse(grey[:2], 4, values)
    assert images.shape == (2, 3, 1, 64, 64)
    codes = model.encode(grey[:2]).mean
    for row in range(2):
        for column, value in enumerate(values):
            code = codes[row : row + 1].clone()
            code[0, 4] = value
            torch.testing.assert_close(images[row, column], model.decode(code)[0])
    assert torch.equal(model.traverse(grey[:2], np.int64(4), values), images)
    model.latent_names[4] = "posX"
    assert torch.equal(model.traverse(grey[:2], "posX", values), images)


def test_no_images_have_no_codes(model: DEFT, grey: torch.Tensor) -> None:
    assert model.encode(grey[:0]).mean.shape == (0, 10)


def test_a_trainer_predicts_and_validates(model: DEFT, grey: torch.Tensor) -> None:
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    model._steps_per_epoch = 12
    labelled = DataLoader(TensorDataset(grey, torch.zeros(96)), batch_size=40)
    batches = trainer.predict(model, labelled)
    assert torch.equal(torch.cat([batch.mean for batch in batches]), model.encode(grey).mean)
    (parts,) = trainer.validate(model, DataLoader(grey, batch_size=96), verbose=False)
    kl = model.encode(grey).kl().sum(dim=1).mean()
    assert parts["validation/kl"] == pytest.approx(float(kl), rel=1e-4)
    assert parts["validation/loss"] == pytest.approx(
        parts["validation/reconstruction"] + 70 * parts["validation/kl"], rel=1e-5
    )
    assert trainer.validate(model, DataLoader(grey, batch_size=96), verbose=False) == [parts]


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (torch.zeros(1, 64, 64), r"the images have the shape \[1, 64, 64\].*image\[None\]"),
        (torch.zeros(2, 64, 64, 1), r"shape \[2, 64, 64, 1\]: this model takes \[N, C, 64, 64\]"),
        (torch.zeros(2, 1, 32, 32), "resize or permute"),
        (torch.zeros(2, 4, 64, 64), r"with C = 1"),
        (torch.zeros(2, 1, 64, 64, dtype=torch.int64), "the images are torch.int64: give floats"),
        (torch.full((2, 1, 64, 64), 255.0), r"range from 255 to 255: give floats in \[0, 1\], or uint8"),
        (np.full((2, 1, 64, 64), np.nan), "range from nan to nan"),
    ],
)
def test_wrong_images_are_one_sentence(images, sentence: str, model: DEFT) -> None:
    with pytest.raises(DeftError, match=sentence):
        model.encode(images)


def test_wrong_codes_latents_and_values_are_one_sentence(model: DEFT, grey: torch.Tensor) -> None:
    with pytest.raises(DeftError, match=r"the latents have the shape \[2, 9\]: this model decodes \[N, 10\]"):
        model.decode(torch.zeros(2, 9))
    for latent in (10, -1, "posX"):
        with pytest.raises(DeftError, match=f"there is no latent {latent!r}: give a number from 0 to 9"):
            model.traverse(grey[:1], latent, [0.0])
    for values in ([], ["a"], 3):
        with pytest.raises(DeftError, match="the values of a traversal are"):
            model.traverse(grey[:1], 0, values)  # type: ignore[arg-type]


def test_a_flipped_array_is_an_array(model: DEFT, grey: torch.Tensor) -> None:
    flipped = grey.numpy()[:, :, :, ::-1]
    assert torch.equal(model.encode(flipped).mean, model.encode(grey.flip(3)).mean)


def test_a_model_that_was_never_trained_is_validated_under_the_first_pressure(grey: torch.Tensor) -> None:
    model = tiny_module()
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    (parts,) = trainer.validate(model, DataLoader(grey, batch_size=96), verbose=False)
    total = parts["validation/reconstruction"] + 70 * parts["validation/kl"]
    assert parts["validation/loss"] == pytest.approx(total, rel=1e-5)


def test_names_of_latents_are_unique() -> None:
    names = name_latents(["posX", "", "posX", "scale"], 5)
    assert names == ["posX", "latent 1", "posX (latent 2)", "scale", "latent 4"]


@pytest.mark.parametrize("channels", [2, 4])
def test_a_model_of_other_channels_than_grey_and_rgb_takes_its_own_alone(channels: int) -> None:
    model = tiny_module(image_shape=(channels, 64, 64))
    assert model.encode(torch.rand(2, channels, 64, 64)).mean.shape == (2, 10)
    for other in (1, 3):
        with pytest.raises(DeftError, match=rf"this model takes \[N, C, 64, 64\] with C = {channels}"):
            model.encode(torch.rand(2, other, 64, 64))
    image = np.random.default_rng(0).random((channels, 5, 5))
    shown = rgb(image)
    assert shown.shape == (5, 5, 3)
    assert np.array_equal(shown[..., :2], np.rint(image[:2] * 255).transpose(1, 2, 0))
    assert (shown[..., 2] == 0).all() == (channels == 2)
