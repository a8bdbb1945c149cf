"""The anneal test as a run: what it records, what it leaves behind, and that it goes on after a stop."""

from __future__ import annotations

import csv
import json
import shutil
import signal
from pathlib import Path

import pytest

from deft_lightning import DeftError
from deft_lightning.common import results
from deft_lightning.common.errors import Interrupted
from deft_lightning.thresholds import record
from deft_lightning.training import run
from tests.helpers import UNLABELLED, compose_run
from tests.training.test_resume import _send

ANNEAL = (
    "+experiment=color_dsprites",  # its four groups and pressures give way to the test's
    *UNLABELLED,
    "+data.channels=1",
    "batch_size=8",
    "schedule.beta_high=300",
    "schedule.steps=60",
    "scale=smoke",
    "scale.fraction=1",
    "lr=0.002",
    "callbacks.anneal_recorder.window=8",
    "callbacks.anneal_recorder.limit=0.0008",  # so few steps learn less than the 0.1 nats of a real test
    "trainer.accelerator=cpu",
    "trainer.log_every_n_steps=2",
    "logger=csv",
)
"""An anneal test of 60 steps on images without labels."""


def anneal(folder: Path, *overrides: str) -> dict:
    return run.train(*compose_run(folder, *overrides, base=ANNEAL, config="thresholds"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("anneal") / "run"
    anneal(folder)
    return folder


def test_the_curve_is_that_of_the_run(finished: Path) -> None:
    """Every second step, with the beta that was in force in it and the numbers of metrics.csv."""
    found = record.read(finished, "anneal")
    (curve,) = found["curves"]
    assert curve["step"] == list(range(2, 61, 2))
    assert curve["beta"] == pytest.approx([max(300 * (1 - (step - 1) / 60), 1) for step in curve["step"]], rel=1e-5)
    with (finished / "metrics.csv").open() as rows:
        logged = [row for row in csv.DictReader(rows) if row["train/kl"]]
    assert curve["kl"] == pytest.approx([float(row["train/kl"]) for row in logged], rel=1e-4)
    assert curve["reconstruction"] == pytest.approx([float(row["train/reconstruction"]) for row in logged], rel=1e-4)
    assert [row[3] for row in curve["kl_per_latent"]] == pytest.approx(
        [float(row["train/kl/latent_03"]) for row in logged], rel=1e-4
    )


def test_what_a_test_leaves_behind(finished: Path) -> None:
    found, outcome = record.read(finished, "anneal"), results.read(finished)
    assert outcome["status"] == "finished"
    assert (found["data"]["name"], found["data"]["factors"]) == ("tiny", [])
    expected = {"beta_high": 300, "steps": 60, "batch_size": 8, "lr": 0.002, "seed": 0, "limit": 0.0008, "window": 8}
    assert found["settings"] == expected
    assert outcome["thresholds"]["threshold"] == found["threshold"]
    assert len(outcome["thresholds"]["latent_thresholds"]) == 10
    assert 1 < found["threshold"]["pressure"] < 300
    assert (finished / "figures" / "anneal.png").stat().st_size > 10_000
    assert outcome["training"]["groups"]["latents"] == [10]


@pytest.mark.parametrize("step", [16, 17])  # a step that is recorded, and one that is not
def test_stopped_and_resumed_equals_uninterrupted(step: int, finished: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        anneal(tmp_path / "run", *_send(step, signal.SIGTERM))
    anneal(tmp_path / "run", "resume=true")
    assert json.loads((tmp_path / "run" / record.FILE).read_text()) == json.loads((finished / record.FILE).read_text())


def test_a_test_killed_after_its_last_step_has_its_thresholds_when_resumed(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / record.FILE).unlink()
    results.update(tmp_path / "run", status="running")
    anneal(tmp_path / "run", "resume=true")
    assert json.loads((tmp_path / "run" / record.FILE).read_text()) == json.loads((finished / record.FILE).read_text())


def test_a_beta_high_that_is_too_low_stops_the_test_with_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DeftError, match=r"above the beta_high of 2: raise it about .* times, schedule.beta_high=") as e:
        anneal(tmp_path / "run", "schedule.beta_high=2", "callbacks.anneal_recorder.limit=0.00001")
    assert "\n" not in str(e.value)
    known = results.read(tmp_path / "run")
    assert (known["status"], known["reason"]) == ("failed", str(e.value))
    assert not (tmp_path / "run" / record.FILE).exists()


def test_a_threshold_never_crossed_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="deft_lightning"):
        anneal(tmp_path / "run", "callbacks.anneal_recorder.limit=1000")
    found = record.read(tmp_path / "run", "anneal")
    assert (found["threshold"], found["latent_thresholds"]) == (None, [None] * 10)
    assert "KL never stays above 1000 nats" in found["notices"][0]
    assert found["notices"][0] in caplog.text


def test_one_image_has_no_threshold(tmp_path: Path) -> None:
    with pytest.raises(DeftError, match="the data set has 1 image: nothing varies in it"):
        anneal(tmp_path / "run", "data._target_=tests.helpers.OneImage", "batch_size=1")


def test_nothing_recorded_is_said(tmp_path: Path) -> None:
    with pytest.raises(DeftError, match="log_every_n_steps is more than the 60 steps"):
        anneal(tmp_path / "run", "trainer.log_every_n_steps=100")
