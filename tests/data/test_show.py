from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deft_lightning.common.errors import DeftError
from deft_lightning.data import FactorSpace, __main__, registry
from deft_lightning.data.show import show
from tests.helpers import TinySprites


def tiles(path: Path, rows: int, columns: int) -> np.ndarray:
    """The images in a picture, [rows, columns, 64, 64, 3]; there are 3 white pixels between them."""
    picture = np.asarray(Image.open(path))
    assert picture.shape == (67 * rows - 3, 67 * columns - 3, 3)
    padded = np.pad(picture, ((0, 3), (0, 3), (0, 0)), constant_values=255).reshape(rows, 67, columns, 67, 3)
    assert (padded[:, 64:] == 255).all()
    assert (padded[:, :, :, 64:] == 255).all()
    return padded.swapaxes(1, 2)[:, :, :64, :64]


def test_a_strip_varies_one_factor_and_nothing_else(tmp_path):
    dataset = TinySprites(channels=3)
    paths = show(dataset, tmp_path / "new" / "folder")
    assert [path.name for path in paths] == [
        f"tiny_{name}.png" for name in ("samples", "shape", "scale", "posX", "posY")
    ]
    masks = TinySprites()
    for place, (name, size) in enumerate(zip(dataset.space.names, dataset.space.sizes, strict=True)):
        strip = tiles(tmp_path / "new" / "folder" / f"tiny_{name}.png", 1, size)[0]
        factors = torch.tensor([[1, 1, 2, 2]]).repeat(size, 1)
        factors[:, place] = torch.arange(size)
        expected = masks.images(dataset.space.indices(factors), torch.Generator())[:, 0].numpy() > 0
        assert np.array_equal(strip.max(-1) > 0, expected)
        assert len({tuple(image.max((0, 1))) for image in strip}) == 1  # the same colour in all


def test_samples_are_images_of_the_set_and_a_function_of_the_seed(tmp_path):
    dataset = TinySprites()
    samples = tiles(show(dataset, tmp_path)[0], 8, 16)[..., 0].reshape(-1, 64 * 64)
    every = (dataset.images(torch.arange(96), torch.Generator()).flatten(1) * 255).byte().numpy()
    assert {image.tobytes() for image in samples} <= {image.tobytes() for image in every}
    assert len({image.tobytes() for image in samples}) > 50
    again, other = show(dataset, tmp_path / "a")[0], show(dataset, tmp_path / "b", seed=1)[0]
    assert again.read_bytes() == (tmp_path / "tiny_samples.png").read_bytes() != other.read_bytes()


def test_names_that_a_file_cannot_have_are_changed(tmp_path):
    dataset = TinySprites()
    dataset.space = FactorSpace(("../a b", "samples", "Size (mm)", "\u00d6l/\n"), dataset.space.sizes)
    paths = show(dataset, tmp_path)
    assert [path.name for path in paths] == [
        f"tiny_{name}.png" for name in ("samples", ".._a_b", "samples_", "Size_mm_", "\u00d6l_")
    ]
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    dataset.space = FactorSpace(("x?", "x*", "X_", "x" * 999), dataset.space.sizes)
    names = [path.name for path in show(dataset, tmp_path / "alike")]
    assert len({name.casefold() for name in names}) == 5
    assert len(list((tmp_path / "alike").iterdir())) == 5


def test_without_factors_there_are_only_samples(tmp_path):
    dataset = TinySprites()
    dataset.space = None
    assert [path.name for path in show(dataset, tmp_path)] == ["tiny_samples.png"]


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(DeftError, match="taken cannot be written"):
        show(TinySprites(), tmp_path / "taken")


def test_the_command_passes_options_on_and_prints_notices_and_paths(tmp_path, monkeypatch, capsys):
    class Named(TinySprites):
        notices = ("Rendered images are shown.",)

        def __init__(self, root: str = "", flavour: str = "") -> None:
            super().__init__()
            assert (root, flavour) == ("here", "salt=3")

    monkeypatch.setitem(registry.DATASETS, "tiny", Named)
    arguments = ["show", "tiny", "flavour=salt=3", "--root", "here", "--out", str(tmp_path)]
    assert __main__.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Rendered images are shown."
    assert Path(lines[1]) == tmp_path / "tiny_samples.png"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "dsprite"], "error: the data set is 'dsprite': use one of dsprites, "),
        (
            ["show", "dsprites", "sauce=mild"],
            "error: the options of the data set dsprites are wrong (got an unexpected keyword argument 'sauce'): ",
        ),
        (["show", "dsprites", "published"], "error: 'published' is not an option: write option=value"),
        (["show", "dsprites", "source=web"], "error: data.source is 'web': use one of auto, published, rendered."),
        (["prepare", "sprites"], "error: the download is 'sprites': use one of dsprites, scream"),
    ],
)
def test_mistakes_are_one_sentence_and_a_failure(arguments, message, capsys):
    assert __main__.main(arguments) == 1
    printed = capsys.readouterr().err
    assert printed.startswith(message)
    assert printed.endswith(".\n")
    assert printed.count("\n") == 1
