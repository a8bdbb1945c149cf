from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deft_lightning.common.errors import DeftError
from deft_lightning.data import CustomImages, registry
from tests.data.custom.files import COUNT, GREY, GRID, pixels, write


def _same(path: Path, count: int = COUNT) -> str:
    return f"{path}: all {count} images are the same, so that there is nothing to learn from them."


def test_other_sizes_are_resized_without_aliasing_and_a_notice_says_so(path):
    stripes = np.zeros((COUNT, 128, 256), np.uint8)
    stripes[:, :, ::2] = 200  # finer than 64 pixels can show: grey
    dataset = CustomImages(write(path, images=stripes))
    assert dataset.shape == (1, 64, 64)
    assert np.abs(pixels(dataset) - 100).max() <= 8
    assert dataset.notices == (f"{path}: images of 256 x 128 are resized to 64 x 64.", _same(path))
    assert CustomImages(path, image_size="32").shape == (1, 32, 32)  # a string, as from the command line


def test_channels_can_be_chosen(path):
    colour = np.stack([GREY, GREY, GREY], axis=3)
    write(path, images=colour)
    grey = CustomImages(path, channels=1)
    assert np.array_equal(pixels(grey), GREY[:, None])
    assert grey.notices == (f"{path}: images are converted to grey.",)
    write(path, images=GREY)
    assert np.array_equal(pixels(CustomImages(path, channels=3)), colour.transpose(0, 3, 1, 2))


def test_images_that_are_all_the_same_are_told(path):
    same = np.stack([GREY[3]] * 2000)
    assert CustomImages(write(path, images=same)).notices == (_same(path, 2000),)
    same[-1, 63, 63] += 1
    assert CustomImages(write(path, images=same)).notices == ()


def test_images_stored_column_by_column(path):
    images = np.asfortranarray(np.random.default_rng(0).integers(0, 256, (COUNT, 64, 64, 3), np.uint8))
    assert np.array_equal(pixels(CustomImages(write(path, images=images))), images.transpose(0, 3, 1, 2))


def test_one_image_is_a_data_set(path):
    dataset = CustomImages(write(path, images=GREY[:1], factors=GRID[:1]))
    assert len(dataset) == 1
    assert dataset.factor_names == ()


def test_the_digest_is_that_of_pixels_and_labels(path):
    def digest(images: np.ndarray = GREY, factors: np.ndarray = GRID) -> str:
        return CustomImages(write(path, images=images, factors=factors)).provenance["digest"]

    first, other = digest(), GREY.copy()
    other[7, 3, 3] += 1
    assert len(first) == 16
    assert digest(GREY[::-1], GRID[::-1]) == first  # the grid puts them in the same order
    assert len({first, digest(other), digest(factors=GRID[:, ::-1]), digest(factors=GRID // 2)}) == 4
    assert CustomImages(path, channels=3).digest != CustomImages(path).digest


def test_a_wrong_path_is_one_sentence(tmp_path):
    with pytest.raises(DeftError, match=r"data\.path is null: give an \.npz or \.h5 file, or a folder"):
        CustomImages(None)
    with pytest.raises(DeftError, match=r"data\.path is .*none\.npz, which does not exist: give"):
        CustomImages(tmp_path / "none.npz")
    (tmp_path / "mine.mat").touch()
    with pytest.raises(DeftError, match=r"data\.path is .*mine\.mat: give an \.npz or \.h5 file, or a folder"):
        CustomImages(tmp_path / "mine.mat")
    with pytest.raises(DeftError, match="path"):
        registry.load("custom")


@pytest.mark.parametrize(
    "options", [{"image_size": 0}, {"image_size": "big"}, {"image_size": 6.5}, {"channels": 2}, {"channels": 0}]
)
def test_wrong_options_are_one_sentence(path, options):
    with pytest.raises(DeftError, match=rf"data\.{next(iter(options))} is "):
        CustomImages(write(path, images=GREY), **options)
