"""Files written here in the published format of Cars3D, of five cars at three elevations and two azimuths."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch

from deft_lightning.common.errors import DeftError
from deft_lightning.data import Cars3D, FactorSpace, __main__, cars3d, download, registry

SPACE = FactorSpace(cars3d.SPACE.names, (3, 2, 5))
NUMBERS = (1, 7, 12, 100, 199)  # of the cars, which leave out some numbers as the published ones do


def mesh(car: int) -> np.ndarray:
    """Images of a car, uint8 [128, 128, 3, azimuths, elevations]: blocks of 2 x 2 equal pixels, by their position."""
    small = np.random.default_rng(car).integers(0, 256, (64, 64, 3, 2, 3), np.uint8)
    return small.repeat(2, axis=0).repeat(2, axis=1)


def flat(car: int) -> np.ndarray:
    """Images of one colour, which tells car, azimuth and elevation apart."""
    colours = np.stack(np.broadcast_arrays(20 * car + 10, *np.ogrid[:2, :3]))  # [3, azimuths, elevations]
    return np.broadcast_to(colours, (128, 128, *colours.shape)).astype(np.uint8)


def packed(images: np.ndarray, **others: np.ndarray) -> bytes:
    stream = io.BytesIO()
    scipy.io.savemat(stream, {"im": images, **others}, do_compression=True)
    return stream.getvalue()


def contents(make=flat) -> dict[str, bytes]:
    mask = np.ones((128, 128, 2, 3), np.uint8)
    return {f"car_{number:03}_mesh.mat": packed(make(place), mask=mask) for place, number in enumerate(NUMBERS)}


def write_folder(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)


def write_archive(path: Path, files: dict[str, bytes]) -> Path:
    """An archive with the cars in reverse order, and with the kinds of files that the published one also has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    others = {"data/shapes48.mat": b"x", "data/sprites/sprites_1.mat": b"x", "data/cars/list.txt": b"x"}
    with tarfile.open(path, "w:gz") as tar:
        for name, data in [*others.items(), *((f"data/cars/{name}", files[name]) for name in reversed(files))]:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder, in which five cars are taken for the published ones."""
    monkeypatch.setattr(Cars3D, "space", SPACE)
    monkeypatch.setattr(cars3d, "MD5", None)
    return tmp_path / "root"


def test_the_published_grid():
    assert len(Cars3D.space) == 17_568
    assert (Cars3D.space.factor_names, Cars3D.space.factor_sizes) == (
        ("elevation", "azimuth", "object_type"),
        (4, 24, 183),
    )


@pytest.mark.parametrize("form", ["archive", "folder", "unpacked archive"])
def test_images_are_in_the_order_of_their_factors(root, form):
    if form == "archive":
        write_archive(root / "cars3d" / cars3d.ARCHIVE, contents())
    else:
        write_folder(root / "cars3d" / ("data/cars" if form == "unpacked archive" else ""), contents())
        (root / "cars3d" / "shapes48.mat").write_bytes(b"of another data set")
    dataset = Cars3D(root)
    images = dataset.images(torch.arange(30), torch.Generator())
    assert images.shape == (30, 3, 64, 64)
    elevation, azimuth, car = dataset.factors(torch.arange(30)).T
    colours = torch.stack([20 * car + 10, azimuth, elevation], dim=1).float() / 255
    assert torch.equal(images, colours[:, :, None, None].expand_as(images))
    assert "resized from 128 x 128 to 64 x 64 with a Lanczos filter" in dataset.notices[0]


def test_images_are_resized_without_aliasing(root):
    """Stripes as fine as a pixel of the large image become an even grey; what is coarser stays."""
    stripes = np.zeros((128, 128, 3, 2, 3), np.uint8)
    stripes[:, ::2, 0] = 200  # red stripes, one pixel wide
    stripes[:64, :, 1] = 100  # green in the upper half
    write_folder(root / "cars3d", contents(lambda _: stripes))
    image = Cars3D(root).images(torch.tensor([0]), torch.Generator())[0] * 255
    assert ((image[0, :, 4:-4] - 100).abs() <= 1).all()
    assert (image[1, :28] == 100).all()
    assert (image[1, 36:] == 0).all()
    assert (image[2] == 0).all()


def test_the_files_may_be_deleted_after_the_conversion(root):
    write_folder(root / "cars3d", contents(mesh))
    first = Cars3D(root)
    for path in (root / "cars3d").iterdir():
        path.unlink()
    assert Cars3D(root).digest == first.digest


def test_without_files_the_address_is_named(tmp_path):
    with pytest.raises(DeftError) as caught:
        registry.load("cars3d", root=tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/cars3d has no files of Cars3D: run `python -m deft_lightning.data prepare cars3d`, or save "
        "http://www.scottreed.info/files/nips2015-analogy-data.tar.gz there by hand."
    )


def test_missing_and_repeated_cars_are_one_sentence(root):
    files = contents()
    write_folder(root / "cars3d" / "a", dict(list(files.items())[1:]))
    with pytest.raises(DeftError, match=r"cars3d/a has 4 of the 5 files of Cars3D: put each of them there once"):
        Cars3D(root)
    write_folder(root / "cars3d" / "b", dict(list(files.items())[1:2]))  # five files, but one car twice
    with pytest.raises(DeftError, match="put each of them there once"):
        Cars3D(root)
    write_archive(root / "cars3d" / cars3d.ARCHIVE, dict(list(files.items())[1:]))
    with pytest.raises(DeftError, match=rf"{cars3d.ARCHIVE} has 4 of the 5 files of Cars3D: delete it"):
        Cars3D(root)
    assert not (root / cars3d.CACHE).exists()


@pytest.mark.parametrize("keep", [0, 10, 0.3, 0.7, 0.98])
@pytest.mark.parametrize("form", ["archive", "folder"])
def test_a_truncated_file_is_one_sentence(root, form, keep):
    if form == "archive":
        path = write_archive(root / "cars3d" / cars3d.ARCHIVE, contents(mesh))
    else:
        write_folder(root / "cars3d", contents(mesh))
        path = root / "cars3d" / "car_012_mesh.mat"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(DeftError, match=rf"{path.name} is damaged, incomplete or not Cars3D: .*download it again"):
        Cars3D(root)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (packed(flat(0)[:64]), r"images are uint8 \[64, 128, 3, 2, 3\] instead of uint8 \[128, 128, 3, 2, 3\]"),
        (packed(flat(0)[..., 0]), r"images are uint8 \[128, 128, 3, 2\]"),
        (packed(flat(0) / 255), r"images are float64 \[128, 128, 3, 2, 3\]"),
        (packed(np.array([[{}]], dtype=object)), "images are object"),
        (b"a text that is longer than the 128 bytes of a header. " * 9, "is damaged, incomplete or not Cars3D"),
        (b"\x89HDF\r\n\x1a\n" + bytes(600), "is damaged, incomplete or not Cars3D"),
    ],
)
def test_other_contents_are_refused(root, data, message):
    files = contents()
    write_folder(root / "cars3d", files | {"car_001_mesh.mat": data})
    with pytest.raises(DeftError, match=rf"car_001_mesh\.mat .*{message}.*download it again"):
        Cars3D(root)


def test_an_archive_with_another_digest_is_refused(tmp_path):
    path = write_archive(tmp_path / "cars3d" / cars3d.ARCHIVE, contents())
    digest = hashlib.md5(path.read_bytes()).hexdigest()
    with pytest.raises(DeftError, match=rf"not the published file \(md5 {digest} instead of {cars3d.MD5}\)"):
        Cars3D(tmp_path)


@pytest.mark.parametrize("left", ["nothing", "some of the cars", "a damaged archive"])
def test_prepare_downloads_the_archive_where_files_are_missing_or_damaged(root, tmp_path, left, monkeypatch):
    good = write_archive(tmp_path / "server.tar.gz", contents()).read_bytes()
    monkeypatch.setattr(cars3d, "MD5", hashlib.md5(good).hexdigest())
    fetched = []

    def fetch(urls, path, known_hash):
        assert (urls, known_hash) == ((cars3d.URL,), f"md5:{cars3d.MD5}")
        fetched.append(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(good)

    monkeypatch.setattr(download, "fetch", fetch)
    monkeypatch.setitem(registry.DOWNLOADS, "cars3d", lambda root: cars3d.prepare(root, SPACE))
    if left == "some of the cars":
        write_folder(root / "cars3d", dict(list(contents().items())[:2]))
    elif left == "a damaged archive":
        write_folder(root / "cars3d", {cars3d.ARCHIVE: good[:-10]})
    command = ["prepare", "cars3d", "--root", str(root)]
    assert __main__.main(command) == __main__.main(command) == 0
    assert fetched == [root / "cars3d" / cars3d.ARCHIVE]
    assert len(Cars3D(root)) == 30
