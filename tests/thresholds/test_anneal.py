"""The anneal test as a run: what it records, which files it writes, and that it can be resumed."""

from __future__ import annotations

import csv
import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from deft_lightning import DEFT, BetaVAE, DeftError, Groups
from deft_lightning.common import results
from deft_lightning.common.errors import Interrupted
from deft_lightning.model.schedules.anneal import Anneal
from deft_lightning.thresholds import crossing, loss_log, record
from deft_lightning.thresholds.recorder import AnnealRecorder
from deft_lightning.training import run
from tests.helpers import UNLABELLED, TinySprites, compose_run, plain_trainer, send_signal

pytestmark = pytest.mark.slow  # trains runs

ANNEAL = (
    "+experiment=color_dsprites",  # the anneal test replaces its four groups and its pressures
    *UNLABELLED,
    "+data.channels=1",
    "batch_size=8",
    "schedule.beta_high=300",
    "schedule.steps=60",
    "scale=smoke",
    "scale.fraction=1",
    "lr=0.002",
    "callbacks.anneal_recorder.window=8",
    "callbacks.anneal_recorder.limit=0.0008",  # 60 steps learn less than the 0.1 nats of a real test
    "trainer.accelerator=cpu",
    "trainer.log_every_n_steps=1",
    "logger=csv",
)
"""An anneal test of 60 steps on images without labels."""


def anneal(folder: Path, *overrides: str) -> dict:
    return run.train(*compose_run(folder, *overrides, base=ANNEAL, config="thresholds"))


def _thresholds(folder: Path) -> dict:
    return json.loads((folder / record.FILE).read_text())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("anneal") / "run"
    anneal(folder)
    return folder


def test_the_curve_is_that_of_the_run(finished: Path) -> None:
    """Every step, with the beta that was in force in it and the losses of metrics.csv."""
    (curve,) = record.read(finished, "anneal")["curves"]
    assert curve["step"] == list(range(1, 61))
    assert curve["beta"] == pytest.approx([max(300 * (1 - (step - 1) / 60), 1) for step in curve["step"]], rel=1e-5)
    with (finished / "metrics.csv").open() as rows:
        logged = [row for row in csv.DictReader(rows) if row["train/kl"]]
    assert curve["kl"] == pytest.approx([float(row["train/kl"]) for row in logged], rel=1e-4)
    assert curve["reconstruction"] == pytest.approx([float(row["train/reconstruction"]) for row in logged], rel=1e-4)
    assert [row[3] for row in curve["kl_per_latent"]] == pytest.approx(
        [float(row["train/kl/latent_03"]) for row in logged], rel=1e-4
    )


def test_what_a_test_leaves_behind(finished: Path) -> None:
    content, outcome = record.read(finished, "anneal"), results.read(finished)
    assert outcome["status"] == "finished"
    assert (content["data"]["name"], content["data"]["factors"]) == ("tiny", [])
    expected = {"beta_high": 300, "steps": 60, "batch_size": 8, "lr": 0.002, "seed": 0, "limit": 0.0008, "window": 8}
    assert content["settings"] == expected | {"likelihood": "Bernoulli"}
    assert outcome["thresholds"]["threshold"] == content["threshold"]
    assert len(outcome["thresholds"]["latent_thresholds"]) == 10
    assert 1 < content["threshold"]["pressure"] < 300
    assert (finished / "figures" / "anneal.png").stat().st_size > 10_000
    assert outcome["training"]["groups"]["latents"] == [10]


@pytest.mark.parametrize("every", [7, 100])  # 100 is more steps than the test has
def test_thresholds_do_not_depend_on_how_often_the_logger_writes(every: int, finished: Path, tmp_path: Path) -> None:
    """The test of `finished` was logged at every step."""
    anneal(tmp_path / "run", f"trainer.log_every_n_steps={every}")
    assert _thresholds(tmp_path / "run") == _thresholds(finished)


@pytest.mark.parametrize("step", [16, 17])  # stopped after 17 steps, which end a block of records, and after 18
def test_stopped_and_resumed_equals_uninterrupted(
    step: int, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss_log, "BLOCK", 17)
    with pytest.raises(Interrupted):
        anneal(tmp_path / "run", *send_signal(step, signal.SIGTERM))
    anneal(tmp_path / "run", "resume=true")
    assert _thresholds(tmp_path / "run") == _thresholds(finished)


def test_a_test_killed_after_its_last_step_has_its_thresholds_when_resumed(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / record.FILE).unlink()
    results.update(tmp_path / "run", status="running")
    anneal(tmp_path / "run", "resume=true")
    assert _thresholds(tmp_path / "run") == _thresholds(finished)


@pytest.mark.parametrize("settling", [20, 500])  # noticed after 20 steps, or else at the end
def test_a_beta_high_that_is_too_low_stops_the_test_with_one_sentence(
    settling: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = []  # steps
    check = crossing.check_beta_high

    def counting(curve: crossing.Curve, *rule: float) -> None:
        recorded.append(len(curve.step))
        check(curve, *rule)  # type: ignore[arg-type]

    monkeypatch.setattr(crossing, "SETTLING", settling)
    monkeypatch.setattr(crossing, "check_beta_high", counting)
    sentence = r"^schedule.beta_high is 2, near or below the threshold .* raise it about .* times, schedule.beta_high="
    with pytest.raises(DeftError, match=sentence) as caught:
        anneal(tmp_path / "run", "schedule.beta_high=2", "callbacks.anneal_recorder.limit=0.00001")
    assert "\n" not in str(caught.value)
    assert recorded == [min(settling, 60)]
    outcome = results.read(tmp_path / "run")
    assert (outcome["status"], outcome["reason"]) == ("failed", str(caught.value))
    assert not (tmp_path / "run" / record.FILE).exists()


def test_a_threshold_never_crossed_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="deft_lightning"):
        anneal(tmp_path / "run", "callbacks.anneal_recorder.limit=1000")
    content = record.read(tmp_path / "run", "anneal")
    assert (content["threshold"], content["latent_thresholds"]) == (None, [None] * 10)
    assert "KL never stays above 1000 nats" in content["notices"][0]
    assert content["notices"][0] in caplog.text


def test_a_plain_loader_is_recorded_as_a_data_module_is(tmp_path: Path) -> None:
    images = TinySprites().images(torch.arange(96), torch.Generator())
    module = DEFT(Groups([10]), Anneal(300.0, steps=6), BetaVAE(), image_shape=(1, 64, 64))
    trainer = plain_trainer(tmp_path, AnnealRecorder(window=2), max_steps=6)
    trainer.fit(module, torch.utils.data.DataLoader(images, batch_size=32))
    content = record.read(tmp_path, "anneal")
    assert content["data"]["images"] == 96
    assert content["settings"]["steps"] == len(content["curves"][0]["beta"]) == 6


def test_one_image_has_no_threshold(tmp_path: Path) -> None:
    with pytest.raises(DeftError, match="the data set has 1 image, and nothing varies in it"):
        anneal(tmp_path / "run", "data._target_=tests.helpers.OneImage", "batch_size=1")


@pytest.mark.acceptance  # starts two processes
# Slow: two processes that import torch and Lightning.
@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo")
def test_two_processes_record_the_averages_of_the_whole_batch(finished: Path, tmp_path: Path) -> None:
    anneal(tmp_path / "run", "trainer=ddp", "trainer.accelerator=cpu")
    ours, theirs = _thresholds(tmp_path / "run"), _thresholds(finished)
    assert ours["threshold"] == theirs["threshold"]
    for column, values in theirs["curves"][0].items():
        np.testing.assert_allclose(ours["curves"][0][column][:30], values[:30], rtol=1e-4, atol=1e-5)
        # Afterwards rounding, which two processes do in another order, grows at a pace that depends on the processor.
        np.testing.assert_allclose(ours["curves"][0][column], values, rtol=0.02, atol=0.05)


def test_every_record_passes_finish_block_once() -> None:
    """Whether it is read at the end of a block or before, and also after the records are resumed."""
    error, kl = torch.rand(250), torch.rand(250, 3)
    first = loss_log.LossLog(finish_block=lambda block: block * 2)
    for step in range(130):
        first.append(error[step], kl[step])
        if step in (40, 99, 129):  # within a block, and at the ends of one
            assert len(first.rows) == step + 1
    second = loss_log.LossLog(first.rows, lambda block: block * 2)
    for step in range(130, 250):
        second.append(error[step], kl[step])
    curve = second.curve(Anneal(200, 250).timeline())
    assert curve.step.tolist() == list(range(1, 251))
    torch.testing.assert_close(torch.tensor(curve.reconstruction).float(), 2 * error)
    torch.testing.assert_close(torch.tensor(curve.kl_per_latent).float(), 2 * kl)
    assert curve.beta[[0, 125]].tolist() == [200, 100]
