"""MI, TC and DWKL are logged when they are due, kept in results.json, and sum to the KL of the codes."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from deft_lightning import DeftError, FactorDataModule, Piecewise
from deft_lightning.common import results
from deft_lightning.training.callbacks import Evaluation, KLDecomposition
from tests.helpers import Recorder, TinySprites, plain_trainer, tiny_module

pytestmark = pytest.mark.slow  # trains runs


def test_due_at_stage_ends_and_optionally_at_every_epoch(tmp_path: Path) -> None:
    schedule = Piecewise([2, 1, 1, 1], [70, 30, 12, 1])
    for every, steps in (("stage", [48, 72, 96, 120]), ("epoch", [48, 50, 72, 96, 100, 120])):
        recorder = Recorder()
        callback = Evaluation([KLDecomposition(every)], num_points=96)
        trainer = plain_trainer(tmp_path / every, callback, logger=recorder, max_epochs=5)
        trainer.fit(tiny_module(schedule=schedule), FactorDataModule(TinySprites(), batch_size=4))  # 24 steps an epoch
        assert list(recorder.column("kl_decomposition/tc")) == steps
        history = results.read(tmp_path / every)["history"]["kl_decomposition"]
        assert list(history) == [str(step) for step in steps]
        for step, parts in history.items():
            assert recorder.column("kl_decomposition/mi")[int(step)] == parts["mi"]


def test_the_parts_sum_to_the_kl(tmp_path: Path) -> None:
    """Up to the noise of one sample an image."""
    trainer = plain_trainer(tmp_path, Evaluation([KLDecomposition()], num_points=96), max_epochs=40)
    module = tiny_module(schedule=Piecewise([10] * 4, [1, 1, 1, 1]))
    trainer.fit(module, FactorDataModule(TinySprites(), batch_size=8))
    parts = list(results.read(tmp_path)["history"]["kl_decomposition"].values())[-1]
    assert parts["kl"] > 1
    assert parts["mi"] + parts["tc"] + parts["dwkl"] == pytest.approx(parts["kl"], rel=0.1)
    assert 0 < parts["mi"] <= math.log(96) + 1e-6


def test_an_unknown_period_is_refused() -> None:
    with pytest.raises(DeftError, match=r"callbacks.kl_decomposition.every is 'step': use one of stage, epoch"):
        KLDecomposition(every="step")
