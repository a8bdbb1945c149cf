from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from deft_lightning.data.dsprites import renderer

SAMPLES = Path(__file__).resolve().parents[3].parent / "shared" / "dsprites" / "real_samples.npz"
SCALES, ANGLES = np.linspace(0.5, 1, 6), np.linspace(0, 2 * np.pi, 40)


def images(shape: int, scale: int, orientation: int) -> np.ndarray:
    """[posX, posY, row, column]"""
    return renderer.unpack(renderer.render(shape, scale, orientation)).reshape(32, 32, 64, 64)


@pytest.mark.slow  # thousands of images
@pytest.mark.skipif(not SAMPLES.exists(), reason="the published samples are not part of the project")
@pytest.mark.parametrize(
    ("shape", "count", "exact", "iou"), [(0, 86, 86, 1.0), (1, 71, 67, 0.99950), (2, 201, 199, 0.99991)]
)
def test_agreement_with_published_images(shape, count, exact, iou):
    with np.load(SAMPLES, allow_pickle=False) as samples:
        chosen = samples["latents"][:, 0] == shape
        real, latents = samples["images"][chosen].astype(bool), samples["latents"][chosen]
    ours = np.stack([images(*latent[:3])[latent[3], latent[4]] for latent in latents]).astype(bool)
    overlap = (ours & real).sum((1, 2)) / (ours | real).sum((1, 2))
    assert len(real) == count
    assert (ours == real).all((1, 2)).sum() >= exact
    assert overlap.mean() >= iou
    assert (ours != real).sum((1, 2)).max() <= 2


def brute_force(shape: int, scale: int, orientation: int, x: int, y: int) -> np.ndarray:
    """The definition, one pixel centre at a time, with the angle T of the heart's curve."""
    image = np.zeros((64, 64), np.uint8)
    s, t = SCALES[scale], ANGLES[orientation]
    for i, j in np.ndindex(64, 64):
        dx, dy = j + 0.5 - (16 + 32 * x / 31), i + 0.5 - (16 + 32 * y / 31)
        u, v = (np.cos(t) * dx - np.sin(t) * dy) / s, (np.sin(t) * dx + np.cos(t) * dy) / s
        if shape == 1:
            image[i, j] = (u / 12.765) ** 2 + (v / 7.2125) ** 2 < 1
        elif abs(u) < 9.59397:
            angle = np.arcsin((abs(u) / 9.59397) ** (1 / 3))
            image[i, j] = heart(angle) < v < heart(np.pi - angle)
    return image


def heart(t: float) -> float:
    series = (-1.43433, -8.60543, 3.31557, 1.32690, 0.66345)
    return sum(a * np.cos(n * t) for n, a in enumerate(series))


@pytest.mark.parametrize("latent", [(1, 5, 0, 0, 31), (1, 2, 17, 11, 4), (2, 5, 3, 31, 16), (2, 0, 29, 7, 20)])
def test_ellipse_and_heart_follow_their_definition(latent):
    assert np.array_equal(images(*latent[:3])[latent[3:]], brute_force(*latent))


def test_an_upright_square_has_whole_sides_and_ties_fall_left_and_bottom():
    image = images(0, 5, 0)[0, 0]  # centre (16, 16), half side 9.6: pixel centres from 6.5 to 25.5
    assert image.sum() == 20 * 20
    assert image[6:26, 6:26].all()
    # Scale 0.9: half side 8.64; at posX 20 the left edge is at 36.6452 - 8.64 = 28.0052, 28.0039 on the grid.
    assert images(0, 4, 0)[20, 0][16].nonzero()[0].tolist() == list(range(28, 45))


def test_a_pixel_centre_on_an_edge_counts_on_the_left_and_the_bottom(monkeypatch):
    monkeypatch.setattr(renderer, "_SQUARE_HALF_SIDE", 9.5)  # edges of the first sprite run through centres
    rows, columns = images(0, 5, 0)[0, 0].nonzero()
    assert (columns.min(), columns.max()) == (6, 24)  # 6.5 is on the left edge, 25.5 on the right one
    assert (rows.min(), rows.max()) == (7, 25)  # 6.5 is on the top edge, 25.5 on the bottom one


def test_areas_are_those_of_the_shapes():
    angle = np.linspace(0, np.pi / 2, 100_001)
    height = np.array([heart(np.pi - angle) - heart(angle)])[0]
    areas = (19.2**2, np.pi * 12.765 * 7.2125, 2 * np.trapezoid(height, 9.59397 * np.sin(angle) ** 3))
    for shape, area in enumerate(areas):
        for scale in (0, 3, 5):
            lit = images(shape, scale, 13).sum((2, 3)).mean()  # averaged over 1,024 positions in the pixel grid
            assert lit == pytest.approx(area * SCALES[scale] ** 2, rel=2e-3)


@pytest.mark.parametrize("shape", [0, 1, 2])
def test_first_and_last_orientation_coincide(shape):
    assert np.array_equal(renderer.render(shape, 4, 0), renderer.render(shape, 4, 39))


@pytest.mark.parametrize("shape", [1, 2])
def test_mirroring_reverses_position_and_orientation(shape):
    for orientation in (1, 8, 25):
        mirrored = images(shape, 3, 39 - orientation)[::-1, :, :, ::-1]
        assert np.array_equal(images(shape, 3, orientation), mirrored)


@pytest.mark.parametrize("shape", [0, 1, 2])
def test_positions_at_both_ends_are_32_pixels_apart_and_nothing_is_clipped(shape):
    block = images(shape, 5, 7)
    assert np.array_equal(block[0, :, :, :32], block[31, :, :, 32:])
    assert np.array_equal(block[:, 0, :32], block[:, 31, 32:])
    lit = images(shape, 5, 5).any((0, 1))
    assert lit.any(1).nonzero()[0].min() >= 2
    assert lit.any(0).nonzero()[0].max() <= 61
    assert block.any((2, 3)).all()


@pytest.mark.parametrize("orientation", [1, 5, 14, 19])
def test_growing_orientation_turns_counter_clockwise(orientation):
    # The long axis of the ellipse, from its second moments; y grows downwards, so that up is negative.
    offsets = np.array(images(1, 5, orientation)[16, 16].nonzero()[::-1]) + 0.5
    (xx, xy), (_, yy) = np.cov(offsets)
    seen = np.arctan2(-2 * xy, xx - yy) / 2 % np.pi
    assert seen == pytest.approx(ANGLES[orientation], abs=0.02)


def test_the_blocks_are_in_index_order(monkeypatch):
    monkeypatch.setattr(renderer, "render", lambda *combination: combination)
    assert list(renderer.blocks()) == [*np.ndindex(3, 6, 40)]


# Slow: all of dSprites is rendered.
@pytest.mark.slow
def test_the_whole_set_is_the_blocks_in_index_order(dsprites_root):
    with h5py.File(dsprites_root / "dsprites_rendered.h5") as file:
        assert file["images"].shape == (737_280, 512)
        for shape, scale, orientation in ((0, 0, 0), (1, 2, 31), (2, 5, 39)):
            first = ((shape * 6 + scale) * 40 + orientation) * 1024
            assert np.array_equal(file["images"][first : first + 1024], renderer.render(shape, scale, orientation))
