"""A file written here in the published format of 3D Shapes, over a space of 96 images."""

from __future__ import annotations

import hashlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from deft_lightning.common.errors import DeftError
from deft_lightning.data import FactorSpace, Shapes3D, __main__, cache, download, registry, shapes3d

SPACE = FactorSpace(shapes3d.SPACE.names, (2, 2, 2, 3, 2, 2))
IMAGES = np.random.default_rng(0).integers(0, 256, (96, 64, 64, 3), np.uint8)
FACTORS = SPACE.factors(torch.arange(96)).numpy()
LABELS = FACTORS * [0.1, 0.1, 0.1, 0.07, 1, 4.3] + [0, 0, 0, 0.75, 0, -30]  # ranges as in the published file


def write(path: Path, images: np.ndarray = IMAGES, labels: np.ndarray = LABELS) -> Path:
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=images, chunks=(15, 8, 8, 1), compression="gzip")
        file["labels"] = labels
    return path


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder, in which every file of 96 images is taken for the published one."""
    monkeypatch.setattr(Shapes3D, "space", SPACE)
    monkeypatch.setattr(shapes3d, "MD5", None)
    return tmp_path / "root"


def test_the_published_grid():
    assert len(Shapes3D.space) == 480_000
    assert dict(zip(Shapes3D.space.factor_names, Shapes3D.space.factor_sizes, strict=True)) == {
        "floor_hue": 10,
        "wall_hue": 10,
        "object_hue": 10,
        "scale": 8,
        "shape": 4,
        "orientation": 15,
    }


@pytest.mark.parametrize("block", [1, 40, 8192])  # blocks of one chunk, of some, and of the whole file
def test_images_and_factors_are_those_of_the_file(root, block, monkeypatch):
    monkeypatch.setattr(shapes3d, "_BLOCK", block)
    write(root / "3dshapes.h5")
    dataset = Shapes3D(root)
    indices = torch.tensor([95, 0, 17])
    images = dataset.images(indices, torch.Generator())
    assert torch.equal(images, torch.from_numpy(IMAGES[indices].transpose(0, 3, 1, 2)).float() / 255)
    assert np.array_equal(dataset.factors(indices).numpy(), FACTORS[indices])
    assert (len(dataset), dataset.shape, dataset.source) == (96, (3, 64, 64), "published")
    assert dataset.digest == cache.digest({"images": IMAGES})[:16]


def test_a_file_without_chunks_is_read_too(root):
    root.mkdir()
    with h5py.File(root / "3dshapes.h5", "w") as file:
        file["images"], file["labels"] = IMAGES, LABELS
    assert np.array_equal(shapes3d.load(root, SPACE).arrays["images"], IMAGES)


def test_the_published_file_may_be_deleted_once_it_is_unpacked(root):
    path = write(root / "3dshapes.h5")
    first = Shapes3D(root)
    path.unlink()
    assert Shapes3D(root).digest == first.digest


def test_without_the_file_the_address_is_named(tmp_path):
    sentence = (
        f"{tmp_path} has no 3dshapes.h5 of 3D Shapes: run `python -m deft_lightning.data prepare shapes3d`, or save "
        "https://storage.googleapis.com/3d-shapes/3dshapes.h5 there by hand."
    )
    with pytest.raises(DeftError) as caught:
        registry.load("shapes3d", root=tmp_path)
    assert str(caught.value) == sentence


@pytest.mark.parametrize("keep", [0, 10, 0.3, 0.7, 0.98])
def test_a_truncated_file_is_one_sentence(root, keep):
    path = write(root / "3dshapes.h5")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(DeftError, match=r"3dshapes\.h5 is damaged, incomplete or not 3D Shapes: .*download it again"):
        Shapes3D(root)
    assert not (root / shapes3d.CACHE).exists()


def test_damaged_pixels_are_one_sentence(root):
    path = write(root / "3dshapes.h5")
    with h5py.File(path) as file:
        chunk = file["images"].id.get_chunk_info(3)
    damaged = bytearray(path.read_bytes())
    damaged[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    path.write_bytes(damaged)
    with pytest.raises(DeftError, match=r"3dshapes\.h5 is damaged, incomplete or not 3D Shapes"):
        Shapes3D(root)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES[:95], LABELS, r"images are uint8 \[95, 64, 64, 3\] instead of uint8 \[96, 64, 64, 3\]"),
        (IMAGES[:, :, :, :1], LABELS, r"images are uint8 \[96, 64, 64, 1\]"),
        (IMAGES.astype(np.float32), LABELS, r"images are float32 \[96, 64, 64, 3\]"),
        (IMAGES, LABELS[:, :5], r"labels are float64 \[96, 5\] instead of floats \[96, 6\]"),
        (IMAGES, FACTORS, r"labels are int64 \[96, 6\] instead of floats"),
        (IMAGES, LABELS[::-1], "its images are in another order"),
        (IMAGES, LABELS[:, [1, 0, 2, 3, 4, 5]], "its images are in another order"),
        (IMAGES, LABELS * [1, 1, 0, 1, 1, 1], "its images are in another order"),
        (IMAGES, LABELS + np.eye(96, 6), "its images are in another order"),
        (IMAGES, np.where(LABELS == 1, np.nan, LABELS), "its images are in another order"),
    ],
)
def test_other_contents_are_refused(root, images, labels, message):
    path = root / "3dshapes.h5"
    path.parent.mkdir()
    with h5py.File(path, "w") as file:
        file["images"], file["labels"] = images, labels
    with pytest.raises(DeftError, match=rf"{message}.*download it again"):
        Shapes3D(root)


def test_a_file_of_something_else_is_refused(root):
    root.mkdir()
    with h5py.File(root / "3dshapes.h5", "w") as file:
        file["imgs"] = IMAGES
    with pytest.raises(DeftError, match=r"3dshapes\.h5 is damaged, incomplete or not 3D Shapes"):
        Shapes3D(root)


def test_a_file_with_another_digest_is_refused(tmp_path):
    path = write(tmp_path / "3dshapes.h5")
    digest = hashlib.md5(path.read_bytes()).hexdigest()
    with pytest.raises(DeftError, match=rf"not the published file \(md5 {digest} instead of {shapes3d.MD5}\)"):
        Shapes3D(tmp_path)


def test_prepare_downloads_what_is_missing_or_damaged_and_nothing_else(root, tmp_path, monkeypatch, capsys):
    good = write(tmp_path / "server" / "3dshapes.h5").read_bytes()
    monkeypatch.setattr(shapes3d, "MD5", hashlib.md5(good).hexdigest())
    fetched = []

    def fetch(urls, path, known_hash):
        assert (urls, known_hash) == ((shapes3d.URL,), f"md5:{shapes3d.MD5}")
        fetched.append(path)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(good)

    monkeypatch.setattr(download, "fetch", fetch)
    monkeypatch.setitem(registry.DOWNLOADS, "shapes3d", lambda root: shapes3d.prepare(root, SPACE))
    command = ["prepare", "shapes3d", "--root", str(root)]
    assert __main__.main(command) == __main__.main(command) == 0
    assert fetched == [root / "3dshapes.h5"]
    assert capsys.readouterr().out.count(f"The published images of 3D Shapes are ready in {root}/shapes3d.h5.") == 2
    fetched[0].write_bytes(good[:-100])
    assert __main__.main(command) == 0
    assert len(fetched) == 2
    assert np.array_equal(shapes3d.load(root, SPACE).arrays["images"], IMAGES)
