"""The experiments of the paper on their own data, at smoke scale: they run, learn, and record whose images they saw."""

from __future__ import annotations

from pathlib import Path

import pytest

from deft_lightning.common import results
from deft_lightning.data.factors import FactorSpace
from deft_lightning.data.smallnorb.dataset import SmallNORB
from deft_lightning.training import run
from tests.conftest import MakeOnce
from tests.helpers import PLAIN, compose_run

DSPRITES = ("dsprites", "color_dsprites", "scream_dsprites")
STAGES = {"scream_dsprites": 2}  # the others have 4


def _train_and_check(experiment: str, root: Path, folder: Path, *overrides: str) -> None:
    """Train as many steps as smoke scale has, of 8 images each."""
    base = (
        f"+experiment={experiment}",
        "scale=smoke",
        "scale.fraction=0.0000625",
        "batch_size=8",
        f"data.root={root}",
        "trainer=cpu",
        "logger=csv",
    )
    outcome = run.train(*compose_run(folder, *PLAIN, *overrides, base=base))
    assert outcome["status"] == "finished"
    assert outcome["data"]["source"] == "rendered"
    assert outcome["data"]["notices"]
    assert list(outcome["stages"]) == [f"stage_{i + 1}" for i in range(STAGES.get(experiment, 4))]
    channels, height, width = outcome["data"]["shape"]
    untrained = 0.6931 * channels * height * width  # ln 2 nats for every pixel
    first, *_, last = (stage["scores"]["reconstruction"] for stage in outcome["stages"].values())
    assert 0 < last < min(first, untrained)
    assert results.read(folder)["config_digest"] == results.digest(outcome["training"])


@pytest.mark.slow  # 110 to 130 steps, after all of dSprites is rendered
@pytest.mark.parametrize("experiment", DSPRITES)
def test_experiment_runs_at_smoke_scale(experiment: str, dsprites_root: Path, tmp_path: Path) -> None:
    _train_and_check(experiment, dsprites_root, tmp_path / "run")


@pytest.mark.slow  # 190 steps, after the images are rendered
def test_smallnorb_runs_on_a_part_of_its_images(make_once: MakeOnce, tmp_path: Path, monkeypatch) -> None:
    """1,620 of the 48,600 images: all categories and lightings, every other azimuth, fewer instances and elevations."""
    names = ("category", "instance", "elevation", "azimuth", "lighting")
    monkeypatch.setattr(SmallNORB, "space", FactorSpace(names, (5, 2, 3, 9, 6), nuisance=("instance",)))
    steps = "scale.fraction=0.0019"  # with 202 steps an epoch
    _train_and_check("smallnorb", tmp_path, tmp_path / "run", steps)


@pytest.mark.acceptance  # renders all images first
@pytest.mark.slow
def test_smallnorb_runs_on_all_its_images(tmp_path: Path) -> None:
    _train_and_check("smallnorb", tmp_path, tmp_path / "run")
