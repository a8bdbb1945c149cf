from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from deft_lightning.common.errors import DeftError
from deft_lightning.data import cache
from deft_lightning.data.dsprites import dataset as dsprites
from deft_lightning.data.dsprites import renderer, scream
from deft_lightning.data.dsprites.scream import ScreamDSprites, colour_bands, read_picture

PAINTING = Path(__file__).resolve().parents[3].parent / "shared" / "scream" / "scream.jpg"
INDICES = torch.arange(0, 1024, 16)


@pytest.fixture(autouse=True)
def few_sprites(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dsprites, "rendered", lambda root: cache.Prepared({"images": renderer.render(2, 5, 3)}, "d"))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """80 x 70 pixels; colours grow evenly, so that any two crops differ by one constant colour."""
    y, x = np.mgrid[:70, :80]
    path = tmp_path / "picture.png"
    Image.fromarray(np.stack([x * 3, y * 3, 255 - x - y], axis=2).astype(np.uint8)).save(path)
    return path


def masks() -> Tensor:
    """The sprites of INDICES, bool [64, 64, 64]."""
    return torch.from_numpy(renderer.unpack(renderer.render(2, 5, 3)[INDICES.numpy()])).bool()


def test_images_are_the_average_of_a_crop_and_one_colour_inverted_on_the_sprite(tmp_path, picture):
    dataset = ScreamDSprites(tmp_path, "rendered", picture)
    images = dataset.images(INDICES, torch.Generator().manual_seed(0))
    assert images.shape == (64, 3, 64, 64)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert ((images >= 0) & (images <= 1)).all()
    background = torch.where(masks().unsqueeze(1), 1 - images, images)
    crop = torch.from_numpy(read_picture(picture)[:64, :64] / np.float32(255)).permute(2, 0, 1)
    colours = 2 * background - crop  # [64, 3, 64, 64]: one colour over each image
    assert colours.std((2, 3)).max() < 1e-5
    assert colours.mean((2, 3)).std(0).min() > 0.2  # and another one on every image


def test_every_crop_of_the_picture_is_drawn_and_no_other(tmp_path):
    # Black with one white pixel, whose place in the image gives the place of the crop.
    array = np.zeros((66, 67, 3), np.uint8)
    array[40, 30] = 255
    Image.fromarray(array).save(tmp_path / "dot.png")
    dataset = ScreamDSprites(tmp_path, "rendered", tmp_path / "dot.png")
    generator = torch.Generator().manual_seed(0)
    seen = set()
    for _ in range(10):
        images = dataset.images(INDICES, generator)
        flat = (images - images[:, :, :1, :1]).abs().sum(1)  # the corner is background without the white pixel
        for difference, mask in zip(flat, masks(), strict=True):
            places = (difference * ~mask > 0.5).nonzero().tolist()
            seen |= {(40 - row, 30 - column) for row, column in places}
    assert seen == {(top, left) for top in range(3) for left in range(4)}


def test_colours_are_uniform_and_drawn_for_every_image(tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "black.png")
    dataset = ScreamDSprites(tmp_path, "rendered", tmp_path / "black.png")
    generator = torch.Generator().manual_seed(0)
    colours = 2 * torch.cat([dataset.images(INDICES, generator)[:, :, 0, 0] for _ in range(20)])  # [1280, 3]
    assert (colours.mean(0) - 0.5).abs().max() < 4 * (1 / 12 / 1280) ** 0.5
    assert colours.min() < 0.01
    assert colours.max() > 0.99


def test_the_sprite_inverts_its_background(tmp_path):
    Image.new("RGB", (64, 64), (255, 0, 51)).save(tmp_path / "flat.png")
    dataset = ScreamDSprites(tmp_path, "rendered", tmp_path / "flat.png")
    images = dataset.images(INDICES, torch.Generator().manual_seed(0))
    for image, mask in zip(images, masks(), strict=True):
        inside, outside = image[:, mask].unique(dim=1), image[:, ~mask].unique(dim=1)
        assert inside.shape == outside.shape == (3, 1)
        assert torch.allclose(inside, 1 - outside)


@pytest.mark.parametrize(
    ("size", "fitted"), [((1200, 1528), (215, 274)), ((1000, 500), (350, 175)), ((90, 80), (90, 80))]
)
def test_a_picture_is_scaled_to_fit_with_its_aspect(tmp_path, size, fitted):
    Image.new("L", size).save(tmp_path / "picture.png")  # grey becomes colour
    assert read_picture(tmp_path / "picture.png").shape == (fitted[1], fitted[0], 3)


@pytest.mark.skipif(not PAINTING.exists(), reason="the painting is not part of the project")
def test_the_painting_is_scaled_as_the_reference_implementation_does(tmp_path):
    with Image.open(PAINTING) as painting:
        painting.thumbnail((350, 274))
        expected = np.array(painting)
    (tmp_path / scream.FILE).symlink_to(PAINTING)
    dataset = ScreamDSprites(tmp_path)
    assert dataset.provenance["background"] == "painting"
    assert len(dataset.notices) == 1
    assert np.array_equal((dataset._half * 510).round().byte().numpy(), expected)


def test_without_a_picture_generated_bands_are_used_and_it_is_said(tmp_path, picture):
    dataset = ScreamDSprites(tmp_path)
    assert {**dataset.provenance, "background_digest": ""} == {
        "source": "rendered", "digest": "d", "background": "generated", "background_digest": "",
    }  # fmt: skip
    assert "Generated colour bands replace The Scream" in dataset.notices[1]
    chosen = ScreamDSprites(tmp_path, scream_image=picture)
    assert chosen.provenance["background"] == "file"
    assert len(chosen.notices) == 1


def test_two_pictures_are_never_confused(tmp_path, picture):
    Image.open(picture).point(lambda value: value ^ 1).save(tmp_path / "other.png")
    copy = Path(shutil.copy(picture, tmp_path / "copy.png"))
    digests = [
        ScreamDSprites(tmp_path, "rendered", path).provenance["background_digest"]
        for path in (picture, copy, tmp_path / "other.png", None)
    ]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


@pytest.mark.parametrize("size", [(1528, 1200), (1000, 1000), (900, 1200), (160, 200)])
def test_a_picture_of_another_shape_is_not_taken_for_the_painting(tmp_path, size):
    Image.new("RGB", size).save(tmp_path / scream.FILE)
    with pytest.raises(DeftError, match=r"scream\.jpg is not The Scream \(.*prepare scream.*data\.scream_image="):
        ScreamDSprites(tmp_path)
    assert ScreamDSprites(tmp_path, scream_image=tmp_path / scream.FILE).provenance["background"] == "file"


def test_the_generated_bands_have_the_paintings_size_and_many_colours():
    bands = colour_bands()
    assert bands.shape == (274, 217, 3)
    assert np.array_equal(bands, colour_bands())
    patches = [bands[y : y + 64, x : x + 64] for y in (0, 100, 210) for x in (0, 80, 150)]
    assert min(patch.std() for patch in patches) > 20  # no crop is plain


def test_pictures_that_cannot_be_used_are_one_sentence(tmp_path):
    with pytest.raises(DeftError, match=r"none\.png is missing: .*data\.scream_image"):
        ScreamDSprites(tmp_path, scream_image=tmp_path / "none.png")
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(DeftError, match=r"text\.png is damaged or not a picture"):
        ScreamDSprites(tmp_path, scream_image=tmp_path / "text.png")
    Image.effect_noise((300, 300), 50).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:5000])
    with pytest.raises(DeftError, match=r"cut\.png is damaged or not a picture"):
        ScreamDSprites(tmp_path, scream_image=tmp_path / "cut.png")
    Image.new("RGB", (1000, 90)).save(tmp_path / "narrow.png")
    with pytest.raises(DeftError, match=r"350 x 3\d when scaled to fit into 350 x 274, and crops are 64 x 64"):
        ScreamDSprites(tmp_path, scream_image=tmp_path / "narrow.png")
