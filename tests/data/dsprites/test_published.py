"""Files written here in the published formats, over a space of 48 images."""

from __future__ import annotations

import hashlib
import time
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from deft_lightning.common.errors import DeftError
from deft_lightning.data import FactorSpace, cache, download
from deft_lightning.data.dsprites import published, renderer
from tests.data.test_cache import needs_fork, process

SPACE = FactorSpace(("shape", "scale", "orientation", "posX", "posY"), (3, 2, 2, 2, 2))
IMAGES = np.random.default_rng(0).integers(0, 2, (48, 64, 64), np.uint8)
CLASSES = np.concatenate([np.zeros((48, 1), int), SPACE.factors(torch.arange(48)).numpy()], axis=1)


VALUES = CLASSES * 0.3 + 1  # rise with the classes


def write(
    path: Path, images: np.ndarray = IMAGES, classes: np.ndarray = CLASSES, values: np.ndarray = VALUES
) -> Path:  # fmt: skip
    if path.suffix == ".npz":
        metadata = np.array({"a pickle": "never opened"}, dtype=object)
        np.savez_compressed(path, imgs=images, latents_classes=classes, latents_values=values, metadata=metadata)
    else:
        with h5py.File(path, "w") as file:
            file.create_dataset("imgs", data=images, chunks=(5, 8, 8), compression="gzip")
            file["latents/classes"] = classes
            file["latents/values"] = values
    return path


def read(path: Path) -> np.ndarray:
    return np.concatenate(list(published.read(path, SPACE, md5=None).rows))


@pytest.fixture(params=[".npz", ".hdf5"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"published{request.param}"


@pytest.mark.parametrize("block", [7, 8192])
def test_all_images_are_read_in_order(path, block, monkeypatch):
    monkeypatch.setattr(published, "_BLOCK", block)  # blocks that do and do not divide the images
    packed = read(write(path))
    assert packed.shape == (48, 512)
    assert np.array_equal(np.unpackbits(packed, axis=1).reshape(48, 64, 64), IMAGES)


@pytest.mark.parametrize("keep", [0, 10, 0.3, 0.7, 0.98])
def test_a_truncated_file_is_one_sentence(path, keep):
    whole = write(path).read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(DeftError, match=rf"{path.name} is damaged, incomplete or not dSprites: .*download it again"):
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
        (IMAGES[:47], r"images are uint8 \[47, 64, 64\] instead of uint8 \[48, 64, 64\]"),
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
        (CLASSES[:, 1:], r"latent classes are int64 \[48, 5\] instead of integers \[48, 6\]"),
        (CLASSES * 0.5, r"latent classes are float64"),
        (CLASSES[:47], r"latent classes are int64 \[47, 6\] instead of integers \[48, 6\]"),
        (CLASSES[::-1], "its images are in another order"),
        (CLASSES + np.array([1, 0, 0, 0, 0, 0]), "its images are in another order"),
    ],
)
def test_other_latents_are_refused(path, classes, message):
    with pytest.raises(DeftError, match=message):
        read(write(path, classes=classes))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (VALUES[:47], r"latent values are float64 \[47, 6\] instead of floats \[48, 6\]"),
        (CLASSES, "latent values are int64"),
        (VALUES[::-1], "do not agree with its latent classes"),
        (VALUES * [1, 1, 0, 1, 1, 1], "do not agree with its latent classes"),
        (VALUES + np.eye(48, 6), "do not agree with its latent classes"),
        (np.where(CLASSES == 1, np.nan, VALUES), "do not agree with its latent classes"),
    ],
)
def test_latent_values_that_do_not_belong_to_the_classes_are_refused(path, values, message):
    with pytest.raises(DeftError, match=rf"{message}.*download it again"):
        read(write(path, values=values))


def test_an_archive_is_known_by_the_geometry_of_its_images(tmp_path):
    """No digest of the .npz is published: images in order pass, also with a few wrong pixels; others do not."""
    block = np.concatenate([renderer.render(1, 2, 30), renderer.render(1, 2, 31)])
    start = ((1 * 6 + 2) * 40 + 30) * 1024
    published.check_geometry(block, start, tmp_path)
    published.check_geometry(block[300:], start + 300, tmp_path)
    published.check_geometry(block[:5], start, tmp_path)
    published.check_geometry(block ^ (np.arange(512) == 200).astype(np.uint8), start, tmp_path)
    for wrong in (block[::-1], np.roll(block, 1, axis=0), np.zeros_like(block), ~block):
        with pytest.raises(DeftError, match=rf"other images from number {start} on.*download it again"):
            published.check_geometry(wrong, start, tmp_path)


def test_something_else_entirely_is_refused(tmp_path):
    np.savez(tmp_path / "published.npz", pictures=IMAGES)
    with pytest.raises(DeftError, match="is damaged, incomplete or not dSprites"):
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
    assert np.array_equal(np.concatenate(list(published.read(path, SPACE, digest).rows)), read(path))
    with pytest.raises(DeftError, match=rf"md5 {digest} instead of {published.MD5}"):
        next(iter(published.read(path, SPACE).rows))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The path of a file of 48 images, on a server, which is taken for the published one."""
    path = write(tmp_path / "server.hdf5")
    whole = published.read
    monkeypatch.setattr(published, "read", lambda path, space, md5: whole(path, SPACE, md5))
    monkeypatch.setattr(published, "MD5", hashlib.md5(path.read_bytes()).hexdigest())
    return path


@pytest.fixture
def served(small: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The paths that `prepare` downloaded to, in order."""
    fetched: list[Path] = []

    def fetch(urls, path, known_hash):
        assert (urls, known_hash) == (published.URLS, f"md5:{published.MD5}")
        fetched.append(path)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(small.read_bytes())

    monkeypatch.setattr(download, "fetch", fetch)
    return fetched


def images(root: Path) -> np.ndarray:
    return np.unpackbits(published.load(root).arrays["images"], axis=1).reshape(-1, 64, 64)


def test_prepare_downloads_and_converts_once(served, tmp_path):
    root = tmp_path / "root"
    assert str(root / published.CACHE) in published.prepare(root)
    published.prepare(root)
    assert served == [root / f"{published.STEM}.hdf5"]
    assert np.array_equal(images(root), IMAGES)
    served[0].unlink()  # the converted images outlive the published file
    published.prepare(root)
    assert len(served) == 1
    assert np.array_equal(images(root), IMAGES)


@pytest.mark.parametrize("left", ["damaged", "stale", "both damaged"])
def test_prepare_never_ends_without_good_data(served, tmp_path, left, caplog):
    root = tmp_path / "root"
    published.prepare(root)
    downloaded = served.pop()
    if left == "stale":
        cache.write(root / published.CACHE, {"images": np.zeros(3)}, kind="something", version=0)
    else:
        (root / published.CACHE).write_bytes((root / published.CACHE).read_bytes()[:-100])
    if left == "both damaged":
        downloaded.write_bytes(downloaded.read_bytes()[:-100])
    else:
        downloaded.unlink()
    published.prepare(root)
    assert served == [downloaded]
    assert np.array_equal(images(root), IMAGES)
    assert "dSprites is downloaded: " in caplog.text


def test_a_replaced_published_file_is_converted_again(small, tmp_path):
    path = write(tmp_path / f"{published.STEM}.npz")
    assert np.array_equal(images(tmp_path), IMAGES)
    write(path, images=1 - IMAGES)
    assert np.array_equal(images(tmp_path), 1 - IMAGES)


@needs_fork
def test_of_two_processes_that_prepare_one_downloads_and_one_converts(small, tmp_path, monkeypatch):
    root = tmp_path / "root"
    done = tmp_path / "done"

    def note(what: str) -> None:
        with open(done, "a") as file:
            file.write(f"{what}\n")
        time.sleep(0.3)

    def retrieve(url, known_hash, name, folder, downloader):
        if not (folder / name).exists():  # as pooch does
            note("download")
            (folder / name).write_bytes(small.read_bytes())

    read_small = published.read
    monkeypatch.setattr(published, "read", lambda *arguments: note("convert") or read_small(*arguments))
    monkeypatch.setattr(download.pooch, "retrieve", retrieve)
    children = [process(published.prepare, root) for _ in range(3)]
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert sorted(done.read_text().split()) == ["convert", "download"]
    assert np.array_equal(images(root), IMAGES)
