"""Runs whose schedule follows the training: the same stages however often numbers are logged, and when resumed."""

from __future__ import annotations

import itertools
import logging
import shutil
import signal
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from deft_lightning import DEFT, Adaptive, FactorDataModule
from deft_lightning.common import results
from deft_lightning.common.errors import DeftError, Interrupted
from deft_lightning.model.checkpoint import read_checkpoint
from deft_lightning.model.schedules.adaptive import AdaptiveTimeline
from deft_lightning.training import run
from deft_lightning.training.callbacks import AdaptiveStages
from tests.conftest import MakeOnce
from tests.helpers import BARE, TinySprites, compose_run, plain_trainer, send_signal, slowly, tiny_module

pytestmark = pytest.mark.slow  # trains runs

ADAPTIVE = (
    *BARE,
    "schedule=adaptive",
    "schedule.epochs=[2,2,2,2]",
    "schedule.pressures=[1,1,1,1]",  # low pressures and a high learning rate: the KL changes from the start
    "lr=1e-2",
    "schedule.min_epochs=0.9",
    "schedule.window=4",
    "schedule.patience=1",
    "schedule.tolerance=0.2",
)


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"]


@pytest.fixture(scope="session")
def every_step(make_once: MakeOnce) -> Path:
    """A run that logs the numbers of every step."""
    overrides = (*ADAPTIVE, "trainer.log_every_n_steps=1")
    return make_once("adaptive", lambda folder: run.train(*compose_run(folder, *overrides)))


def test_the_ends_depend_on_the_kl(every_step: Path) -> None:
    """Otherwise the next test could not fail: a stage ends neither as early nor as late as it may."""
    ends = results.read(every_step)["boundaries"]
    lengths = [end - begin for begin, end in zip([0, *ends], ends, strict=False)]
    assert any(12 < length < 24 for length in lengths)


@pytest.mark.parametrize("every", [7, 50])
def test_stages_end_at_the_same_steps_however_often_numbers_are_logged(
    every: int, every_step: Path, tmp_path: Path
) -> None:
    run.train(*compose_run(tmp_path / "run", *ADAPTIVE, f"trainer.log_every_n_steps={every}"))
    ours, theirs = results.read(tmp_path / "run"), results.read(every_step)
    for key in ("boundaries", "stages", "steps", "status"):
        assert ours[key] == theirs[key], key
    expected = _weights(every_step)
    assert all(torch.equal(value, expected[name]) for name, value in _weights(tmp_path / "run").items())


@pytest.mark.parametrize("step", [5, 7, 21, "end"])  # inside a window of either stage, its last step, a stage's last
def test_stopped_and_resumed_equals_uninterrupted(step: int | str, every_step: Path, tmp_path: Path) -> None:
    """The sum over the unfinished window is in the checkpoint; nothing of it is logged, in windows of 4 steps."""
    folder, seldom = tmp_path / "run", (*ADAPTIVE, "trainer.log_every_n_steps=50")
    stop = results.read(every_step)["boundaries"][0] - 1 if isinstance(step, str) else step
    with pytest.raises(Interrupted):
        run.train(*compose_run(folder, *seldom, *send_signal(stop, signal.SIGTERM)))
    run.train(*compose_run(folder, *seldom, "resume=true"))
    ours, theirs = results.read(folder), results.read(every_step)
    for key in ("boundaries", "stages", "steps", "status"):
        assert ours[key] == theirs[key], key
    expected = _weights(every_step)
    assert all(torch.equal(value, expected[name]) for name, value in _weights(folder).items())


def test_every_stage_is_scored_and_kept_at_the_end_that_it_had(every_step: Path) -> None:
    record = results.read(every_step)
    ends = record["boundaries"]
    assert (record["status"], record["steps"]) == ("finished", ends[-1])
    assert [stage["step"] for stage in record["stages"].values()] == ends
    for index, end in enumerate(ends):
        assert read_checkpoint(every_step / "checkpoints" / f"stage_{index + 1}.ckpt")["global_step"] == end


def test_a_run_killed_after_its_last_stage_takes_no_more_steps_when_resumed(every_step: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(every_step, tmp_path / "run"))
    results.update(folder, status="running")
    run.train(*compose_run(folder, *ADAPTIVE, "resume=true"))
    ours, theirs = results.read(folder), results.read(every_step)
    for key in ("status", "steps", "stages", "boundaries"):
        assert ours[key] == theirs[key], key


DISTIL = (
    *BARE,
    "schedule=distil",
    "schedule.epochs=12",
    "schedule.beta_high=4",
    "lr=1e-2",
    "schedule.window=3",
    "schedule.patience=1",
    "schedule.tolerance=0.3",
)


@pytest.fixture(scope="session")
def distilled(make_once: MakeOnce) -> Path:
    return make_once("distil", lambda folder: run.train(*compose_run(folder, *DISTIL)))


def test_a_distilled_run_falls_holds_and_ends_at_a_pressure_of_one(distilled: Path) -> None:
    record = results.read(distilled)
    steps, pressures = zip(*record["pressures"], strict=True)
    assert pressures[0] == 2.8
    assert pressures[-1] == 1
    assert all(after < before for before, after in itertools.pairwise(pressures))
    assert len(pressures) > 3
    assert record["boundaries"][-1] == record["steps"] == 144
    assert record["steps"] - steps[-1] >= 72  # half of the training
    assert record["stages"]["stage_4"]["pressure"] == 1


@pytest.mark.parametrize("step", [13, *slowly(4, 22, 100)])  # while the pressure is held, while it falls, and for good
def test_a_distilled_run_stopped_and_resumed_equals_an_uninterrupted_one(
    step: int, distilled: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    with pytest.raises(Interrupted):
        run.train(*compose_run(folder, *DISTIL, *send_signal(step, signal.SIGTERM)))
    run.train(*compose_run(folder, *DISTIL, "resume=true"))
    ours, theirs = results.read(folder), results.read(distilled)
    for key in ("boundaries", "pressures", "stages", "steps", "status"):
        assert ours[key] == theirs[key], key
    expected = _weights(distilled)
    assert all(torch.equal(value, expected[name]) for name, value in _weights(folder).items())


def test_a_loaded_model_knows_its_stages_and_forgets_them_when_trained_anew(distilled: Path, tmp_path: Path) -> None:
    record = results.read(distilled)
    model = DEFT.load_from_checkpoint(distilled / "checkpoints" / "stage_2.ckpt")
    last = record["boundaries"][1] - 1
    held = [pressure for step, pressure in record["pressures"] if step <= last][-1]
    assert held < 2.8  # that of a schedule which has seen nothing
    assert model.timeline.at(last).pressure == held
    assert list(model.timeline.boundaries[:2]) == record["boundaries"][:2]
    trainer = plain_trainer(tmp_path, AdaptiveStages(), max_steps=1)
    trainer.fit(model, DataLoader(torch.rand(32, 3, 64, 64), batch_size=32))  # type: ignore[arg-type]
    assert model.timeline.at(last).pressure == 2.8


class Keep(pl.Callback):
    """Keeps the KL of the active group after every step, in nats, as computed here."""

    def __init__(self) -> None:
        self.kl: dict[int, float] = {}

    def on_train_batch_end(self, trainer, pl_module, *_) -> None:
        latents = [slice(0, 3), slice(3, 6), slice(6, 8), slice(8, 10)][(trainer.global_step - 1) // 3]
        self.kl[trainer.global_step] = float(pl_module.last_loss.parts["kl/latent"][latents].sum())


def test_the_schedule_sees_the_mean_kl_of_the_active_group(tmp_path: Path, monkeypatch) -> None:
    """Windows of 2 steps in stages of 3: the third step of a stage is in no window."""
    seen: dict[int, float | None] = {}
    observe = AdaptiveTimeline.observe

    def look(timeline, step, kl):
        seen[step] = None if kl is None else sum(kl[(step - 1) // 3])
        return observe(timeline, step, kl)

    monkeypatch.setattr(AdaptiveTimeline, "observe", look)
    schedule = Adaptive(epochs=[1, 1, 1, 1], pressures=[4, 3, 2, 1], min_epochs=0, window=2, patience=1, tolerance=0)
    keep = Keep()
    trainer = plain_trainer(tmp_path, keep, AdaptiveStages(), max_steps=12, max_epochs=-1)
    trainer.fit(tiny_module(schedule=schedule), FactorDataModule(TinySprites(), batch_size=32))  # 3 steps an epoch
    assert list(seen) == list(range(1, 13))
    for step, mean in seen.items():
        if step % 3 == 2:
            assert mean == pytest.approx((keep.kl[step - 1] + keep.kl[step]) / 2, rel=1e-5)
        else:
            assert mean is None


def test_the_end_of_a_stage_is_announced_with_its_reason(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Stage 1 is as long as it may be before a window is over; anything has settled in the others."""
    options = {"min_epochs": 0, "window": 4, "patience": 1, "tolerance": 1e9}
    schedule = Adaptive(epochs=[1, 3, 3, 3], pressures=[4, 3, 2, 1], **options)
    trainer = plain_trainer(tmp_path, AdaptiveStages(), max_steps=30, max_epochs=-1)
    with caplog.at_level(logging.INFO, logger="deft_lightning.training.callbacks.adaptive_stages"):
        trainer.fit(tiny_module(schedule=schedule), FactorDataModule(TinySprites(), batch_size=32))
    messages = [record.getMessage() for record in caplog.records if "ended" in record.getMessage()]
    assert messages == [
        "Stage 1 of 4 ended at step 3: its time was over.",
        *(f"Stage {i} of 4 ended at step {3 + 8 * (i - 1)}: the KL of its group has settled." for i in (2, 3, 4)),
    ]
    assert results.read(tmp_path)["boundaries"] == [3, 11, 19, 27]
    assert trainer.global_step == 27


def test_without_the_callback_the_training_does_not_begin(tmp_path: Path) -> None:
    """Its pressures would never change."""
    schedule = Adaptive(epochs=[1, 1, 1, 1], pressures=[4, 3, 2, 1])
    with pytest.raises(DeftError, match="AdaptiveStages"):
        plain_trainer(tmp_path, max_steps=12, max_epochs=-1).fit(
            tiny_module(schedule=schedule), FactorDataModule(TinySprites(), batch_size=32)
        )


@pytest.mark.parametrize(("window", "warned"), [(4, True), (1, False)])
def test_a_first_stage_in_which_nothing_can_settle_is_said(window, warned, tmp_path, caplog) -> None:
    """Stage 1 has 3 steps; 2 windows of 4 take 8, which is 3 times as many, 2 windows of 1 take 2."""
    schedule = Adaptive(epochs=[1, 1, 1, 1], pressures=[4, 3, 2, 1], window=window, patience=1)
    with caplog.at_level(logging.WARNING, logger="deft_lightning.training.callbacks.adaptive_stages"):
        plain_trainer(tmp_path, AdaptiveStages(), max_steps=1, max_epochs=-1).fit(
            tiny_module(schedule=schedule), FactorDataModule(TinySprites(), batch_size=32)
        )
    said = [record.getMessage() for record in caplog.records if "Stage 1 lasts 3 steps" in record.getMessage()]
    assert len(said) == warned
    if warned:
        assert "after 8 (2 windows of 4)" in said[0]
        assert "at least 3 times as long" in said[0]


@pytest.mark.parametrize(
    ("checkpoint", "overrides", "sentence"),
    [
        ("stage_2", ("schedule=adaptive",), "was trained under the schedule Distil, and this run has another"),
        ("last", ("schedule.epochs=[9,9,9,9]",), "all stages of .*last.ckpt have ended"),
    ],
)
def test_a_run_does_not_start_from_what_another_schedule_has_seen(
    checkpoint: str, overrides: tuple[str, ...], sentence: str, distilled: Path, tmp_path: Path
) -> None:
    start = f"init_from={distilled / 'checkpoints' / checkpoint}.ckpt"
    kept = [
        word for word in DISTIL if not word.startswith("schedule" if "=adaptive" in overrides[0] else "schedule.ep")
    ]
    with pytest.raises(DeftError, match=sentence):
        run.train(*compose_run(tmp_path / "run", *kept, *overrides, start))
