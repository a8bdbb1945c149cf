"""Files written here in the published binary format, over a space of 96 images."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import struct
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deft_lightning.common.errors import DeftError
from deft_lightning.data import FactorSpace, download, registry
from deft_lightning.data.smallnorb import dataset as smallnorb
from deft_lightning.data.smallnorb import published_format
from deft_lightning.data.smallnorb.dataset import CHUNKS, SmallNORB
from tests.data.test_cache import needs_fork, process

SPACE = FactorSpace(smallnorb.SPACE.names, (2, 4, 2, 3, 2), nuisance=("instance",))
INSTANCES = ((2, 3), (0, 1))  # of the two chunks: as in the published files, neither comes first
MAGIC = {np.dtype("u1"): 0x1E3D4C55, np.dtype("<i4"): 0x1E3D4C54}
RANDOM = torch.Generator()


class Small(SmallNORB):
    """SmallNORB of 96 images: the same readers, less to write."""

    space = SPACE


def matrix(values: np.ndarray) -> bytes:
    """The published format, written from its description."""
    sizes = [*values.shape, 1, 1][: max(3, values.ndim)]
    head = struct.pack(f"<Ii{len(sizes)}i", MAGIC[values.dtype], values.ndim, *sizes)
    return head + values.tobytes()


def chunk(instances: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dat, cat and info of the images with these instances, shuffled; pixels tell their own factors."""
    factors = np.stack(np.unravel_index(np.arange(len(SPACE)), SPACE.sizes), axis=1)
    factors = factors[np.isin(factors[:, 1], instances)]
    factors = np.random.default_rng(instances[0]).permutation(factors)
    index = np.ravel_multi_index(factors.T, SPACE.sizes)
    pixels = np.empty((len(index), 2, 96, 96), np.uint8)
    pixels[:, 0] = index[:, None, None]  # the left camera sees the index
    pixels[:, 1] = 255 - index[:, None, None]
    return pixels, factors[:, 0].astype("<i4"), (factors[:, 1:] * (1, 1, 2, 1)).astype("<i4")


def write(folder: Path, packed: bool = False, chunks: list | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, parts in zip(CHUNKS, chunks or [chunk(instances) for instances in INSTANCES], strict=True):
        for part, values in zip(("dat", "cat", "info"), parts, strict=True):
            data = matrix(values)
            path = folder / f"{name}-{part}.mat{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(data, 1) if packed else data)
    return folder


@pytest.fixture(autouse=True)
def unknown_digests(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The published digests, which no file written here can have and which are not compared."""
    published = smallnorb.SHA256
    monkeypatch.setattr(smallnorb, "SHA256", {})
    return published


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path / "smallnorb")
    return tmp_path


def pixels(dataset: SmallNORB) -> np.ndarray:
    return dataset.images(torch.arange(len(dataset)), RANDOM).mul(255).round().numpy()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("block", [7, 256])
def test_left_images_come_in_the_order_of_the_factors(tmp_path, packed, block, monkeypatch):
    monkeypatch.setattr(smallnorb, "_BLOCK", block)  # blocks that do and do not divide the images
    write(tmp_path / "smallnorb", packed)
    dataset = Small(tmp_path)
    assert dataset.source == "official"
    assert len(dataset) == 96
    assert np.array_equal(pixels(dataset), np.broadcast_to(np.arange(96)[:, None, None, None], (96, 1, 64, 64)))


def test_images_are_float_in_zero_to_one(root):
    chunks = [list(chunk(instances)) for instances in INSTANCES]
    for parts in chunks:
        parts[0][:] = 255
    write(root / "smallnorb", chunks=chunks)
    images = Small(root).images(torch.tensor([5, 0, 5]), RANDOM)
    assert images.shape == (3, 1, 64, 64)
    assert images.dtype == torch.float32
    assert bool((images == 1).all())


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


def test_the_instance_is_a_nuisance():
    assert len(smallnorb.SPACE) == 48600
    assert smallnorb.SPACE.factor_names == ("category", "elevation", "azimuth", "lighting")
    assert smallnorb.SPACE.factor_sizes == (5, 9, 18, 6)


def test_the_converted_set_outlives_the_files(root):
    first = pixels(Small(root))
    for path in (root / "smallnorb").iterdir():
        path.unlink()
    dataset = Small(root)
    assert dataset.source == "official"
    assert np.array_equal(pixels(dataset), first)


def test_official_and_rendered_are_never_confused(root):
    official, rendered = Small(root), Small(root, source="rendered")
    assert (official.source, rendered.source) == ("official", "rendered")
    assert official.provenance["source"] == "official"
    assert len({official.provenance["digest"], rendered.provenance["digest"], ""}) == 3
    assert "official images" in official.notices[0]
    assert "stand-in" in rendered.notices[0]
    assert not np.array_equal(pixels(official), pixels(rendered))
    again = Small(root), Small(root, source="rendered")  # now from the cache
    assert np.array_equal(pixels(again[0]), pixels(official))
    assert np.array_equal(pixels(again[1]), pixels(rendered))


@pytest.mark.parametrize("damage", [lambda data: data[:-500], lambda data: b""])
def test_a_damaged_conversion_without_the_files_is_not_the_end(root, damage):
    """auto renders and says why; official says what to do."""
    Small(root)
    shutil.rmtree(root / "smallnorb")
    converted = root / "smallnorb_official.h5"
    converted.write_bytes(damage(converted.read_bytes()))
    dataset = Small(root)
    assert dataset.source == "rendered"
    assert "stand-in" in dataset.notices[0]
    assert str(converted) in dataset.notices[1]
    with pytest.raises(DeftError, match=r"cannot be used \(.*lacks .*prepare smallnorb"):
        Small(root, source="official")


def test_replaced_files_are_converted_anew(root):
    first = pixels(Small(root, path=root / "smallnorb"))
    assert np.array_equal(pixels(Small(root)), first)
    other = [list(chunk(instances)) for instances in INSTANCES]
    for parts in other:
        parts[0][:] = 255 - parts[0]
    write(root / "smallnorb", chunks=other)
    assert np.array_equal(pixels(Small(root, path=root / "smallnorb")), 255 - first)
    assert np.array_equal(pixels(Small(root)), 255 - first)


def test_an_empty_folder_is_no_data(tmp_path):
    (tmp_path / "smallnorb").mkdir()
    assert Small(tmp_path).source == "rendered"
    for options in ({"source": "official"}, {"path": tmp_path / "smallnorb"}):
        with pytest.raises(DeftError, match=rf"lacks .* 5 other files in {tmp_path}/smallnorb: run .*by hand"):
            Small(tmp_path, **options)


def test_a_packed_file_is_known_by_its_digest(tmp_path, monkeypatch):
    folder = write(tmp_path / "smallnorb", packed=True)
    known = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    monkeypatch.setattr(smallnorb, "SHA256", known)
    assert len(Small(tmp_path)) == 96
    other = folder / f"{CHUNKS[0]}-dat.mat.gz"
    other.write_bytes(gzip.compress(gzip.decompress(other.read_bytes()), 9))
    with pytest.raises(DeftError, match=r"dat\.mat\.gz is not the published file \(sha256 .* instead of .*unpack it"):
        Small(tmp_path)
    (folder / f"{CHUNKS[0]}-dat.mat").write_bytes(gzip.decompress(other.read_bytes()))
    assert len(Small(tmp_path)) == 96  # unpacked, it is judged by its contents


def test_without_files_auto_is_the_stand_in_and_official_says_what_to_do(tmp_path):
    assert Small(tmp_path).source == "rendered"
    with pytest.raises(DeftError, match=r"lacks .*training-dat\.mat\[\.gz\] and 5 other files .*by hand"):
        Small(tmp_path, source="official")


def test_files_may_be_in_a_folder_of_the_users(tmp_path, root):
    other = [list(chunk(instances)) for instances in INSTANCES]
    for parts in other:
        parts[0][:] = 255 - parts[0]
    folder = write(tmp_path / "elsewhere", chunks=other)
    assert np.array_equal(pixels(Small(root, path=folder)), 255 - pixels(Small(root)))
    with pytest.raises(DeftError, match=r"data\.path"):
        Small(root, source="rendered", path=folder)
    with pytest.raises(DeftError, match="lacks"):
        Small(root, path=tmp_path / "nowhere")


def test_an_unknown_source_is_one_sentence(tmp_path):
    with pytest.raises(DeftError, match=r"data\.source is 'offical'"):
        Small(tmp_path, source="offical")


@pytest.mark.parametrize("part", ["dat", "cat", "info"])
def test_a_missing_part_is_named(root, part):
    (root / "smallnorb" / f"{CHUNKS[1]}-{part}.mat").unlink()
    with pytest.raises(DeftError, match=rf"lacks {CHUNKS[1]}-{part}\.mat\[\.gz\] in"):
        Small(root)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("part", ["dat", "cat", "info"])
@pytest.mark.parametrize("keep", [0, 1, 10, 0.5, 0.999])
def test_a_truncated_file_is_one_sentence(tmp_path, packed, part, keep):
    folder = write(tmp_path / "smallnorb", packed)
    path = next(folder.glob(f"{CHUNKS[1]}-{part}.*"))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(DeftError, match=rf"{path.name} (ends too early|cannot be unpacked): .*download it again"):
        Small(tmp_path)
    assert not list(tmp_path.glob("*.h5"))


def test_a_changed_byte_in_a_packed_file_is_noticed(tmp_path):
    path = write(tmp_path / "smallnorb", packed=True) / f"{CHUNKS[0]}-dat.mat.gz"
    data = bytearray(path.read_bytes())
    data[-6] ^= 1  # in the checksum at the end
    path.write_bytes(data)
    with pytest.raises(DeftError, match="cannot be unpacked"):
        Small(tmp_path)


def test_a_longer_file_is_noticed(root):
    path = root / "smallnorb" / f"{CHUNKS[0]}-cat.mat"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(DeftError, match="longer than its header says"):
        Small(root)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (struct.pack("<Ii3i", 0x1E3D4C51, 1, 48, 1, 1), "begins with 0x1e3d4c51"),  # floats
        (b"<!DOCTYPE html><html>not found</html>", "begins with"),
        (struct.pack("<Ii3i", 0x1E3D4C54, 900, 1, 1, 1), "has 900 dimensions"),
        (struct.pack("<Ii3i", 0x1E3D4C54, 1, -4, 1, 1), r"has the shape \[-4\]"),
    ],
)
def test_a_wrong_header_is_one_sentence(root, head, message):
    path = root / "smallnorb" / f"{CHUNKS[0]}-cat.mat"
    path.write_bytes(head + path.read_bytes()[20:])
    with pytest.raises(DeftError, match=message):
        Small(root)


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        (0, lambda v: v[:, :, ::2], r"holds uint8 \[48, 2, 48, 96\].*should hold uint8 \[48, 2, 96, 96\]"),
        (0, lambda v: v[:, 0], r"holds uint8 \[48, 96, 96\]"),
        (0, lambda v: v[:-1], r"holds uint8 \[47, 2, 96, 96\]"),
        (0, lambda v: v.astype("<i4"), "holds int32"),
        (1, lambda v: v.astype("u1"), r"holds uint8 \[48\], and should hold int32 \[any\]"),
        (1, lambda v: v + 1, "category goes from 1 to 2"),
        (1, lambda v: v[:-1], r"info\.mat .*holds int32 \[48, 4\], and should hold int32 \[47, 4\]"),
        (2, lambda v: v[:-1], r"holds int32 \[47, 4\]"),
        (2, lambda v: v[:, :3], r"holds int32 \[48, 3\]"),
        (2, lambda v: v - np.array([0, 1, 0, 0], "<i4"), "elevation goes from -1 to 0"),
        (2, lambda v: v // np.array([1, 1, 2, 1], "<i4"), "odd azimuths"),
    ],
)
def test_wrong_contents_are_one_sentence(root, part, change, message):
    chunks = [list(chunk(instances)) for instances in INSTANCES]
    chunks[0][part] = np.ascontiguousarray(change(chunks[0][part]))
    write(root / "smallnorb", chunks=chunks)
    with pytest.raises(DeftError, match=message):
        Small(root)


def test_a_combination_that_is_missing_or_there_twice_is_named(root):
    chunks = [chunk(INSTANCES[0])] * 2
    write(root / "smallnorb", chunks=chunks)
    with pytest.raises(DeftError, match=r"has 0 images of category 0, instance 0, elevation 0, azimuth 0, lighting 0"):
        Small(root)


def test_a_file_that_may_not_be_read_is_one_sentence(root):
    path = root / "smallnorb" / "folder.mat"
    path.mkdir()
    with pytest.raises(DeftError, match=r"cannot read .*folder"):
        published_format.header(path)
    with pytest.raises(DeftError, match="there is no file"):
        published_format.header(path / "none")


def test_header_tells_type_and_shape(root):
    assert published_format.header(root / "smallnorb" / f"{CHUNKS[0]}-dat.mat") == (np.uint8, (48, 2, 96, 96))
    assert published_format.header(root / "smallnorb" / f"{CHUNKS[0]}-cat.mat") == (np.int32, (48,))


def test_prepare_asks_for_the_missing_files_with_their_published_digests(tmp_path, monkeypatch, unknown_digests):
    asked = []
    write(tmp_path / "server", packed=True)
    served = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (tmp_path / "server").iterdir()}
    assert served.keys() == unknown_digests.keys()
    monkeypatch.setattr(smallnorb, "SHA256", served)

    def fetch(urls, path, known_hash):
        asked.append(path.name)
        assert urls == (f"https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/{path.name}",)
        assert known_hash == f"sha256:{smallnorb.SHA256[path.name]}"
        for source in (tmp_path / "server").glob(path.name):
            path.write_bytes(source.read_bytes())

    monkeypatch.setattr(download, "fetch", fetch)
    own = tmp_path / "smallnorb"
    own.mkdir()
    name = f"{CHUNKS[0]}-dat.mat"
    (own / name).write_bytes(gzip.decompress((tmp_path / "server" / f"{name}.gz").read_bytes()))
    assert str(tmp_path) in smallnorb.prepare_smallnorb(tmp_path, SPACE)
    assert len(asked) == 5  # not the one that was there
    assert f"{name}.gz" not in asked
    assert np.array_equal(pixels(Small(tmp_path))[:, 0, 0, 0], np.arange(96))

    # Neither a good conversion nor good files: the packed files are asked for again, and the plain one is kept.
    (tmp_path / "smallnorb_official.h5").write_bytes(b"damaged")
    (own / f"{CHUNKS[1]}-cat.mat.gz").write_bytes(b"damaged")
    smallnorb.prepare_smallnorb(tmp_path, SPACE)
    assert len(asked) == 10
    assert np.array_equal(pixels(Small(tmp_path))[:, 0, 0, 0], np.arange(96))


@needs_fork
def test_of_two_processes_that_prepare_one_downloads_and_one_converts(tmp_path, monkeypatch):
    server, done = write(tmp_path / "server", packed=True), tmp_path / "done"
    monkeypatch.setattr(smallnorb, "SHA256", {path.name: "" for path in server.iterdir()})

    def note(what: str) -> None:
        with open(done, "a") as file:
            file.write(f"{what}\n")
        time.sleep(0.1)

    def retrieve(url, known_hash, name, folder, downloader):
        if not (folder / name).exists():  # as pooch does
            note("download")
            shutil.copy(server / name, folder / name)

    monkeypatch.setattr(download.pooch, "retrieve", retrieve)
    monkeypatch.setattr(smallnorb, "read", lambda files, space: note("convert") or np.ones((96, 64, 64), np.uint8))
    children = [process(smallnorb.prepare_smallnorb, tmp_path / "root", SPACE) for _ in range(3)]
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert sorted(done.read_text().split()) == ["convert"] + ["download"] * 6


def test_without_a_network_the_sentence_has_the_address_and_the_place(tmp_path, monkeypatch, unknown_digests):
    monkeypatch.setattr(smallnorb, "URL", "http://127.0.0.1:9/norb/")  # nothing listens there
    monkeypatch.setattr(smallnorb, "SHA256", unknown_digests)
    place = tmp_path / "smallnorb" / f"{CHUNKS[0]}-dat.mat.gz"
    with pytest.raises(DeftError, match=rf"fetch http://127.0.0.1:9/norb/{place.name} by hand and save it as {place}"):
        registry.prepare("smallnorb", tmp_path)
