from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from deft_lightning.common.errors import DeftError
from deft_lightning.data import cache
from deft_lightning.data.base import FactorDataset
from deft_lightning.data.dsprites import dataset as dsprites
from deft_lightning.data.dsprites import published, renderer
from deft_lightning.data.dsprites.dataset import ColorDSprites, DSprites, NoisyDSprites

RANDOM = torch.Generator().manual_seed(1)
COMBINATIONS = torch.randint(3 * 6 * 40, (20,), generator=RANDOM)  # of shape, scale and orientation
INDICES = COMBINATIONS.repeat(10) * 1024 + torch.randint(1024, (200,), generator=RANDOM)


@pytest.fixture(scope="module")
def packed() -> np.ndarray:
    """All of dSprites, of which only the images of `COMBINATIONS` are rendered."""
    images = np.zeros((len(renderer.SPACE), renderer.BYTES), np.uint8)
    for combination in COMBINATIONS.tolist():
        images[combination * 1024 :][:1024] = renderer.render(*np.unravel_index(combination, (3, 6, 40)))
    return images


@pytest.fixture(autouse=True)
def one_copy(packed: np.ndarray, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """All data sets of this file share one array of images, and find no published file."""
    monkeypatch.setattr(dsprites, "rendered", lambda root: cache.Prepared({"images": packed}, "0123456789abcdef"))
    monkeypatch.setattr(cache, "default_root", lambda: tmp_path)


def draw(dataset: FactorDataset, seed: int = 0, indices: Tensor = INDICES) -> Tensor:
    return dataset.images(indices, torch.Generator().manual_seed(seed))


def masks(packed: np.ndarray) -> Tensor:
    """The sprites, bool [200, 1, 64, 64], unpacked by numpy."""
    return torch.from_numpy(renderer.unpack(packed[INDICES.numpy()])).unsqueeze(1) > 0


def test_images_are_the_rendered_bits(packed):
    images = draw(DSprites())
    assert images.dtype == torch.float32
    assert torch.equal(images, masks(packed).float())


def test_the_description_of_the_set():
    dataset = DSprites()
    assert len(dataset) == 737_280
    assert dataset.factor_names == ("shape", "scale", "orientation", "posX", "posY")
    assert dataset.factors(torch.tensor([737_279])).tolist() == [[2, 5, 39, 31, 31]]


@pytest.mark.parametrize("build", [ColorDSprites, NoisyDSprites])
def test_colour_images_are_channels_last_and_a_function_of_the_generator(build):
    dataset = build()
    images = draw(dataset)
    assert images.shape == (200, *dataset.shape) == (200, 3, 64, 64)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images, draw(dataset))
    assert not torch.equal(images, draw(dataset, seed=1))
    assert torch.equal(images, dataset.to("cpu").images(INDICES, torch.Generator().manual_seed(0)))


def test_color_is_one_bright_colour_per_sprite_on_black(packed):
    images = draw(ColorDSprites())
    inside = masks(packed)
    colours = images.amax((2, 3))  # [200, 3]
    assert torch.equal(images, inside * colours[:, :, None, None])
    assert colours.min() >= 0.5
    # Uniform in [0.5, 1]: mean 0.75, variance 1/48, channels independent; 4 standard errors.
    assert (colours.mean(0) - 0.75).abs().max() < 4 * (1 / 48 / 200) ** 0.5
    assert (colours.var(0) - 1 / 48).abs().max() < 4 * (1 / 48) * (0.8 / 200) ** 0.5
    assert (torch.corrcoef(colours.T) - torch.eye(3)).abs().max() < 4 / 200**0.5


def test_noisy_is_white_on_uniform_noise(packed):
    images = draw(NoisyDSprites())
    inside = masks(packed).expand_as(images)
    noise = images[~inside]
    assert (images[inside] == 1).all()
    assert noise.mean() == pytest.approx(0.5, abs=0.002)
    assert noise.var() == pytest.approx(1 / 12, abs=0.001)
    assert not torch.equal(images[:, 0], images[:, 1])


def test_no_call_changes_the_stored_images(packed):
    dataset = ColorDSprites()
    before = packed[INDICES.numpy()].copy()
    draw(dataset).zero_()
    assert np.array_equal(packed[INDICES.numpy()], before)
    assert draw(dataset).max() > 0


def test_auto_takes_the_published_images_if_they_are_there_and_says_so(tmp_path):
    rendered = DSprites(tmp_path)
    assert rendered.source == rendered.provenance["source"] == "rendered"
    assert rendered.provenance["digest"] == "0123456789abcdef"
    assert "rendered by this package" in rendered.notices[0]

    images = np.arange(512 * 20, dtype=np.uint8).reshape(20, 512)
    cache.write(tmp_path / published.CACHE, {"images": images}, kind=published.KIND, version=published.VERSION)
    taken = DSprites(tmp_path)
    assert taken.source == taken.provenance["source"] == "published"
    assert "published images" in taken.notices[0]
    assert taken.provenance["digest"] == cache.digest({"images": images})[:16]
    indices = torch.arange(20)
    assert torch.equal(draw(taken, indices=indices).flatten(1) > 0, torch.from_numpy(np.unpackbits(images, 1)) > 0)
    assert DSprites(tmp_path, source="rendered").source == "rendered"


@pytest.mark.parametrize("damage", [lambda data: data[:-500], lambda data: b"", lambda data: data[:3000] + data[3001:]])
def test_damaged_converted_images_without_the_published_file(tmp_path, damage):
    """With auto they are rendered, with a reason; with published the error says what to do."""
    converted = tmp_path / published.CACHE
    cache.write(converted, {"images": np.zeros((9, 512), np.uint8)}, kind=published.KIND, version=published.VERSION)
    converted.write_bytes(damage(converted.read_bytes()))
    dataset = DSprites(tmp_path)
    assert dataset.source == "rendered"
    assert "rendered by this package" in dataset.notices[0]
    assert str(converted) in dataset.notices[1]
    assert "prepare dsprites" in dataset.notices[1]
    with pytest.raises(DeftError, match=r"cannot be used \(.*has no published dSprites file: .*prepare dsprites"):
        DSprites(tmp_path, source="published")


def test_rendered_images_are_never_taken_for_published_ones(tmp_path, packed):
    cache.write(tmp_path / published.CACHE, {"images": packed[:9]}, kind="rendered dSprites", version=1)
    with pytest.raises(DeftError, match=r"has no published dSprites file: .*prepare dsprites"):
        DSprites(tmp_path, source="published")


def test_the_error_about_a_missing_published_file_names_its_folder(tmp_path):
    with pytest.raises(DeftError, match=rf"{tmp_path} has no published dSprites file: .*https://github\.com/"):
        DSprites(tmp_path, source="published")


def test_an_unknown_source_is_refused(tmp_path):
    with pytest.raises(DeftError, match=r"data\.source is 'web': use one of auto, published, rendered"):
        DSprites(tmp_path, source="web")
