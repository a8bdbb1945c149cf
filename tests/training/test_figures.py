"""Figures: the place, colour and label of every image, and the values of every line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deft_lightning.common.pictures import GAP, mosaic
from deft_lightning.training import figures


def _images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


@pytest.mark.parametrize("channels", [1, 3])
def test_mosaic_puts_every_image_in_its_place(channels: int) -> None:
    images = _images(3, 4, channels, 8, 6)
    picture = mosaic(images, gap=2)
    assert picture.shape == (3 * 8 + 2 * 2, 4 * 6 + 3 * 2, 3)
    covered = np.zeros(picture.shape[:2], bool)
    for j in range(3):
        for i in range(4):
            place = np.s_[j * 10 : j * 10 + 8, i * 8 : i * 8 + 6]
            expected = np.broadcast_to(images[j, i], (3, 8, 6)).transpose(1, 2, 0)
            assert np.abs(picture[place] / 255 - expected).max() <= 0.5 / 255 + 1e-6
            covered[place] = True
    assert (picture[~covered] == 255).all()


def test_one_channel_is_grey_and_three_are_red_green_blue() -> None:
    grey = np.full((1, 1, 1, 4, 4), 0.4, np.float32)
    assert (mosaic(grey) == 102).all()
    colour = np.zeros((1, 1, 3, 4, 4), np.float32)
    colour[0, 0, 0], colour[0, 0, 2] = 1.0, 0.2
    assert (mosaic(colour) == [255, 0, 51]).all()


def test_values_outside_0_to_1_are_clipped() -> None:
    images = np.array([-0.5, 0.0, 1.0, 1.7], np.float32).reshape(1, 4, 1, 1, 1)
    assert mosaic(images, gap=0)[0, :, 0].tolist() == [0, 0, 255, 255]


def test_traversal_grid_labels_every_row_and_column() -> None:
    images = _images(3, 5, 1, 64, 64)
    figure = figures.traversal_grid(images, ["z4  posX", "z0", "z1"], 2.0, "stage 1")
    (axes,) = figure.axes
    np.testing.assert_array_equal(axes.images[0].get_array(), mosaic(images))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["z4  posX", "z0", "z1"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["-2.0", "-1.0", "0", "+1.0", "+2.0"]
    middle = [31.5 + (64 + GAP) * i for i in range(5)]
    assert axes.get_yticks().tolist() == middle[:3]
    assert axes.get_xticks().tolist() == middle
    assert axes.get_title() == "stage 1"


def test_reconstructions_stand_below_their_originals() -> None:
    originals, reconstructions = _images(6, 3, 64, 64), _images(6, 3, 64, 64)[::-1]
    (axes,) = figures.reconstruction_grid(originals, reconstructions, "stage 2").axes
    picture = axes.images[0].get_array()
    np.testing.assert_array_equal(picture[:64], mosaic(originals[None]))
    np.testing.assert_array_equal(picture[64 + GAP :], mosaic(reconstructions[None]))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["original", "reconstruction"]


def test_heat_map_shows_the_matrix_under_the_names() -> None:
    matrix = np.array([[0.9, 0.1, 0.0], [0.25, 0.5, 1.0]])
    figure = figures.nmi_heat_map(matrix, ["shape", "posX", "posY"], "step 7")
    axes = figure.axes[0]
    np.testing.assert_array_equal(axes.images[0].get_array(), matrix)
    assert axes.images[0].get_clim() == (0, 1)  # the same colour means the same in every figure
    assert [label.get_text() for label in axes.get_xticklabels()] == ["shape", "posX", "posY"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["z0", "z1"]
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert cells == {(k, j): f"{matrix[j, k]:.2f}" for j in range(2) for k in range(3)}
    assert axes.get_title() == "step 7"


def test_numbers_stand_out_from_their_cell() -> None:
    matrix = np.linspace(0, 1, 21).reshape(3, 7)
    axes = figures.nmi_heat_map(matrix, list("abcdefg"), "").axes[0]
    for text in axes.texts:
        k, j = map(int, text.get_position())
        cell = np.array(axes.images[0].cmap(matrix[j, k])[:3]) @ [0.2126, 0.7152, 0.0722]
        ink = 1.0 if text.get_color() == "w" else 0.0
        assert abs(cell - ink) > 0.4, (matrix[j, k], text.get_color())


HISTORY = {  # as results.json has it: the order of steps is that of writing, and a resumed run may repeat some
    "200": {"max1": {"shape": 0.3, "posX": 0.6}, "max2": {"shape": 0.2, "posX": 0.1}},
    "50": {"max1": {"shape": 0.1, "posX": 0.4}, "max2": {"shape": 0.05, "posX": 0.3}},
    "1000": {"max1": {"shape": 0.5, "posX": 0.9}, "max2": {"shape": 0.4, "posX": 0.0}},
}


def test_nmi_over_training_has_two_lines_a_factor_and_a_mark_a_stage() -> None:
    (axes,) = figures.nmi_over_training(HISTORY, [100, 400, 1000]).axes
    curves, marks = axes.lines[:4], axes.lines[4:]
    assert [list(line.get_xdata()) for line in curves] == [[50, 200, 1000]] * 4
    assert [list(line.get_ydata()) for line in curves] == [
        [0.1, 0.3, 0.5],  # shape, max-1
        [0.05, 0.2, 0.4],  # shape, max-2
        [0.4, 0.6, 0.9],  # posX, max-1
        [0.3, 0.1, 0.0],  # posX, max-2
    ]
    assert [line.get_linestyle() for line in curves] == ["-", ":", "-", ":"]
    colours = [line.get_color() for line in curves]
    assert colours[0] == colours[1] != colours[2] == colours[3]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["shape", "posX"]
    assert [list(line.get_xdata()) for line in marks] == [[100, 100], [400, 400]]  # not the end of the training
    assert axes.get_ylim() == (0, 1)


def test_nothing_is_cut_off_the_file(tmp_path: Path) -> None:
    """Long labels on all sides: the outermost pixels are white."""
    row = "z10  12.34 nats  orientation 0.83"
    for name, figure in {
        "grid": figures.traversal_grid(np.zeros((2, 3, 1, 64, 64), np.float32), [row, row], 2.0, "stage 4, " * 4),
        "heat": figures.nmi_heat_map(np.zeros((10, 5)), ["orientation of the object"] * 5, "step 1,234,567"),
        "nmi": figures.nmi_over_training(
            {"1": {"max1": {"orientation of the object": 0.5}, "max2": {"orientation of the object": 0.1}}}, [1]
        ),
    }.items():
        figures.write_png(figure, tmp_path / f"{name}.png")
        pixels = np.asarray(Image.open(tmp_path / f"{name}.png").convert("L"))
        for edge in (pixels[:2], pixels[-2:], pixels[:, :2], pixels[:, -2:]):
            assert edge.min() > 250
        assert pixels.min() < 50


def test_animation_shows_every_latent_in_its_own_tile(tmp_path: Path) -> None:
    columns, latents = 4, 7
    images = np.zeros((latents, columns, 1, 64, 64), np.float32)
    images += np.arange(latents).reshape(-1, 1, 1, 1, 1) / 10 + np.arange(columns).reshape(1, -1, 1, 1, 1) / 20
    animation = figures.traversal_animation(images, [f"z{j}" for j in range(latents)], scale=2)
    assert len(animation.frames) == 2 * columns - 2
    there_and_back = [0, 1, 2, 3, 2, 1]
    for frame, column in zip(animation.frames, there_and_back, strict=True):
        pixels = np.asarray(frame)
        for j in range(latents):
            tile = pixels[(j // 5) * 148 + 16 :, (j % 5) * 132 :][:128, :128]  # a bar of 16 for the label above it
            assert np.abs(tile - 255 * images[j, column, 0, 0, 0]).max() <= 0.501
    animation.save(tmp_path / "a.gif")
    saved = Image.open(tmp_path / "a.gif")
    assert (saved.n_frames, saved.info["loop"], saved.info["duration"]) == (6, 0, 120)
