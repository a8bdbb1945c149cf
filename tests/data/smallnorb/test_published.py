"""SmallNORB files: converted, checked and downloaded."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import time

import numpy as np
import pytest
from PIL import Image

from deft_lightning.common.errors import DeftError
from deft_lightning.data import download, registry
from deft_lightning.data.smallnorb import published
from deft_lightning.data.smallnorb.published import CHUNKS
from tests.data.smallnorb.files import INSTANCES, SPACE, Small, chunk, pixels, write
from tests.data.test_cache import needs_fork, process


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("block", [7, 256])
def test_left_images_come_in_the_order_of_the_factors(tmp_path, packed, block, monkeypatch):
    monkeypatch.setattr(published, "_BLOCK", block)  # blocks that do and do not divide the images
    write(tmp_path / "smallnorb", packed)
    dataset = Small(tmp_path)
    assert dataset.source == "published"
    assert len(dataset) == 96
    assert np.array_equal(pixels(dataset), np.broadcast_to(np.arange(96)[:, None, None, None], (96, 1, 64, 64)))


def test_images_are_scaled_without_aliasing(root):
    """Stripes too fine for 64 pixels become grey; a coarse ramp keeps its values."""
    chunks = [list(chunk(instances)) for instances in INSTANCES]
    for parts in chunks:
        parts[0][:, :, :, ::2], parts[0][:, :, :, 1::2] = 100, 200
        parts[0][:, :, 48:] = np.arange(96) * 2
    write(root / "smallnorb", chunks=chunks)
    image = pixels(Small(root))[0, 0]
    assert np.abs(image[5:25, 4:-4] - 150).max() <= 8  # nearest or bilinear would swing between 100 and 200
    ramp = ((np.arange(64) + 0.5) * 1.5 - 0.5) * 2
    assert np.abs(image[40:, 4:-4] - ramp[4:-4]).max() <= 1
    assert np.array_equal(image, Image.fromarray(chunks[0][0][0, 0]).resize((64, 64), Image.Resampling.LANCZOS))


def test_replaced_files_are_converted_again(root):
    first = pixels(Small(root, path=root / "smallnorb"))
    assert np.array_equal(pixels(Small(root)), first)
    other = [list(chunk(instances)) for instances in INSTANCES]
    for parts in other:
        parts[0][:] = 255 - parts[0]
    write(root / "smallnorb", chunks=other)
    assert np.array_equal(pixels(Small(root, path=root / "smallnorb")), 255 - first)
    assert np.array_equal(pixels(Small(root)), 255 - first)


def test_a_packed_file_is_known_by_its_digest(tmp_path, monkeypatch):
    folder = write(tmp_path / "smallnorb", packed=True)
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    monkeypatch.setattr(published, "SHA256", digests)
    assert len(Small(tmp_path)) == 96
    other = folder / f"{CHUNKS[0]}-dat.mat.gz"
    other.write_bytes(gzip.compress(gzip.decompress(other.read_bytes()), 9))
    with pytest.raises(DeftError, match=r"dat\.mat\.gz is not the published file \(sha256 .* instead of .*unpack it"):
        Small(tmp_path)
    (folder / f"{CHUNKS[0]}-dat.mat").write_bytes(gzip.decompress(other.read_bytes()))
    assert len(Small(tmp_path)) == 96  # unpacked, only its contents are checked


@pytest.mark.parametrize("part", ["dat", "cat", "info"])
def test_a_missing_part_is_named(root, part):
    (root / "smallnorb" / f"{CHUNKS[1]}-{part}.mat").unlink()
    with pytest.raises(DeftError, match=rf"smallnorb lacks {CHUNKS[1]}-{part}\.mat\[\.gz\] of SmallNORB: "):
        Small(root)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("part", ["dat", "cat", "info"])
@pytest.mark.parametrize("keep", [0, 1, 10, 0.5, 0.999])
def test_a_truncated_file_is_one_sentence(tmp_path, packed, part, keep):
    folder = write(tmp_path / "smallnorb", packed)
    path = next(folder.glob(f"{CHUNKS[1]}-{part}.*"))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(DeftError, match=rf"{path.name} (is incomplete|cannot be unpacked): .*download it again"):
        Small(tmp_path)
    assert not list(tmp_path.glob("*.h5"))


def test_a_changed_byte_in_a_packed_file_is_noticed(tmp_path):
    path = write(tmp_path / "smallnorb", packed=True) / f"{CHUNKS[0]}-dat.mat.gz"
    data = bytearray(path.read_bytes())
    data[-6] ^= 1  # in the checksum at the end
    path.write_bytes(data)
    with pytest.raises(DeftError, match="cannot be unpacked"):
        Small(tmp_path)


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        (0, lambda v: v[:, :, ::2], r"holds uint8 \[48, 2, 48, 96\] instead of uint8 \[48, 2, 96, 96\]"),
        (0, lambda v: v[:, 0], r"holds uint8 \[48, 96, 96\]"),
        (0, lambda v: v[:-1], r"holds uint8 \[47, 2, 96, 96\]"),
        (0, lambda v: v.astype("<i4"), "holds int32"),
        (1, lambda v: v.astype("u1"), r"holds uint8 \[48\] instead of int32 \[any\]"),
        (1, lambda v: v + 1, "category is 1 to 2 instead of 0 to 1"),
        (1, lambda v: v[:-1], r"info\.mat .*holds int32 \[48, 4\] instead of int32 \[47, 4\]"),
        (2, lambda v: v[:-1], r"holds int32 \[47, 4\]"),
        (2, lambda v: v[:, :3], r"holds int32 \[48, 3\]"),
        (2, lambda v: v - np.array([0, 1, 0, 0], "<i4"), "elevation is -1 to 0 instead of 0 to 1"),
        (2, lambda v: v // np.array([1, 1, 2, 1], "<i4"), "odd azimuths"),
    ],
)
def test_wrong_contents_are_one_sentence(root, part, change, message):
    chunks = [list(chunk(instances)) for instances in INSTANCES]
    chunks[0][part] = np.ascontiguousarray(change(chunks[0][part]))
    write(root / "smallnorb", chunks=chunks)
    with pytest.raises(DeftError, match=message):
        Small(root)


def test_a_combination_that_is_missing_or_repeated_is_named(root):
    chunks = [chunk(INSTANCES[0])] * 2
    write(root / "smallnorb", chunks=chunks)
    with pytest.raises(DeftError, match=r"has 0 images of category 0, instance 0, elevation 0, azimuth 0, lighting 0"):
        Small(root)


def test_prepare_asks_for_the_missing_files_with_their_published_digests(tmp_path, monkeypatch, published_digests):
    asked = []
    write(tmp_path / "server", packed=True)
    served = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (tmp_path / "server").iterdir()}
    assert served.keys() == published_digests.keys()
    monkeypatch.setattr(published, "SHA256", served)

    def fetch(urls, path, known_hash):
        asked.append(path.name)
        assert urls == (f"https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/{path.name}",)
        assert known_hash == f"sha256:{published.SHA256[path.name]}"
        for source in (tmp_path / "server").glob(path.name):
            path.write_bytes(source.read_bytes())

    monkeypatch.setattr(download, "fetch", fetch)
    folder = tmp_path / "smallnorb"
    folder.mkdir()
    name = f"{CHUNKS[0]}-dat.mat"
    (folder / name).write_bytes(gzip.decompress((tmp_path / "server" / f"{name}.gz").read_bytes()))
    assert str(tmp_path) in published.prepare(tmp_path, SPACE)
    assert len(asked) == 5  # not the one that was there
    assert f"{name}.gz" not in asked
    assert np.array_equal(pixels(Small(tmp_path))[:, 0, 0, 0], np.arange(96))

    # Both the converted images and a file are damaged: packed files are downloaded again, the plain one is kept.
    (tmp_path / "smallnorb_published.h5").write_bytes(b"damaged")
    (folder / f"{CHUNKS[1]}-cat.mat.gz").write_bytes(b"damaged")
    published.prepare(tmp_path, SPACE)
    assert len(asked) == 10
    assert np.array_equal(pixels(Small(tmp_path))[:, 0, 0, 0], np.arange(96))


@needs_fork
def test_of_two_processes_that_prepare_one_downloads_and_one_converts(tmp_path, monkeypatch):
    server, done = write(tmp_path / "server", packed=True), tmp_path / "done"
    monkeypatch.setattr(published, "SHA256", {path.name: "" for path in server.iterdir()})

    def note(what: str) -> None:
        with open(done, "a") as file:
            file.write(f"{what}\n")
        time.sleep(0.1)

    def retrieve(url, known_hash, name, folder, downloader):
        if not (folder / name).exists():  # as pooch does
            note("download")
            shutil.copy(server / name, folder / name)

    monkeypatch.setattr(download.pooch, "retrieve", retrieve)
    monkeypatch.setattr(published, "read", lambda files, space: note("convert") or np.ones((96, 64, 64), np.uint8))
    children = [process(published.prepare, tmp_path / "root", SPACE) for _ in range(3)]
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert sorted(done.read_text().split()) == ["convert"] + ["download"] * 6


def test_without_a_network_the_sentence_has_the_address_and_the_place(tmp_path, monkeypatch, published_digests):
    monkeypatch.setattr(published, "URL", "http://127.0.0.1:9/norb/")  # nothing listens there
    monkeypatch.setattr(published, "SHA256", published_digests)
    place = tmp_path / "smallnorb" / f"{CHUNKS[0]}-dat.mat.gz"
    with pytest.raises(DeftError, match=rf"fetch http://127.0.0.1:9/norb/{place.name} by hand and save it as {place}"):
        registry.prepare("smallnorb", tmp_path)
