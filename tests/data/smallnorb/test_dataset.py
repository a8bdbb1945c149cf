"""Which images SmallNORB takes: from its folder, from the user's folder, converted before, or rendered."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from deft_lightning.common.errors import DeftError
from deft_lightning.data import SmallNORB
from tests.data.smallnorb.files import INSTANCES, RANDOM, Small, chunk, pixels, write


def test_images_are_float_in_zero_to_one(root):
    chunks = [list(chunk(instances)) for instances in INSTANCES]
    for parts in chunks:
        parts[0][:] = 255
    write(root / "smallnorb", chunks=chunks)
    images = Small(root).images(torch.tensor([5, 0, 5]), RANDOM)
    assert images.shape == (3, 1, 64, 64)
    assert images.dtype == torch.float32
    assert bool((images == 1).all())


def test_the_instance_is_a_nuisance():
    assert len(SmallNORB.space) == 48600
    assert SmallNORB.space.factor_names == ("category", "elevation", "azimuth", "lighting")
    assert SmallNORB.space.factor_sizes == (5, 9, 18, 6)


def test_the_files_may_be_deleted_after_the_conversion(root):
    first = pixels(Small(root))
    for path in (root / "smallnorb").iterdir():
        path.unlink()
    dataset = Small(root)
    assert dataset.source == "published"
    assert np.array_equal(pixels(dataset), first)


def test_published_and_rendered_are_never_confused(root):
    published, rendered = Small(root), Small(root, source="rendered")
    assert (published.source, rendered.source) == ("published", "rendered")
    assert published.provenance["source"] == "published"
    assert len({published.provenance["digest"], rendered.provenance["digest"], ""}) == 3
    assert "published images" in published.notices[0]
    assert "rendered by this package" in rendered.notices[0]
    assert not np.array_equal(pixels(published), pixels(rendered))
    again = Small(root), Small(root, source="rendered")  # now from the cache
    assert np.array_equal(pixels(again[0]), pixels(published))
    assert np.array_equal(pixels(again[1]), pixels(rendered))


@pytest.mark.parametrize("damage", [lambda data: data[:-500], lambda data: b""])
def test_damaged_converted_images_without_the_files(root, damage):
    """With auto they are rendered, with a reason; with published the error says what to do."""
    Small(root)
    shutil.rmtree(root / "smallnorb")
    converted = root / "smallnorb_published.h5"
    converted.write_bytes(damage(converted.read_bytes()))
    dataset = Small(root)
    assert dataset.source == "rendered"
    assert "rendered by this package" in dataset.notices[0]
    assert str(converted) in dataset.notices[1]
    with pytest.raises(DeftError, match=r"cannot be used \(.*lacks .*prepare smallnorb"):
        Small(root, source="published")


def test_an_empty_folder_is_no_data(tmp_path):
    (tmp_path / "smallnorb").mkdir()
    assert Small(tmp_path).source == "rendered"
    for options in ({"source": "published"}, {"path": tmp_path / "smallnorb"}):
        with pytest.raises(DeftError, match=rf"^{tmp_path}/smallnorb lacks .* 5 other files of .*: run .*by hand"):
            Small(tmp_path, **options)


def test_without_files_auto_renders_and_the_error_of_published_says_what_to_do(tmp_path):
    assert Small(tmp_path).source == "rendered"
    with pytest.raises(DeftError, match=r"lacks .*training-dat\.mat\[\.gz\] and 5 other files .*by hand"):
        Small(tmp_path, source="published")


def test_files_may_be_in_a_folder_of_the_users(tmp_path, root):
    other = [list(chunk(instances)) for instances in INSTANCES]
    for parts in other:
        parts[0][:] = 255 - parts[0]
    folder = write(tmp_path / "elsewhere", chunks=other)
    assert np.array_equal(pixels(Small(root, path=folder)), 255 - pixels(Small(root)))
    with pytest.raises(DeftError, match=r"data\.path is .*elsewhere, but data\.source=rendered reads no files"):
        Small(root, source="rendered", path=folder)
    with pytest.raises(DeftError, match="nowhere lacks"):
        Small(root, path=tmp_path / "nowhere")


def test_an_unknown_source_is_one_sentence(tmp_path):
    with pytest.raises(DeftError, match=r"data\.source is 'offical': use one of auto, published, rendered"):
        Small(tmp_path, source="offical")
