"""A damaged file is named, whatever the command, with what is wrong and what to do; no library has the last word."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deft_lightning.common.errors import DeftError
from deft_lightning.data import CustomImages
from deft_lightning.data.__main__ import main as data_command
from deft_lightning.training import config
from tests.data.custom.files import GREY, folder, write
from tests.helpers import compose_run

AGAIN = "is damaged, incomplete or of another format: save it again."
OBJECTS = "holds Python objects, which are never loaded: save plain arrays."
PICTURE = "is damaged or not an image: replace or delete it."


def _truncated(path: Path) -> None:
    whole = write(path, images=GREY).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def _random(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(5000))


def _objects(path: Path) -> None:
    write(path, images=np.array([GREY[0], None], dtype=object))


def _object_labels(path: Path) -> None:
    write(path, images=GREY, labels=np.array([{}] * len(GREY)))


def _text(path: Path) -> None:
    path.write_text("size,shape\n1,2\n" * 500)


def _long_header(path: Path) -> None:
    """An array that says it has terabytes."""
    whole = write(path, images=GREY).read_bytes()
    path.write_bytes(whole.replace(b"(12, 64, 64)", b"(9012, 9064)"))


def _pickle(path: Path) -> None:
    path.write_bytes(b"\x80\x04\x95\x0f\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94.")


def _not_a_picture(path: Path) -> None:
    rest = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    folder(path.parent, {f"a{number}.png": rest for number in range(30)})
    path.write_text("no picture")


def _cut_picture(path: Path) -> None:
    _not_a_picture(path)
    path.write_bytes((path.parent / "a0.png").read_bytes()[:2000])


DAMAGE: list[tuple[str, Callable[[Path], object], str]] = [
    ("mine.npz", _truncated, AGAIN),
    ("mine.h5", _truncated, AGAIN),
    ("mine.npz", _random, AGAIN),
    ("mine.h5", _random, AGAIN),
    ("mine.npz", _pickle, AGAIN),
    ("mine.npz", _objects, OBJECTS),
    ("mine.npz", _object_labels, OBJECTS),
    ("mine.npz", _long_header, AGAIN),
    ("mine.h5", _text, AGAIN),
    ("mine.npz", _text, AGAIN),
    ("folder/b.png", _not_a_picture, PICTURE),
    ("folder/b.png", _cut_picture, PICTURE),
]


@pytest.fixture(params=DAMAGE, ids=lambda case: f"{case[1].__name__}-{case[0]}")
def damaged(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """What `data.path` names, and the sentence that must reach the user."""
    name, damage, problem = request.param
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    damage(path)
    return (path.parent if path.suffix == ".png" else path), f"{path} {problem}"


def test_training_names_the_file(damaged: tuple[Path, str], tmp_path: Path) -> None:
    path, sentence = damaged
    cfg, _ = compose_run(tmp_path, "data=custom", f"data.path={path}", base=())
    with pytest.raises(DeftError) as caught:
        config.build(cfg, "data")
    assert str(caught.value) == sentence


def test_show_names_the_file(damaged: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    path, sentence = damaged
    assert data_command(["show", "custom", f"path={path}"]) == 1
    assert capsys.readouterr().err == f"error: {sentence}\n"


def test_labels_are_named_in_training_too(tmp_path: Path) -> None:
    path, labels = write(tmp_path / "mine.npz", images=GREY), tmp_path / "labels.csv"
    labels.write_bytes(np.random.default_rng(0).bytes(5000))
    cfg, _ = compose_run(tmp_path, "data=custom", f"data.path={path}", f"data.labels={labels}", base=())
    with pytest.raises(DeftError) as caught:
        config.build(cfg, "data")
    assert str(caught.value) == f"{labels} cannot be read as CSV (it is not text in UTF-8): save it as UTF-8 text."


def test_files_changed_anywhere_name_themselves(path: Path) -> None:
    """Whatever a changed byte means to NumPy, zipfile or h5py, the file is read or named."""
    whole = write(path, images=GREY, factors=np.arange(12)).read_bytes()
    random = np.random.default_rng(0)
    for _ in range(100):
        changed = bytearray(whole)
        # Mostly in the headers, which are at the ends of the file and before the last array.
        places = random.choice([random.integers(len(whole)), random.integers(2000), -random.integers(1, 900)], 3)
        for place in places:
            changed[place] = random.integers(256)
        path.write_bytes(changed)
        try:
            CustomImages(path)
        except DeftError as error:
            assert str(path) in str(error)  # noqa: PT017  # it may also be read


def test_pictures_changed_anywhere_name_themselves(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    picture = Image.fromarray(random.integers(0, 256, (24, 24, 4), np.uint8))
    for ending in ("png", "gif", "tif", "webp", "jpg", "bmp", "ppm"):
        path = tmp_path / f"a.{ending}"
        (picture.convert("RGB") if ending in ("jpg", "ppm") else picture).save(path)
        whole = path.read_bytes()
        for _ in range(30):
            changed = bytearray(whole)
            for place in random.choice([random.integers(len(whole)), random.integers(60)], 2):
                changed[place] = random.integers(256)
            path.write_bytes(changed)
            try:
                CustomImages(tmp_path)
            except DeftError as error:
                assert str(path) in str(error)  # noqa: PT017  # it may also be read
        path.unlink()


def test_a_folder_called_like_a_picture_is_searched(tmp_path: Path) -> None:
    folder(tmp_path, {"a.png/b.png": GREY[0]})
    assert len(CustomImages(tmp_path)) == 1
