from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from deft_lightning.common.errors import DeftError
from deft_lightning.data import CustomImages
from deft_lightning.data.custom import arrays, stored
from tests.data.custom.files import COUNT, GREY, RANDOM, folder, pixels, write


@pytest.mark.parametrize("key", arrays.IMAGE_KEYS)
@pytest.mark.parametrize("block", [5, 1024])
def test_grey_arrays_are_read_unchanged(path, key, block, monkeypatch):
    monkeypatch.setattr(stored, "_ROWS", block)  # blocks that do and do not divide the images
    dataset = CustomImages(write(path, **{key: GREY}))
    assert dataset.shape == (1, 64, 64)
    assert dataset.notices == ()
    assert dataset.provenance == {"source": "file", "path": str(path), "digest": dataset.digest}
    images = dataset.images(torch.tensor([3, 0]), RANDOM)
    assert images.dtype == torch.float32
    assert np.array_equal(pixels(dataset), GREY[:, None])


@pytest.mark.parametrize("axis", [1, 3])
def test_colour_arrays_may_have_their_channels_first_or_last(path, axis):
    colour = np.random.default_rng(0).integers(0, 256, (COUNT, 3, 64, 64), np.uint8)
    dataset = CustomImages(write(path, images=np.moveaxis(colour, 1, axis)))
    assert dataset.shape == (3, 64, 64)
    assert np.array_equal(pixels(dataset), colour)


@pytest.mark.parametrize(
    ("array", "expected", "notice"),
    [
        (GREY / np.float32(255), GREY, "256 levels"),
        (GREY.astype(np.int64), GREY, None),
        (GREY > 100, (GREY > 100) * 255, None),
        ((GREY > 100).astype(np.uint8), (GREY > 100) * 255, "black or white"),
    ],
)
def test_every_type_of_pixel_becomes_bytes(path, array, expected, notice):
    dataset = CustomImages(write(path, images=array))
    assert np.array_equal(pixels(dataset), expected[:, None])
    assert [notice in sentence for sentence in dataset.notices] == ([True] if notice else [])


def test_a_folder_is_read_in_the_order_of_its_paths(tmp_path):
    names = ["b.png", "a/2.png", "a/10.PNG", ".hidden.png"]
    folder(tmp_path, {name: GREY[place] for place, name in enumerate(names)})
    (tmp_path / "notes.txt").write_text("no image")
    dataset = CustomImages(tmp_path)
    assert dataset.shape == (1, 64, 64)
    assert pixels(dataset)[:, 0, 0, 0].tolist() == [40, 20, 0]  # a/10.PNG, a/2.png, b.png


def test_pictures_of_different_sizes_and_types(tmp_path):
    colour = np.full((30, 50, 3), (10, 20, 30), np.uint8)
    clear = np.full((64, 64, 4), (70, 80, 90, 5), np.uint8)
    deep = np.full((64, 64), 257 * 100, np.uint16)
    folder(tmp_path, {"a.png": GREY[3], "b.png": colour, "c.png": clear, "d.png": deep})
    dataset = CustomImages(tmp_path)
    assert pixels(dataset)[:, :, 5, 5].tolist() == [[60] * 3, [10, 20, 30], [1, 2, 2], [100] * 3]
    assert dataset.notices == (
        f"{tmp_path}: images of type I;16 are converted to 8 bits a channel.",
        f"{tmp_path}: transparent images are composed over black (data.background).",
        f"{tmp_path}: images of different sizes are resized to 64 x 64.",
    )


def test_a_photograph_is_turned_upright(tmp_path):
    picture = np.zeros((64, 64), np.uint8)
    picture[:32] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # the camera was upside down
    Image.fromarray(picture).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(pixels(CustomImages(tmp_path))[0, 0], picture[::-1])


@pytest.mark.parametrize("keep", [0, 3, 0.3, 0.7, 0.98])
def test_a_truncated_file_is_one_sentence(path, keep):
    # The one array comes last in the file, so that every cut takes some of it.
    whole = write(path, images=np.random.default_rng(0).integers(0, 256, GREY.shape, np.uint8)).read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(DeftError, match=rf"{path.name} is damaged, incomplete or of another format: save it again"):
        CustomImages(path)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pictures": GREY}, "has only pictures: store the images under images or imgs"),
        ({"images": GREY[:, 0, 0]}, r"images of uint8 \[12\]: give numbers"),
        ({"images": GREY[0]}, r"images of uint8 \[64, 64\]: give numbers"),
        ({"images": GREY[:0]}, r"images of uint8 \[0, 64, 64\]: give numbers"),
        ({"images": np.stack([GREY] * 2, axis=3)}, r"uint8 \[12, 64, 64, 2\].*1, 3 or 4 channels"),
        ({"images": GREY.astype(complex)}, "complex128"),
        ({"images": GREY.astype(np.int16) * 2}, "pixels from 0 to 440: give int16 pixels from 0 to 255"),
        ({"images": GREY.astype(np.int16) - 1}, "pixels from -1 to 219: "),
        ({"images": GREY.astype(np.float32)}, "pixels from 0 to 220: give float32 pixels from 0 to 1"),
        ({"images": np.full((2, 64, 64), np.nan)}, "pixels from nan to nan: "),
        ({"images": np.array("a string")}, r"has images of .* \[\]: give numbers"),
    ],
)
def test_wrong_images_are_one_sentence(path, arrays, message):
    with pytest.raises(DeftError, match=message):
        CustomImages(write(path, **arrays))


def test_pickled_images_are_never_loaded(tmp_path):
    path = write(tmp_path / "mine.npz", images=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DeftError, match="holds Python objects, which are never loaded: "):
        CustomImages(path)


def test_a_file_with_a_wrong_ending_is_one_sentence(path, tmp_path):
    with open(path, "wb") as file:
        np.save(file, GREY)
    with pytest.raises(DeftError, match="damaged, incomplete or of another format"):
        CustomImages(path)


def test_a_group_of_images_is_not_an_array(tmp_path):
    with h5py.File(tmp_path / "mine.h5", "w") as file:
        file["images/left"] = GREY
    with pytest.raises(DeftError, match=r"mine\.h5 has a group called images: store the images as one array"):
        CustomImages(tmp_path / "mine.h5")


def test_a_folder_without_images_is_one_sentence(tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(DeftError, match=rf"{tmp_path} has no images: add files that end in"):
        CustomImages(tmp_path)


@pytest.mark.parametrize("keep", [0, 10, 0.6])
@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_an_unreadable_picture_is_named(tmp_path, ending, keep):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    folder(tmp_path, {f"a.{ending}": GREY[0], f"b.{ending}": noise})
    path = tmp_path / f"b.{ending}"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(DeftError, match=rf"b\.{ending} is damaged or not an image"):
        CustomImages(tmp_path)


def test_pixels_of_32_bits_are_refused(tmp_path):
    folder(tmp_path, {"a.tif": GREY[0].astype(np.float32)})
    with pytest.raises(DeftError, match=r"a\.tif has 32 bits a pixel"):
        CustomImages(tmp_path)
