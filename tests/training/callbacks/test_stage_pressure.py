"""Every change of stage is announced and logged once, with the learning rates that the optimiser then uses."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import pytorch_lightning as pl

from deft_lightning import FactorDataModule
from deft_lightning.training.callbacks import StagePressure
from tests.helpers import Recorder, TinySprites, plain_trainer, tiny_module


class Rates(pl.Callback):
    """The learning rates that the optimiser had at every step."""

    def __init__(self) -> None:
        self.used: list[list[float]] = []

    def on_train_batch_end(self, trainer, *_) -> None:
        self.used.append([group["lr"] for group in trainer.optimizers[0].param_groups])


def test_logs_every_change_once_with_the_rates_in_use(tmp_path: Path) -> None:
    recorder, rates = Recorder(), Rates()
    trainer = plain_trainer(tmp_path, StagePressure(), rates, logger=recorder, max_epochs=4, log_every_n_steps=100)
    trainer.fit(tiny_module(), FactorDataModule(TinySprites(), batch_size=32))  # 3 steps a stage
    switches = [(step, numbers) for step, numbers in recorder.rows if "stage" in numbers]
    assert [step for step, _ in switches] == [0, 3, 6, 9]
    for index, (step, numbers) in enumerate(switches):
        assert numbers["stage"] == numbers["active_group"] == index + 1
        assert numbers["pressure"] == (70, 30, 12, 1)[index]
        logged = [numbers[f"learning_rate/group_{group}"] for group in (1, 2, 3, 4)]
        assert logged == rates.used[step][:4] == rates.used[step + 2][:4]
        assert logged == pytest.approx([5e-4 if group == index else 5e-5 for group in range(4)])
        assert set(numbers) == {
            "stage",
            "pressure",
            "active_group",
            *(f"learning_rate/group_{g}" for g in (1, 2, 3, 4)),
        }


def test_announces_every_change_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="deft_lightning.training.callbacks.stage_pressure"):
        trainer = plain_trainer(tmp_path, StagePressure(), max_epochs=2)
        trainer.fit(tiny_module(), FactorDataModule(TinySprites(), batch_size=32))
    messages = [record.getMessage() for record in caplog.records if record.name.startswith("deft_lightning")]
    assert messages == [
        "Stage 1 of 4 at step 0: pressure 70, group 1 active, learning rates 0.0005, 5e-05, 5e-05, 5e-05",
        "Stage 2 of 4 at step 3: pressure 30, group 2 active, learning rates 5e-05, 0.0005, 5e-05, 5e-05",
    ]


def test_a_resumed_fit_announces_its_stage_again(tmp_path: Path) -> None:
    recorder, module, data = Recorder(), tiny_module(), FactorDataModule(TinySprites(), batch_size=32)
    trainer = plain_trainer(tmp_path, StagePressure(), logger=recorder, max_steps=4, max_epochs=-1)
    trainer.fit(module, data)
    trainer.save_checkpoint(tmp_path / "here.ckpt")
    again = plain_trainer(tmp_path, StagePressure(), logger=recorder, max_steps=5, max_epochs=-1)
    again.fit(tiny_module(), FactorDataModule(TinySprites(), batch_size=32), ckpt_path=tmp_path / "here.ckpt")
    stages = [(step, numbers["stage"]) for step, numbers in recorder.rows if "stage" in numbers]
    assert stages == [(0, 1), (3, 2), (4, 2)]
