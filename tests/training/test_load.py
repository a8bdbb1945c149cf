"""The trained model of a run folder."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from deft_lightning import DeftError, load_model, load_run
from deft_lightning.common import results
from deft_lightning.training import run
from deft_lightning.training.load import load_data
from tests.conftest import MakeOnce
from tests.helpers import BARE, compose_run

pytestmark = pytest.mark.slow  # trains a run


@pytest.fixture(scope="session")
def folder(make_once: MakeOnce) -> Path:
    """A finished run of four stages."""
    return make_once("to_load", lambda folder: run.train(*compose_run(folder, *BARE)))


def test_a_run_gives_its_model_and_its_data(folder: Path) -> None:
    model, data = load_run(folder, trust=True)
    assert not model.training
    images = next(data.evaluation_images(torch.arange(8)))
    saved = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(value, saved[name]) for name, value in model.state_dict().items())
    assert model.encode(images).mean.shape == (8, 10)
    assert (data.batch_size, data.seed) == (8, 0)


def test_the_weights_of_every_stage_can_be_had(folder: Path) -> None:
    first, last = (load_model(folder, stage) for stage in (1, 4))
    assert (first._trained_steps, last._trained_steps) == (12, 48)
    assert not torch.equal(first.decoder.hidden.weight, last.decoder.hidden.weight)
    assert torch.equal(load_model(folder).decoder.hidden.weight, last.decoder.hidden.weight)
    with pytest.raises(DeftError, match=r"there is no stage 5 in .*: it has 1, 2, 3, 4\."):
        load_model(folder, 5)


def test_latents_are_named_after_the_factors_that_the_run_measured(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "run"))
    matrix = [[0.0] * 4 for _ in range(10)]
    matrix[2][3] = matrix[7][3] = 0.8  # posY, twice
    matrix[5][1] = 0.5  # scale
    matrix[6][0] = 0.9  # shape, in a latent that passes no information
    kl = [1.0] * 10
    kl[6] = 0.001
    results.update(copy, stages={"stage_4": {"nmi": matrix, "kl_per_latent": kl}})
    names = load_model(copy).latent_names
    assert names[2] == "posY"
    assert names[7] == "posY (latent 7)"
    assert names[5:7] == ["scale", "latent 6"]
    content = results.read(copy)
    del content["stages"]["stage_1"], content["stages"]["stage_2"]  # as of a run that starts from another's weights
    (copy / results.FILE).write_text(json.dumps(content))
    assert load_model(copy).latent_names == load_model(copy, 4).latent_names == names
    assert len(set(names)) == 10


def test_data_from_outside_the_package_need_trust(folder: Path) -> None:
    with pytest.raises(DeftError, match=r"the data of .* are tests.helpers.TinySprites, which is not part of"):
        load_run(folder)


def test_nothing_inside_the_data_is_imported_without_trust(folder: Path, tmp_path: Path, monkeypatch) -> None:
    """Also where only an option of a data set of this package names it."""
    copy = Path(shutil.copytree(folder, tmp_path / "run"))
    (tmp_path / "harmful.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    cfg = OmegaConf.load(copy / "config.yaml")
    for target in ("deft_lightning.data.CustomImages", "deft_lightning.common.files.os.system"):
        cfg.data = {"_target_": target, "path": {"_target_": "harmful.path"}}
        OmegaConf.save(cfg, copy / "config.yaml")
        with pytest.raises(DeftError, match=r"which is not part of deft_lightning: add trust=True"):
            load_data(copy)
    assert "harmful" not in sys.modules


def test_other_images_than_those_of_the_training_are_refused(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "run"))
    results.update(copy, data={"source": "painted"})
    with pytest.raises(DeftError, match="began on images whose source is painted"):
        load_run(copy, trust=True)


def test_a_folder_without_a_run_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DeftError, match="there is no run in"):
        load_model(tmp_path)
