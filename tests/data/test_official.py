"""Files written here in the published formats, over a space of 48 images."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from deft_lightning.data import FactorSpace, official
from deft_lightning.errors import DeftError

SPACE = FactorSpace(("shape", "scale", "orientation", "posX", "posY"), (3, 2, 2, 2, 2))
IMAGES = np.random.default_rng(0).integers(0, 2, (48, 64, 64), np.uint8)
CLASSES = np.concatenate([np.zeros((48, 1), int), SPACE.factors(torch.arange(48)).numpy()], axis=1)


def write(path: Path, images: np.ndarray = IMAGES, classes: np.ndarray = CLASSES) -> Path:
    if path.suffix == ".npz":
        metadata = np.array({"a pickle": "never opened"}, dtype=object)
        np.savez_compressed(path, imgs=images, latents_classes=classes, latents_values=classes * 1.0, metadata=metadata)
    else:
        with h5py.File(path, "w") as file:
            file.create_dataset("imgs", data=images, chunks=(5, 8, 8), compression="gzip")
            file["latents/classes"] = classes
            file["latents/values"] = classes * 1.0
    return path


def read(path: Path) -> np.ndarray:
    return official.read(path, SPACE, md5=None)


@pytest.fixture(params=[".npz", ".hdf5"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"published{request.param}"


@pytest.mark.parametrize("block", [7, 8192])
def test_images_are_read_whole_and_in_order(path, block, monkeypatch):
    monkeypatch.setattr(official, "_BLOCK", block)  # blocks that do and do not divide the images
    packed = read(write(path))
    assert packed.shape == (48, 512)
    assert np.array_equal(np.unpackbits(packed, axis=1).reshape(48, 64, 64), IMAGES)


@pytest.mark.parametrize("keep", [0, 10, 0.3, 0.7, 0.98])
def test_a_truncated_file_is_one_sentence(path, keep):
    whole = write(path).read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(DeftError, match=r"cannot be read as dSprites: .*download it again"):
        read(path)


def test_a_changed_byte_in_an_archive_is_noticed(tmp_path):
    path = write(tmp_path / "published.npz")
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("imgs.npy").header_offset + 5000
    damaged = bytearray(path.read_bytes())
    damaged[start] ^= 0xFF
    path.write_bytes(damaged)
    with pytest.raises(DeftError):
        read(path)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES[:47], r"images are uint8 \[47, 64, 64\], and should be uint8 \[48, 64, 64\]"),
        (IMAGES[:, :32], r"images are uint8 \[48, 32, 64\]"),
        (IMAGES.astype(np.float32), r"images are float32 \[48, 64, 64\]"),
        (IMAGES * 255, "pixels other than 0 and 1"),
    ],
)
def test_other_images_are_refused(path, images, message):
    with pytest.raises(DeftError, match=message):
        read(write(path, images))


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (CLASSES[:, 1:], r"latent classes are int64 \[48, 5\], and should be integers \[48, 6\]"),
        (CLASSES * 0.5, r"latent classes are float64"),
        (CLASSES[::-1], "in another order"),
        (CLASSES + np.array([1, 0, 0, 0, 0, 0]), "in another order"),
    ],
)
def test_other_latents_are_refused(path, classes, message):
    with pytest.raises(DeftError, match=message):
        read(write(path, classes=classes))


def test_something_else_entirely_is_refused(tmp_path):
    np.savez(tmp_path / "published.npz", pictures=IMAGES)
    with pytest.raises(DeftError, match="cannot be read as dSprites"):
        read(tmp_path / "published.npz")


def test_a_pickle_is_never_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    trap = np.array([Trap()] * 48, dtype=object)
    np.savez(tmp_path / "published.npz", imgs=IMAGES, latents_classes=trap)
    with pytest.raises(DeftError):
        read(tmp_path / "published.npz")
    assert not (tmp_path / "sprung").exists()


def test_the_published_hdf5_is_known_by_its_digest(tmp_path):
    path = write(tmp_path / "published.hdf5")
    digest = hashlib.md5(path.read_bytes()).hexdigest()
    assert np.array_equal(official.read(path, SPACE, digest), read(path))
    with pytest.raises(DeftError, match=rf"md5 {digest} instead of {official.MD5}"):
        official.read(path, SPACE)
