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
    """[rows, columns, 64, 64, 3] of a picture whose images are 2 pixels apart."""
    picture = np.asarray(Image.open(path))
    assert picture.shape == (66 * rows + 2, 66 * columns + 2, 3)
    return picture[2:, 2:].reshape(rows, 66, columns, 66, 3).swapaxes(1, 2)[:, :, :64, :64]


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
        assert len({tuple(image.max((0, 1))) for image in strip}) == 1  # one colour all along


def test_samples_are_images_of_the_set_and_a_function_of_the_seed(tmp_path):
    dataset = TinySprites()
    samples = tiles(show(dataset, tmp_path)[0], 8, 16)[..., 0].reshape(-1, 64 * 64)
    every = (dataset.images(torch.arange(96), torch.Generator()).flatten(1) * 255).byte().numpy()
    assert {image.tobytes() for image in samples} <= {image.tobytes() for image in every}
    assert len({image.tobytes() for image in samples}) > 50
    again, other = show(dataset, tmp_path / "a")[0], show(dataset, tmp_path / "b", seed=1)[0]
    assert again.read_bytes() == (tmp_path / "tiny_samples.png").read_bytes() != other.read_bytes()


def test_names_that_no_file_can_have_are_made_safe(tmp_path):
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
    with pytest.raises(DeftError, match="cannot write pictures to"):
        show(TinySprites(), tmp_path / "taken")


def test_the_command_passes_options_on_and_says_what_is_shown(tmp_path, monkeypatch, capsys):
    class Named(TinySprites):
        notices = ("A stand-in is shown.",)

        def __init__(self, root: str = "", flavour: str = "") -> None:
            super().__init__()
            assert (root, flavour) == ("here", "salt=3")

    monkeypatch.setitem(registry.DATASETS, "tiny", "tests.data.test_show:Named")
    monkeypatch.setattr("tests.data.test_show.Named", Named, raising=False)
    arguments = ["show", "tiny", "flavour=salt=3", "--root", "here", "--out", str(tmp_path)]
    assert __main__.main(arguments) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "A stand-in is shown."
    assert Path(said[1]) == tmp_path / "tiny_samples.png"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "dsprite"], "there is no data set 'dsprite'; there are dsprites, "),
        (["show", "dsprites", "sauce=mild"], "data set dsprites: got an unexpected keyword argument 'sauce'"),
        (["show", "dsprites", "official"], "'official' should be option=value"),
        (["show", "dsprites", "source=web"], "data.source is 'web'"),
        (["prepare", "sprites"], "'sprites' is not a download; there are dsprites, scream"),
    ],
)
def test_mistakes_are_one_sentence_and_a_failure(arguments, message, capsys):
    assert __main__.main(arguments) == 1
    said = capsys.readouterr().err
    assert said.startswith(message)
    assert said.count("\n") == 1


def test_every_name_leads_to_something():
    for place in [*registry.DATASETS.values(), *registry.DOWNLOADS.values()]:
        assert callable(registry._find(place))
