"""Codes of the user's own images, from the model of a run, as files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from deft_lightning import encode, load_model
from deft_lightning.common import results
from deft_lightning.data import CustomImages
from deft_lightning.evaluation import code_files, tables
from deft_lightning.training import run
from tests.conftest import MakeOnce
from tests.helpers import BARE, compose_run

pytestmark = pytest.mark.slow  # trains a run

COUNT = 300
"""More images than the reader of a folder and the model take at once."""
DIGEST = "0123456789012345"
"""Of the training data; a table must not take it for a number."""


@pytest.fixture(scope="session")
def trained(make_once: MakeOnce) -> Path:
    """A finished run on colour images."""

    def train(folder: Path) -> None:
        run.train(*compose_run(folder, *BARE))
        results.update(folder, data={"digest": DIGEST})  # TinySprites has none

    return make_once("to_encode", train)


def _sprites(count: int = COUNT) -> np.ndarray:
    """RGBA images of another size than the model's, [N, 40, 50, 4]: a square of some colour at some place."""
    random = np.random.default_rng(0)
    images = np.zeros((count, 40, 50, 4), np.uint8)
    for image in images:
        top, left = random.integers(0, 25, 2)
        image[top : top + 15, left : left + 15] = (*random.integers(0, 256, 3), 255)
    return images


def _names(count: int = COUNT) -> list[str]:
    return [f"more/{number:03d}.png" if number % 2 else f"{number:03d}.png" for number in range(count)]


@pytest.fixture(scope="session", params=["folder", "sprites.npz", "sprites.h5"])
def images(request: pytest.FixtureRequest, make_once: MakeOnce) -> Path:
    """The sprites, as a folder and in files."""

    def save(root: Path) -> None:
        (root / "folder" / "more").mkdir(parents=True)
        for name, image in zip(_names(), _sprites(), strict=True):
            Image.fromarray(image).save(root / "folder" / name)
        np.savez_compressed(root / "sprites.npz", images=_sprites())
        with h5py.File(root / "sprites.h5", "w") as file:
            file.create_dataset("images", data=_sprites(), chunks=(7, 40, 50, 4))

    return make_once("sprites", save) / str(request.param)


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """A folder of 70 images."""
    (tmp_path / "few").mkdir()
    for number, image in enumerate(_sprites(70)):
        Image.fromarray(image).save(tmp_path / "few" / f"{number:02d}.png")
    return tmp_path / "few"


def _encode(trained: Path, images: Path, out: Path, *more: object) -> int:
    return encode.main([str(trained), str(images), "--out", str(out), "--device", "cpu", *map(str, more)])


def _as_trained(images: Path, **options: Any) -> torch.Tensor:
    """The images as a run with data=custom reads them."""
    dataset = CustomImages(images, channels=3, **options)
    return dataset.images(torch.arange(len(dataset)), torch.Generator())


def _read(path: Path) -> dict[str, Any]:
    """The contents of a file of codes, by the libraries that a user has."""
    if path.suffix == ".npz":
        with np.load(path) as arrays:  # no pickles
            found = {key: arrays[key] for key in arrays}
        return found | {key: str(found[key]) for key in ("run_id", "data_digest")}
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            found = {key: file[key].asstr()[()] if file[key].dtype.kind == "O" else file[key][()] for key in file}
            return found | dict(file.attrs)
    table = pd.read_csv(path, dtype={"run_id": str, "data_digest": str})
    found = {
        key: table[[column for column in table if column.startswith(f"{key} ")]].to_numpy(np.float32)
        for key in ("mean", "log_variance")
    }
    found["latent_names"] = np.array([name.removeprefix("mean ") for name in table if name.startswith("mean ")])
    found |= {key: table[key].unique().item() for key in ("run_id", "data_digest")}
    return found | ({"files": table["file"].to_numpy()} if "file" in table else {})


@pytest.mark.parametrize("ending", [".csv", ".npz", ".h5"])
def test_codes_are_those_of_the_model_in_every_format(
    trained: Path, images: Path, tmp_path: Path, ending: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / f"codes{ending}"
    assert _encode(trained, images, out) == 0
    codes, model = _read(out), load_model(trained)
    expected = model.encode(_as_trained(images))
    assert codes["mean"].shape == (COUNT, 10)
    assert codes["mean"].dtype == codes["log_variance"].dtype == np.float32
    assert codes["mean"] == pytest.approx(expected.mean.numpy(), abs=1e-5)
    assert codes["log_variance"] == pytest.approx(expected.log_variance.numpy(), abs=1e-5)
    assert codes["latent_names"].tolist() == model.latent_names
    assert (codes["run_id"], codes["data_digest"]) == (results.read(trained)["run_id"], DIGEST)
    assert ("files" in codes) == images.is_dir()
    if images.is_dir():
        assert codes["files"].tolist() == sorted(_names())
    assert capsys.readouterr().out.splitlines() == [
        f"{images}: images of 50 x 40 are resized to 64 x 64.",
        f"{images}: transparent images are composed over black (data.background).",
        str(out),
    ]
    assert [path.name for path in out.parent.iterdir()] == [out.name]


@pytest.mark.parametrize("ending", [".csv", ".npz", ".h5"])
def test_codes_can_be_scored_with_labels_of_the_same_files(
    trained: Path, few: Path, tmp_path: Path, ending: str, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = tmp_path / "labels.csv"
    rows = [f"{number:02d}.png,{number % 7}" for number in reversed(range(70))]  # in another order than the images
    labels.write_text("\n".join(["file,seventh", *rows]))
    assert _encode(trained, few, tmp_path / f"codes{ending}") == 0
    table = tables.read(tmp_path / f"codes{ending}", str(labels))
    expected = load_model(trained).encode(_as_trained(few))
    assert table.codes == pytest.approx(expected.mean.numpy(), abs=1e-5)
    assert table.log_variance == pytest.approx(expected.log_variance.numpy(), abs=1e-5)
    assert table.factors.tolist() == [[number % 7] for number in range(70)]


def test_the_weights_of_a_stage_can_be_taken(trained: Path, few: Path, tmp_path: Path) -> None:
    assert _encode(trained, few, tmp_path / "codes.npz", "--stage", 1) == 0
    means = _read(tmp_path / "codes.npz")["mean"]
    first, last = (load_model(trained, stage).encode(_as_trained(few)).mean.numpy() for stage in (1, 4))
    assert means == pytest.approx(first, abs=1e-5)
    assert means != pytest.approx(last, abs=1e-5)


def _copy(trained: Path, tmp_path: Path) -> Path:
    """The run, in a folder that the test may change."""
    copy = tmp_path / "run"
    (copy / "checkpoints").mkdir(parents=True)
    for name in ("results.json", "checkpoints/last.ckpt"):
        (copy / name).write_bytes((trained / name).read_bytes())
    return copy


def test_images_are_composed_over_the_colour_of_the_training(trained: Path, few: Path, tmp_path: Path) -> None:
    copy = _copy(trained, tmp_path)
    results.update(copy, training={"data": {"background": "white"}})
    assert _encode(copy, few, tmp_path / "codes.npz") == 0
    expected = load_model(trained).encode(_as_trained(few, background="white")).mean
    assert _read(tmp_path / "codes.npz")["mean"] == pytest.approx(expected.numpy(), abs=1e-5)


def test_any_file_name_is_kept(trained: Path, tmp_path: Path) -> None:
    folder, names = tmp_path / "named", [b'a, "b".png', b"gr\xf6\xdfe.png"]  # the second is not UTF-8
    folder.mkdir()
    for name in names:
        Image.fromarray(_sprites(1)[0]).save(tmp_path / "a.png")
        os.rename(tmp_path / "a.png", os.fsencode(folder) + b"/" + name)
    for ending in ("npz", "h5", "csv"):
        assert _encode(trained, folder, tmp_path / f"codes.{ending}") == 0
    assert [os.fsencode(str(name)) for name in _read(tmp_path / "codes.npz")["files"]] == names
    with h5py.File(tmp_path / "codes.h5") as file:
        assert list(file["files"][()]) == names
    table = pd.read_csv(tmp_path / "codes.csv", encoding_errors="surrogateescape")
    assert [os.fsencode(name) for name in table["file"]] == names


def test_reconstructions_are_below_the_images(trained: Path, few: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    assert _encode(trained, few, tmp_path / "codes.csv", "--reconstructions", folder) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["000000-000063.png", "000064-000069.png"]
    first, last = (np.asarray(Image.open(path)).astype(int) for path in sorted(folder.iterdir()))
    assert first.shape == (8 * 67 - 3, 16 * 67 - 3, 3)  # rows of 16 images of 64 pixels, with gaps of 3
    assert last.shape == (2 * 67 - 3, 6 * 67 - 3, 3)
    originals = _as_trained(few)
    decoded = load_model(trained).reconstruct(originals)
    for picture, number, row, column in ((first, 0, 0, 0), (first, 37, 4, 5), (last, 69, 0, 5)):
        for offset, image in ((0, originals[number]), (1, decoded[number])):
            top, left = (row + offset) * 67, column * 67
            shown = picture[top : top + 64, left : left + 64].transpose(2, 0, 1)
            assert np.abs(shown - 255 * image.numpy()).max() <= 0.51


def test_a_row_that_is_not_full_ends_in_white(trained: Path, few: Path, tmp_path: Path) -> None:
    for number in range(20, 70):
        (few / f"{number:02d}.png").unlink()
    assert _encode(trained, few, tmp_path / "codes.csv", "--reconstructions", tmp_path) == 0
    picture = np.asarray(Image.open(tmp_path / "000000-000019.png"))
    assert picture.shape == (4 * 67 - 3, 16 * 67 - 3, 3)
    assert (picture[2 * 67 :, 4 * 67 :] == 255).all()


def test_traversals_of_an_image_are_drawn_beside_the_codes(trained: Path, few: Path, tmp_path: Path) -> None:
    assert _encode(trained, few, tmp_path / "codes.csv", "--traversals", few / "03.png") == 0
    picture = Image.open(tmp_path / "codes_traversals.png")
    assert picture.format == "PNG"
    assert picture.width / picture.height == pytest.approx(9 / 10, rel=0.2)  # nine values of ten latents, and labels


@pytest.mark.parametrize("ending", [".csv", ".npz", ".h5"])
def test_an_error_half_way_leaves_nothing_and_what_was_there_stays(
    trained: Path, few: Path, tmp_path: Path, ending: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, image in enumerate(_sprites(230)):  # so that the last is not in the first batch
        Image.fromarray(image).save(few / f"00{number:03d}.png")
    (few / "69.png").write_bytes((few / "69.png").read_bytes()[:60])  # its header is whole
    out, pictures = tmp_path / f"codes{ending}", tmp_path / "pictures"
    for before in (None, b"of an earlier run"):
        if before is not None:
            out.write_bytes(before)
        assert _encode(trained, few, out, "--reconstructions", pictures, "--traversals", few / "00.png") == 1
        assert capsys.readouterr().err == f"error: {few}/69.png is damaged or not an image: replace or delete it.\n"
        assert (out.read_bytes() if out.exists() else None) == before
        assert list(pictures.iterdir()) == []
        assert {path.name for path in tmp_path.iterdir()} == {"few", "pictures"} | ({out.name} if before else set())


@pytest.mark.parametrize("ending", [".csv", ".npz", ".h5"])
def test_a_full_disk_is_one_sentence_and_what_was_there_stays(
    trained: Path,
    few: Path,
    tmp_path: Path,
    ending: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(path: Path, codes: code_files.CodeFile) -> None:
        path.write_text("a part")
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(code_files.WRITERS, ending, full)
    out = tmp_path / f"codes{ending}"
    out.write_text("before")
    assert _encode(trained, few, out) == 1
    sentence = f"{out} cannot be written (No space left on device): choose another place."
    assert capsys.readouterr().err == f"error: {sentence}\n"
    assert out.read_text() == "before"
    assert {path.name for path in tmp_path.iterdir()} == {"few", out.name}


WRONG = [
    ("{tmp} {few} --out {tmp}/a.csv", "there is no run in {tmp}: give the folder that has its results.json."),
    ("{run} {few} --out {tmp}/a.txt", "--out is {tmp}/a.txt: end it in .csv, .npz or .h5."),
    ("{run} {few} --out {tmp}/d.csv", "--out is {tmp}/d.csv, which is a folder: give a file in it."),
    ("{run} {tmp}/a.npz --out {tmp}/a.npz", "--out is {tmp}/a.npz, the file of the images: give another."),
    (
        "{run} {tmp}/no --out {tmp}/a.csv",
        "the path of the images is {tmp}/no, which does not exist: give an .npz or .h5 file, or a folder of images.",
    ),
    (
        "{run} {tmp}/a.npz --out {tmp}/a.csv",
        "{tmp}/a.npz is damaged, incomplete or of another format: save it again.",
    ),
    ("{run} {few} --out {tmp}/a.csv --stage 9", "there is no stage 9 in {run}: it has 1, 2, 3, 4."),
    (
        "{run} {few} --out {tmp}/a.csv --device toaster",
        "--device is toaster: use cpu, or a device that torch finds here.",
    ),
    ("{run} {few} --out {tmp}/a.csv --device meta", "--device is meta: use cpu, or a device that torch finds here."),
    ("{run} {few} --out {tmp}/file/a.csv", "{tmp}/file cannot be written (File exists): choose another place."),
    (
        "{run} {few} --out {tmp}/a.csv --reconstructions {few}/again",
        "--reconstructions is in the folder of the images, {few}: give another, pictures go there.",
    ),
    (
        "{run} {few} --out {few}/a.csv --traversals {few}/00.png",
        "--out is in the folder of the images, {few}: give another, pictures go there.",
    ),
    (
        "{run} {few} --out {tmp}/a.csv --traversals {tmp}/no.png",
        "--traversals is {tmp}/no.png, which is not a file: give an image.",
    ),
    (
        "{run} {few} --out {tmp}/a.csv --traversals {tmp}/file",
        "{tmp}/file is damaged or not an image: replace or delete it.",
    ),
    (
        "{run} {few} --out {tmp}/a.csv --traversals {tmp}/a_traversals.png",
        "--traversals is {tmp}/a_traversals.png, where the traversals are drawn: give another --out.",
    ),
]


@pytest.mark.parametrize(("line", "sentence"), WRONG)
def test_what_cannot_be_encoded_is_one_sentence(
    line: str, sentence: str, trained: Path, few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "d.csv").mkdir()
    (tmp_path / "a.npz").write_text("no images")
    (tmp_path / "file").write_text("no image")
    Image.fromarray(_sprites(1)[0]).save(tmp_path / "a_traversals.png")
    before = _contents(tmp_path)
    places = {"run": trained, "few": few, "tmp": tmp_path}
    assert encode.main(line.format(**places).split()) == 1
    assert capsys.readouterr().err == f"error: {sentence.format(**places)}\n"
    assert _contents(tmp_path) == before


def _contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b"cut short"), lambda path: path.unlink()])
def test_a_damaged_checkpoint_is_named(
    damage: Callable[[Path], object], trained: Path, few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = _copy(trained, tmp_path) / "checkpoints" / "last.ckpt"
    damage(checkpoint)
    assert _encode(tmp_path / "run", few, tmp_path / "codes.csv") == 1
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert str(checkpoint) in errors


@pytest.mark.parametrize("ending", [".npz", ".h5"])
def test_images_need_not_fit_into_memory(
    trained: Path, tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"many{ending}"
    many = np.zeros((3000, 64, 64), np.uint8)
    many[:, 10:30, 10:30] = 255
    if ending == ".npz":
        np.savez_compressed(path, images=many)
    else:
        with h5py.File(path, "w") as file:
            file["images"] = many
    sizes, whole = [], torch.from_numpy
    monkeypatch.setattr(torch, "from_numpy", lambda array: sizes.append(len(array)) or whole(array))
    assert _encode(trained, path, tmp_path / "codes.npz") == 0
    assert sizes == [1024, 1024, 952]
