"""From an image to bars and from sliders to an image, without a page."""

from __future__ import annotations

import io
from base64 import b64encode
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from deft_lightning import DeftError, FactorDataModule
from deft_lightning.common.pictures import rgb
from deft_lightning.data import CustomImages
from deft_lightning.viewer import views
from deft_lightning.viewer.runs import Subject
from tests.helpers import TinySprites, tiny_module

RED = (255, 0, 0)


@pytest.fixture
def subject() -> Subject:
    """An untrained model of colour images whose decoder is sensitive to every latent."""
    torch.manual_seed(0)
    model = tiny_module(image_shape=(3, 64, 64)).eval()
    with torch.no_grad():
        for weights in model.decoder.parameters():
            weights.mul_(10)
    kl = np.array([0.0, 0.5, 0.01, 0.009, 2.0, 0.0, 0.0, 0.0, 0.0, 1.0])
    return Subject(model, FactorDataModule(TinySprites(channels=3), 8, 0), "", (0, 0, 0), kl)


@pytest.fixture
def image(subject: Subject) -> Tensor:
    return views.from_data(subject, 5)


def _uri(content: bytes) -> str:
    return "data:image/png;base64," + b64encode(content).decode()


def _pixels(file: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(file)))


def test_bars_are_the_posterior_and_its_kl(subject: Subject, image: Tensor) -> None:
    posterior = subject.model.encode(image)
    for bar in views.bars(subject, image):
        mean, variance = float(posterior.mean[0, bar.latent]), float(posterior.log_variance[0, bar.latent].exp())
        assert (bar.mean, bar.deviation) == pytest.approx((mean, variance**0.5))
        assert bar.kl == pytest.approx((mean**2 + variance - 1 - np.log(variance)) / 2, abs=1e-6)
        assert bar.name == f"latent {bar.latent}"


def test_live_latents_are_first_in_order_of_their_average_kl(subject: Subject, image: Tensor) -> None:
    found = views.bars(subject, image)
    assert [bar.latent for bar in found] == [4, 9, 1, 2, 0, 3, 5, 6, 7, 8]
    assert [bar.latent for bar in found if bar.live] == [4, 9, 1, 2]  # 0.01 nats are enough, 0.009 are not


def test_latents_that_were_never_measured_are_live_in_order_of_their_numbers(subject: Subject, image: Tensor) -> None:
    found = views.bars(replace(subject, kl=np.full(10, np.inf)), image)
    assert [bar.latent for bar in found] == list(range(10))
    assert all(bar.live for bar in found)


def test_sliders_in_any_order_give_the_image_that_the_model_decodes(subject: Subject) -> None:
    values = torch.linspace(-2, 2, 10)
    sliders = {latent: float(values[latent]) for latent in (4, 9, 1, 2, 0, 3, 5, 6, 7, 8)}
    assert torch.equal(views.decoded(subject.model, sliders), subject.model.decode(values[None])[0])
    with pytest.raises(DeftError, match=r"this model decodes \[N, 10\]"):
        views.decoded(subject.model, {0: 1.0})


def test_a_picture_has_the_pixels_of_the_image(subject: Subject, image: Tensor) -> None:
    decoded = subject.model.reconstruct(image)[0]
    assert np.array_equal(_pixels(views.png(decoded)), rgb(decoded.numpy()))
    grey = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)
    assert np.array_equal(_pixels(views.png(grey))[..., 0], grey[0].numpy())


def test_an_image_of_the_data_is_always_the_same_and_has_colours_of_its_own(subject: Subject, image: Tensor) -> None:
    assert torch.equal(image, views.from_data(subject, 5))
    assert image.shape == (1, 3, 64, 64)
    assert not torch.equal(image.amax(dim=(2, 3)), views.from_data(subject, 6).amax(dim=(2, 3)))


@pytest.mark.parametrize("index", [-1, 96])
def test_an_image_that_is_not_there_is_one_sentence(subject: Subject, index: int) -> None:
    with pytest.raises(DeftError, match=rf"there is no image {index}: give a number from 0 to 95\."):
        views.from_data(subject, index)


def test_without_data_the_sentence_says_why(subject: Subject) -> None:
    with pytest.raises(DeftError, match=r"^the files are gone: restore them\.$"):
        views.from_data(replace(subject, data=None, problem="the files are gone: restore them."), 0)


@pytest.mark.parametrize("background", [(0, 0, 0), RED])
def test_a_dropped_picture_is_read_as_for_training(tmp_path: Path, background: tuple[int, int, int]) -> None:
    """Transparent parts are composed over the run's colour, and the picture is resized as data=custom does."""
    pixels = np.zeros((50, 40, 4), np.uint8)
    pixels[10:30, 5:25] = (0, 200, 100, 255)
    Image.fromarray(pixels).save(tmp_path / "square.png")
    dropped = views.from_upload(_uri((tmp_path / "square.png").read_bytes()), "square.png", (3, 32, 32), background)
    trained = CustomImages(tmp_path, image_size=32, channels=3, background=f"#{bytes(background).hex()}")
    assert torch.equal(dropped / 255, trained.images(torch.arange(1), torch.Generator()))
    assert tuple(dropped[0, :, -1, -1].tolist()) == background


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (_uri(b"no image"), r"notes\.txt is damaged or not an image: replace or delete it\."),
        ("data:text/plain;base64,?", r"notes\.txt did not arrive whole: drop it again\."),
    ],
)
def test_a_dropped_file_that_is_no_picture_is_named(content: str, sentence: str) -> None:
    with pytest.raises(DeftError, match=sentence):
        views.from_upload(content, "notes.txt", (3, 64, 64), (0, 0, 0))


def test_an_image_of_another_size_is_resized_for_the_model(image: Tensor) -> None:
    assert views.fitted(image, (1, 64, 64)) is image  # the model itself converts colours
    small = views.fitted(image, (1, 32, 32))
    expected = Image.fromarray(rgb(image[0].numpy())).convert("L").resize((32, 32), Image.Resampling.LANCZOS)
    assert np.array_equal(small[0, 0].numpy(), np.asarray(expected))


def test_a_gif_moves_one_latent_there_and_back_and_keeps_the_others(subject: Subject) -> None:
    code = dict(enumerate(np.linspace(-1, 1, 10).tolist()))
    with Image.open(io.BytesIO(views.traversal(subject.model, code, 4))) as gif:
        assert gif.n_frames == 2 * views.STEPS - 2
        for frame, value in ((0, -2.0), (views.STEPS // 2, 0.0), (views.STEPS - 1, 2.0)):
            gif.seek(frame)
            shown = np.asarray(gif.convert("RGB"))[-258:, :256][::4, ::4][:64].astype(int)  # the label is above
            expected = rgb(views.decoded(subject.model, code | {4: value}).numpy())
            assert abs(shown - expected).mean() < 2, frame  # a GIF has 256 colours
