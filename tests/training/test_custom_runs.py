"""Runs on the user's own images: labelled on a full grid, labelled otherwise, and without labels."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deft_lightning import DeftError
from deft_lightning.common.errors import Interrupted
from deft_lightning.training import run
from tests.helpers import BARE, TinySprites, compose_run, send_signal

pytestmark = pytest.mark.slow  # trains runs

OVERRIDES = (
    "data=custom",
    "batch_size=8",
    "schedule.epochs=[1,1,1,1]",
    "scale=smoke",
    "scale.fraction=1",
    "trainer=cpu",
    "logger=csv",
    *BARE,
)


def _pixels(count: int = 96) -> np.ndarray:
    images = TinySprites().images(torch.arange(96), torch.Generator())[:count, 0]
    return (images.numpy() * 255).astype(np.uint8)  # [N, 64, 64]


def _train(path: Path, folder: Path, *more: str) -> dict:
    cfg, folder = compose_run(folder, f"data.path={path}", *more, base=OVERRIDES)
    return run.train(cfg, folder)


def test_labels_on_a_full_grid_are_scored(tmp_path: Path) -> None:
    labels = TinySprites().space.factors(torch.arange(96)).numpy()
    order = np.random.default_rng(0).permutation(96)  # a grid is recognised in any order
    np.savez(tmp_path / "grid.npz", images=_pixels()[order], factors=labels[order])
    outcome = _train(tmp_path / "grid.npz", tmp_path / "run")
    assert outcome["data"]["factor_sizes"] == [2, 3, 4, 4]
    assert 0 <= outcome["stages"]["stage_4"]["scores"]["mig"] <= 1


def test_labels_without_a_grid_are_scored_by_rows(tmp_path: Path) -> None:
    labels = TinySprites().space.factors(torch.arange(96)).numpy()
    np.savez(tmp_path / "rows.npz", images=_pixels(90), factors=labels[:90])
    outcome = _train(tmp_path / "rows.npz", tmp_path / "run")
    assert outcome["data"]["factor_sizes"] == []
    assert outcome["boundaries"] == [11, 22, 33, 44]  # 90 images are 11 batches of 8; the rest is dropped
    assert 0 <= outcome["stages"]["stage_4"]["scores"]["mig"] <= 1


def test_a_folder_without_labels_is_trained_and_the_scores_that_need_them_skipped(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for index, pixels in enumerate(_pixels(24)):
        Image.fromarray(pixels).resize((80, 80)).save(tmp_path / "photos" / f"{index}.png")
    outcome = _train(tmp_path / "photos", tmp_path / "run")
    assert outcome["data"]["source"] == "file"
    assert any("64" in notice for notice in outcome["data"]["notices"])  # resized, and said so
    assert sorted(outcome["stages"]["stage_4"]["scores"]) == [
        "active_units",
        "kl",
        "reconstruction",
        "total_correlation",
    ]
    assert "score/mig" not in (tmp_path / "run" / "metrics.csv").read_text()


def test_a_run_is_not_resumed_on_a_replaced_file(tmp_path: Path) -> None:
    images = _pixels()
    np.savez(tmp_path / "own.npz", images=images)
    with pytest.raises(Interrupted):
        _train(tmp_path / "own.npz", tmp_path / "run", *send_signal(3, signal.SIGTERM))
    images[5, 0, 0] += 1
    np.savez(tmp_path / "own.npz", images=images)
    with pytest.raises(DeftError, match=r"began on images whose digest is [0-9a-f]{16}, and now it is [0-9a-f]{16}"):
        _train(tmp_path / "own.npz", tmp_path / "run", "resume=true")


def test_fewer_images_than_a_batch_is_one_sentence(tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", images=_pixels(1))
    with pytest.raises(DeftError, match="batch") as caught:
        _train(tmp_path / "one.npz", tmp_path / "run")
    assert "\n" not in str(caught.value)
