"""The experiments of the paper on their own data, at smoke scale: they run, learn, and record whose images they saw."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from deft_lightning.common import results
from deft_lightning.common.errors import DeftError
from deft_lightning.data import cars3d, mpi3d, shapes3d
from deft_lightning.data.factors import FactorSpace
from deft_lightning.data.smallnorb.dataset import SmallNORB
from deft_lightning.training import run
from tests.conftest import MakeOnce
from tests.data import test_cars3d, test_mpi3d, test_shapes3d
from tests.helpers import PLAIN, compose_run

DSPRITES = ("dsprites", "color_dsprites", "scream_dsprites")
STAGES = {"scream_dsprites": 2}  # the others have 4


def _train_and_check(experiment: str, root: Path, folder: Path, *overrides: str, source: str = "rendered") -> None:
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
    assert outcome["data"]["source"] == source
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


def _write_few_images(data: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of 30 to 96 images in the format of the published one, for which it is then taken."""
    if data == "shapes3d":
        monkeypatch.setattr(shapes3d, "MD5", None)
        monkeypatch.setattr(shapes3d.Shapes3D, "space", test_shapes3d.SPACE)
        test_shapes3d.write(root / shapes3d.FILE)
    elif data == "cars3d":
        monkeypatch.setattr(cars3d.Cars3D, "space", test_cars3d.SPACE)
        test_cars3d.write_folder(root / cars3d.FOLDER, test_cars3d.contents())
    else:
        toy = mpi3d.SUBSETS["toy"]._replace(space=test_mpi3d.SPACE, md5=None)
        monkeypatch.setitem(mpi3d.SUBSETS, "toy", toy)
        np.savez(root / toy.file, images=test_mpi3d.IMAGES)


@pytest.mark.slow  # 36 to 138 steps
@pytest.mark.parametrize("data", ["shapes3d", "cars3d", "mpi3d"])
def test_data_that_are_not_in_the_paper_run(data: str, tmp_path: Path, monkeypatch) -> None:
    _write_few_images(data, tmp_path, monkeypatch)
    _train_and_check(data, tmp_path, tmp_path / "run", "scale.fraction=0.5", source="published")


@pytest.mark.parametrize(
    ("data", "address"),
    [
        ("shapes3d", shapes3d.URL),
        ("cars3d", cars3d.URL),
        *((f"mpi3d data.subset={name}", subset.url) for name, subset in mpi3d.SUBSETS.items()),
    ],
)
def test_a_run_without_the_published_file_is_one_sentence_with_its_address(data: str, address: str, tmp_path: Path):
    base = (*f"+experiment={data}".split(), f"data.root={tmp_path}", "trainer=cpu", "logger=csv")
    with pytest.raises(DeftError, match=rf"^{tmp_path}[\w/]* has no .*{re.escape(address)}"):
        run.train(*compose_run(tmp_path / "run", *PLAIN, base=base))
