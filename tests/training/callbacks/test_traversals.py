"""Traversals: rows in order of KL, in each of which one latent moves, labelled with the factor of highest NMI."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deft_lightning import DeftError, FactorDataModule
from deft_lightning.evaluation.codes import Encoding, latent_labels
from deft_lightning.training import figures
from deft_lightning.training.callbacks import Evaluation, Traversals, evaluation
from tests.helpers import Recorder, TinySprites, UnlabelledSprites, plain_trainer, tiny_module

pytestmark = pytest.mark.slow  # trains runs

KL = np.array([0.1, 3.0, 0.0, 0.5, 2.0, 0.2, 0.3, 0.01, 0.02, 0.03])  # nats
ORDER = [1, 4, 3, 6, 5, 0, 9, 8, 7, 2]
LIVE = ORDER[:-1]  # without the latent that passes no information


class Drawn:
    """What the figures were asked to show."""

    def __init__(self) -> None:
        self.grid: tuple = ()
        self.labels: list[str] = []
        self.reconstructions: tuple = ()


@pytest.fixture
def encoding() -> Encoding:
    """Codes in which latent 1 is posX, latents 2 and 4 are scale and every other one is noise."""
    data = FactorDataModule(TinySprites(), batch_size=32)
    indices = data.sample(96)
    factors = data.dataset.factors(indices).numpy()
    codes = np.random.default_rng(0).normal(size=(96, 10)).astype(np.float32)
    codes[:, 1], codes[:, 2], codes[:, 4] = factors[:, 2], factors[:, 1], factors[:, 1]
    return Encoding(indices, codes, np.zeros_like(codes), factors, KL)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """Keeps what is drawn, and draws it."""
    kept = Drawn()
    grid, animation, reconstructions = (
        figures.traversal_grid,
        figures.traversal_animation,
        figures.reconstruction_grid,
    )

    def keep_grid(*arguments):
        kept.grid = arguments
        return grid(*arguments)

    def keep_animation(images, labels):
        kept.labels = labels
        return animation(images, labels)

    def keep_reconstructions(*arguments):
        kept.reconstructions = arguments
        return reconstructions(*arguments)

    monkeypatch.setattr(figures, "traversal_grid", keep_grid)
    monkeypatch.setattr(figures, "traversal_animation", keep_animation)
    monkeypatch.setattr(figures, "reconstruction_grid", keep_reconstructions)
    return kept


def _decode(latents: torch.Tensor) -> torch.Tensor:
    """Pictures that hold their own latents: row j of the pixels is latent j, from -4 to 4."""
    pictures = torch.zeros(len(latents), 1, 64, 64)
    pictures[:, 0, :10, :] = (latents[:, :, None] + 4) / 8
    return pictures


def _draw(folder: Path, encoding: Encoding, monkeypatch: pytest.MonkeyPatch, **options) -> Recorder:
    """One stage of training, after which the model encodes to `encoding` and decodes to pictures of the latents."""
    recorder, module = Recorder(), tiny_module()
    monkeypatch.setattr(evaluation, "encode", lambda *_: encoding)
    monkeypatch.setattr(module, "decode", _decode)
    trainer = plain_trainer(folder, Evaluation([Traversals(**options)]), logger=recorder, max_epochs=1)
    trainer.fit(module, FactorDataModule(TinySprites(), batch_size=32))
    return recorder


def test_rows_are_in_order_of_kl_and_only_their_latent_moves(tmp_path, encoding, drawn, monkeypatch) -> None:
    _draw(tmp_path, encoding, monkeypatch, columns=5, span=3.0)
    images, rows, span, title = drawn.grid
    assert [int(row.split()[0][1:]) for row in rows] == LIVE
    assert (images.shape, span, title) == ((len(LIVE), 5, 1, 64, 64), 3.0, "stage 1, step 3")
    latents = images[:, :, 0, :10, 0] * 8 - 4  # [row, column, latent]
    for row, latent in enumerate(LIVE):
        expected = np.tile(encoding.codes[0], (5, 1))
        expected[:, latent] = [-3, -1.5, 0, 1.5, 3]
        np.testing.assert_allclose(latents[row], expected, atol=1e-5)


def test_labels_name_the_factor_of_highest_nmi(tmp_path, encoding, drawn, monkeypatch) -> None:
    _draw(tmp_path, encoding, monkeypatch, columns=5)
    assert drawn.grid[1][:2] == ["z1  3.00 nats  posX 1.00", "z4  2.00 nats  scale 1.00"]
    assert drawn.labels[:2] == ["z1 posX 1.00", "z4 scale 1.00"]
    assert [label.split()[0] for label in drawn.labels] == [f"z{j}" for j in LIVE]


def test_a_latent_that_passes_no_information_has_no_row_and_no_label(tmp_path, encoding, drawn, monkeypatch) -> None:
    """Latent 2 is scale, but its KL is 0."""
    _draw(tmp_path, encoding, monkeypatch, columns=5)
    assert not any(label.startswith("z2 ") for label in [*drawn.grid[1], *drawn.labels])
    names = ("shape", "scale", "posX", "posY")
    assert latent_labels(encoding._replace(kl=np.full(10, 0.02)), names, 20)[2] == "scale 1.00"
    assert latent_labels(encoding._replace(kl=np.full(10, 0.009)), names, 20) == [""] * 10


def test_a_collapsed_model_has_one_row(tmp_path, encoding, drawn, monkeypatch) -> None:
    _draw(tmp_path, encoding._replace(kl=np.linspace(0, 0.009, 10)), monkeypatch, columns=5)
    assert drawn.grid[1] == ["z9  0.01 nats"]


def test_a_latent_that_matches_no_factor_has_no_label(encoding: Encoding) -> None:
    """A constant code has an NMI of 0 with every factor."""
    encoding.codes[:, 0] = 1.0
    assert latent_labels(encoding, ("shape", "scale", "posX", "posY"), 20)[:2] == ["", "posX 1.00"]


@pytest.mark.parametrize("options", [{"columns": 0}, {"examples": 0}, {"span": 0}])
def test_wrong_arguments_are_refused_before_training(options: dict[str, int]) -> None:
    with pytest.raises(DeftError, match=rf"callbacks\.traversals\.{next(iter(options))} is 0: give a"):
        Traversals(**options)


def test_data_without_factors_have_no_labels(encoding: Encoding) -> None:
    assert latent_labels(encoding._replace(factors=None), (), 20) == [""] * 10


@pytest.mark.parametrize("columns", [4, 9])
def test_the_animation_goes_there_and_back(columns: int, tmp_path, encoding, drawn, monkeypatch) -> None:
    _draw(tmp_path, encoding, monkeypatch, columns=columns)
    animation = Image.open(tmp_path / "figures" / "traversals_stage_1.gif")
    assert animation.n_frames == 2 * columns - 2
    assert animation.info["loop"] == 0
    frames = []
    for i in range(animation.n_frames):
        animation.seek(i)
        frames.append(np.asarray(animation.convert("RGB")).astype(int))
    for i in range(1, columns - 1):
        assert np.abs(frames[i] - frames[-i]).max() <= 2  # the way back; a palette may round
        assert np.abs(frames[i] - frames[i + 1]).max() > 8


def test_originals_stand_above_their_own_reconstructions(tmp_path, encoding, drawn, monkeypatch) -> None:
    _draw(tmp_path, encoding, monkeypatch, columns=4, examples=6)
    originals, decoded, title = drawn.reconstructions
    expected = TinySprites().images(encoding.indices[:6], torch.Generator())
    np.testing.assert_array_equal(originals, expected.numpy())
    assert title == "stage 1, step 3"
    assert decoded.shape == (6, 1, 64, 64)
    assert len(np.unique(decoded[:, 0, 0, 0])) == 6  # each from its own code


def test_pictures_reach_the_run_folder_and_the_logger(tmp_path, encoding, drawn, monkeypatch) -> None:
    recorder = _draw(tmp_path, encoding, monkeypatch, columns=4)
    folder = tmp_path / "figures"
    assert recorder.images == [
        (3, "traversals", [str(folder / "traversals_stage_1.png")]),
        (3, "reconstructions", [str(folder / "reconstructions_stage_1.png")]),
    ]
    for _, _, paths in recorder.images:
        Image.open(paths[0]).load()


def test_data_without_labels_is_traversed_all_the_same(tmp_path: Path, drawn: Drawn) -> None:
    trainer = plain_trainer(tmp_path, Evaluation([Traversals(columns=3)]), max_epochs=1)
    trainer.fit(tiny_module(), FactorDataModule(UnlabelledSprites(), batch_size=32))
    assert all(row.endswith("nats") for row in drawn.grid[1])
    assert (tmp_path / "figures" / "traversals_stage_1.gif").is_file()
