"""Images with transparent parts are composed over a colour, and the notice says so."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from deft_lightning.common.errors import DeftError
from deft_lightning.data import CustomImages, registry
from tests.data.custom.files import GREY, folder, pixels, write

BACKGROUNDS = {"black": (0, 0, 0), "white": (255, 255, 255), "#20a0f0": (0x20, 0xA0, 0xF0)}


def _sprite(opacity: int = 255) -> np.ndarray:
    """A red picture that is opaque only in a square of 20 x 20, [64, 64, 4]."""
    sprite = np.full((64, 64, 4), (255, 0, 0, 0), np.uint8)
    sprite[10:30, 20:40, 3] = opacity
    return sprite


def _expected(background: tuple[int, int, int]) -> np.ndarray:
    """The square on a ground of one colour, [3, 64, 64]."""
    image = np.full((64, 64, 3), background)
    image[10:30, 20:40] = (255, 0, 0)
    return image.transpose(2, 0, 1)


def _notice(path: object, background: str) -> str:
    return f"{path}: transparent images are composed over {background} (data.background)."


@pytest.mark.parametrize("background", BACKGROUNDS)
@pytest.mark.parametrize("ending", ["png", "webp", "tif"])
def test_a_sprite_on_a_transparent_ground_is_seen(tmp_path, background, ending):
    Image.fromarray(_sprite()).save(tmp_path / f"a.{ending}", **({"lossless": True} if ending == "webp" else {}))
    dataset = CustomImages(tmp_path, background=background)
    assert np.array_equal(pixels(dataset)[0], _expected(BACKGROUNDS[background]))
    assert dataset.notices == (_notice(tmp_path, background),)


@pytest.mark.parametrize("background", BACKGROUNDS)
@pytest.mark.parametrize("axis", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, bool])
def test_arrays_with_four_channels_are_composed(path, background, axis, dtype):
    sprites = np.stack([_sprite(), np.roll(_sprite(), 9, axis=0)])
    stored = sprites / np.float32(255) if dtype is np.float32 else sprites.astype(dtype)
    dataset = CustomImages(write(path, images=np.moveaxis(stored, 3, axis)), background=background)
    expected = _expected(BACKGROUNDS[background])
    assert np.array_equal(pixels(dataset), [expected, np.roll(expected, 9, axis=1)])
    assert dataset.notices[-1] == _notice(path, background)


def test_half_transparent_pixels_are_mixed(tmp_path):
    folder(tmp_path, {"a.png": _sprite(opacity=51)})
    assert pixels(CustomImages(tmp_path, background="white"))[0, :, 15, 25].tolist() == [255, 204, 204]


def test_opaque_images_need_no_word(tmp_path, path):
    opaque = np.full((64, 64, 4), (7, 8, 9, 255), np.uint8)
    opaque[0, 0] = (1, 2, 3, 255)
    folder(tmp_path / "f", {"a.png": opaque})
    assert CustomImages(tmp_path / "f", background="white").notices == ()
    dataset = CustomImages(write(path, images=opaque[None]))
    assert np.array_equal(pixels(dataset)[0], opaque[..., :3].transpose(2, 0, 1))
    assert dataset.notices == ()


def _palette() -> Image.Image:
    """The sprite with a palette whose second entry is transparent."""
    picture = Image.fromarray((_sprite()[..., 3] == 0).astype(np.uint8), mode="P")
    picture.putpalette([255, 0, 0, 0, 255, 0])
    return picture


@pytest.mark.parametrize("ending", ["png", "gif"])
def test_palettes_with_a_transparent_colour(tmp_path, ending):
    _palette().save(tmp_path / f"a.{ending}", transparency=1)
    dataset = CustomImages(tmp_path, background="white")
    assert np.array_equal(pixels(dataset)[0], _expected((255, 255, 255)))
    assert _notice(tmp_path, "white") in dataset.notices


def test_a_palette_with_an_opacity_for_each_colour(tmp_path):
    _palette().save(tmp_path / "a.png", transparency=bytes([255, 51]))
    assert pixels(CustomImages(tmp_path))[0, :, [0, 15], [0, 25]].tolist() == [[0, 51, 0], [255, 0, 0]]


def test_one_transparent_colour_of_other_types(tmp_path):
    square = _sprite()[..., 3] > 0
    Image.fromarray(np.where(square, 0, 255).astype(np.uint8)).save(tmp_path / "grey.png", transparency=255)
    deep = Image.fromarray(np.where(square, 0, 257 * 200).astype(np.uint16))
    deep.save(tmp_path / "deep.png", transparency=257 * 200)
    colour = np.full((64, 64, 3), (0, 255, 0), np.uint8)
    colour[square] = 0
    Image.fromarray(colour).save(tmp_path / "colour.png", transparency=(0, 255, 0))
    images = pixels(CustomImages(tmp_path, background="white"))
    assert np.array_equal(images, np.broadcast_to(np.where(square, 0, 255), images.shape))


def test_grey_with_opacity_stays_grey_on_grey_and_becomes_colour_on_colour(tmp_path):
    sprite = np.dstack([np.full((64, 64), 90, np.uint8), _sprite()[..., 3]])
    Image.fromarray(sprite, mode="LA").save(tmp_path / "a.png")
    grey = CustomImages(tmp_path, background="white")
    assert grey.shape == (1, 64, 64)
    assert pixels(grey)[0, 0, [0, 15], [0, 25]].tolist() == [255, 90]
    coloured = CustomImages(tmp_path, background="#20a0f0")
    assert pixels(coloured)[0, :, [0, 15], [0, 25]].tolist() == [[0x20, 0xA0, 0xF0], [90, 90, 90]]
    assert CustomImages(tmp_path, background="#20a0f0", channels=1).shape == (1, 64, 64)


def test_the_ground_is_composed_before_the_size_changes(tmp_path):
    sprite = np.kron(_sprite(), np.ones((2, 2, 1), np.uint8))
    sprite[sprite[..., 3] == 0] = (0, 255, 0, 0)  # a colour that must not bleed in from where it is not seen
    folder(tmp_path, {"a.png": sprite})
    image = pixels(CustomImages(tmp_path, background="white"))[0]
    assert image[1].max() <= 255
    assert np.array_equal(image[1], image[2])  # neither the square nor the ground is greenish


@pytest.mark.parametrize("wrong", ["pink", "#12345", "202020", "", "#gggggg"])
def test_another_background_is_one_sentence(tmp_path, wrong):
    folder(tmp_path, {"a.png": GREY[0]})
    with pytest.raises(DeftError, match=r"data\.background is '.*': give black, white or #rrggbb"):
        registry.load("custom", path=tmp_path, background=wrong)
