"""Files written here in the published format of MPI3D, over a space of 64 images."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from deft_lightning.common.errors import DeftError
from deft_lightning.data import MPI3D, FactorSpace, __main__, cache, mpi3d, registry

SPACE = FactorSpace(mpi3d.SPACE.names, (2, 2, 1, 1, 2, 2, 4))
IMAGES = np.random.default_rng(0).integers(0, 256, (64, 64, 64, 3), np.uint8)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder, in which every file of 64 images is taken for a published one."""
    for name, subset in mpi3d.SUBSETS.items():
        monkeypatch.setitem(mpi3d.SUBSETS, name, subset._replace(space=SPACE, md5=None))
    return tmp_path


def test_the_published_grids():
    factors = {
        "object_color": 6,
        "object_shape": 6,
        "object_size": 2,
        "camera_height": 3,
        "background_color": 3,
        "horizontal_axis": 40,
        "vertical_axis": 40,
    }
    for name in ("toy", "realistic", "real"):
        space = mpi3d.SUBSETS[name].space
        assert dict(zip(space.factor_names, space.factor_sizes, strict=True)) == factors
        assert len(space) == 1_036_800
    space = mpi3d.SUBSETS["real_complex"].space
    assert dict(zip(space.factor_names, space.factor_sizes, strict=True)) == factors | {
        "object_color": 4,
        "object_shape": 4,
    }
    assert len(space) == 460_800


@pytest.mark.parametrize("block", [7, 8192])  # blocks that do and do not divide the images
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("subset", mpi3d.SUBSETS)
def test_images_and_factors_are_those_of_the_file(root, subset, save, block, monkeypatch):
    monkeypatch.setattr(mpi3d, "_BLOCK", block)
    save(root / mpi3d.SUBSETS[subset].file, images=IMAGES)
    dataset = registry.load("mpi3d", root=root, subset=subset)
    indices = torch.tensor([63, 0, 17])
    images = dataset.images(indices, torch.Generator())
    assert torch.equal(images, torch.from_numpy(IMAGES[indices].transpose(0, 3, 1, 2)).float() / 255)
    assert dataset.factors(indices).tolist() == [[1, 1, 0, 0, 1, 1, 3], [0] * 7, [0, 1, 0, 0, 0, 0, 1]]
    assert dataset.description["name"] == f"mpi3d_{subset}"
    assert dataset.digest == cache.digest({"images": IMAGES})[:16]
    (root / mpi3d.SUBSETS[subset].file).unlink()  # the unpacked images outlive the published file
    assert MPI3D(root, subset).digest == dataset.digest


def test_subsets_are_never_confused(root):
    np.savez(root / "mpi3d_toy.npz", images=IMAGES)
    np.savez(root / "mpi3d_real.npz", images=255 - IMAGES)
    toy, real = MPI3D(root), MPI3D(root, "real")
    assert (toy.name, real.name) == ("mpi3d_toy", "mpi3d_real")
    assert toy.digest != real.digest
    (root / "mpi3d_toy.h5").rename(root / "mpi3d_realistic.h5")
    with pytest.raises(DeftError, match="it holds published MPI3D toy version 1, not published MPI3D realistic"):
        MPI3D(root, "realistic")


def test_an_unknown_subset_is_one_sentence(root):
    with pytest.raises(DeftError, match=r"^data\.subset is 'fake': use one of toy, realistic, real, real_complex\.$"):
        MPI3D(root, "fake")


@pytest.mark.parametrize("subset", mpi3d.SUBSETS)
def test_without_the_file_the_address_is_named(tmp_path, subset):
    file, url = mpi3d.SUBSETS[subset].file, mpi3d.SUBSETS[subset].url
    with pytest.raises(DeftError) as caught:
        MPI3D(tmp_path, subset)
    assert str(caught.value).startswith(
        f"{tmp_path} has no {file} of MPI3D: download {url} and save it there under that name, or use another "
    )


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("keep", [0, 10, 0.3, 0.7, 0.98])
def test_a_truncated_file_is_one_sentence(root, keep, save):
    path = root / "mpi3d_toy.npz"
    save(path, images=IMAGES)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(DeftError, match=r"mpi3d_toy\.npz is damaged, incomplete or not MPI3D: .*download it again"):
        MPI3D(root)
    assert not (root / "mpi3d_toy.h5").exists()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_changed_byte_is_noticed(root, save):
    path = root / "mpi3d_toy.npz"
    save(path, images=IMAGES)
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("images.npy").header_offset + 5000
    damaged = bytearray(path.read_bytes())
    damaged[start] ^= 0xFF
    path.write_bytes(damaged)
    with pytest.raises(DeftError, match=r"mpi3d_toy\.npz is damaged, incomplete or not MPI3D"):
        MPI3D(root)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": IMAGES[:63]}, r"its images are uint8 \[63, 64, 64, 3\] instead of uint8 \[64, 64, 64, 3\]"),
        ({"images": IMAGES[..., 0]}, r"its images are uint8 \[64, 64, 64\] instead"),
        ({"images": IMAGES / 255}, r"its images are float64 \[64, 64, 64, 3\] instead"),
        ({"images": np.asfortranarray(IMAGES)}, "is damaged, incomplete or not MPI3D"),
        ({"images": np.array([{}] * 64, dtype=object)}, r"its images are object \[64\] instead"),
        ({"pictures": IMAGES}, "is damaged, incomplete or not MPI3D"),
    ],
)
def test_other_contents_are_refused(root, arrays, message):
    np.savez(root / "mpi3d_toy.npz", **arrays)
    with pytest.raises(DeftError, match=rf"{message}.*download it again"):
        MPI3D(root)


def test_a_file_with_another_digest_is_refused(tmp_path):
    path = tmp_path / "mpi3d_toy.npz"
    np.savez(path, images=IMAGES)
    digest, published = hashlib.md5(path.read_bytes()).hexdigest(), mpi3d.SUBSETS["toy"].md5
    with pytest.raises(DeftError, match=rf"not the published file \(md5 {digest} instead of {published}\)"):
        MPI3D(tmp_path)


def test_prepare_unpacks_the_files_that_are_there_and_downloads_nothing(root, capsys):
    command = ["prepare", "mpi3d", "--root", str(root)]
    assert __main__.main(command) == 1
    sentence = capsys.readouterr().err
    assert all(subset.url in sentence for subset in mpi3d.SUBSETS.values())
    assert sentence.count("\n") == 1
    np.savez(root / "mpi3d_real.npz", images=IMAGES)
    assert __main__.main(command) == 0
    assert capsys.readouterr().out == f"The published images of MPI3D are ready in {root}/mpi3d_real.h5.\n"
    (root / "mpi3d_toy.npz").write_bytes(b"PK")
    assert __main__.main(command) == 1
    assert capsys.readouterr().err.startswith(f"error: {root}/mpi3d_toy.npz is damaged")


def test_show_writes_a_strip_for_each_factor(root, tmp_path):
    np.savez(root / "mpi3d_real.npz", images=IMAGES)
    out = tmp_path / "pictures"
    assert __main__.main(["show", "mpi3d", "subset=real", "--root", str(root), "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == {
        f"mpi3d_real_{name}.png" for name in ("samples", *mpi3d.SPACE.names)
    }
