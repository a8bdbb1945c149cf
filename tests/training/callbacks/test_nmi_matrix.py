"""The NMI matrix is logged and drawn when it is due, and is that of the codes of that step."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import pytorch_lightning as pl
from PIL import Image

from deft_lightning import DeftError, FactorDataModule, Piecewise
from deft_lightning.common import results
from deft_lightning.evaluation.codes import encode
from deft_lightning.metrics import mig, nmi
from deft_lightning.training import figures
from deft_lightning.training.callbacks import Evaluation, NMIMatrix
from deft_lightning.training.callbacks.base import scaled_epoch
from tests.helpers import Recorder, TinySprites, UnlabelledSprites, plain_trainer, tiny_module

pytestmark = pytest.mark.slow  # trains runs

FACTORS = ("shape", "scale", "posX", "posY")


class Encodings(pl.Callback):
    """The encoding of all images after every step, computed apart from the callback under test."""

    def __init__(self, data: FactorDataModule) -> None:
        self.data, self.after = data, {}

    def on_train_batch_end(self, trainer, pl_module, *_) -> None:
        self.after[trainer.global_step] = encode(pl_module, self.data, self.data.sample(96))


def evaluation(*arguments, bins: int = 20, **options) -> Evaluation:
    """An evaluation on all 96 images with the NMI matrix as its only part."""
    return Evaluation([NMIMatrix(*arguments, **options)], num_points=96, bins=bins)


def test_due_every_n_steps_and_at_stage_ends(tmp_path: Path) -> None:
    recorder = Recorder()
    trainer = plain_trainer(tmp_path, evaluation(every_n_steps=5), logger=recorder, max_epochs=4)
    trainer.fit(tiny_module(), FactorDataModule(TinySprites(), batch_size=32))  # 3 steps a stage
    assert list(recorder.column("nmi/mig")) == [3, 5, 6, 9, 10, 12]


@pytest.mark.parametrize(
    ("steps_per_epoch", "fraction", "period"), [(1000, 1.0, 1000), (1000, 0.1, 100), (1000, 0.01, 50)]
)
def test_the_default_period_is_an_epoch_shortened_as_the_stages_are(
    steps_per_epoch: int, fraction: float, period: int
) -> None:
    """Not below 50 steps: a matrix takes as long as many of them."""
    schedule = Piecewise([90, 90, 90, 90], [70, 30, 12, 1], fraction)
    assert scaled_epoch(tiny_module(schedule=schedule, steps_per_epoch=steps_per_epoch)) == period


def test_without_a_period_it_is_due_every_scaled_epoch(tmp_path: Path) -> None:
    recorder, module = Recorder(), tiny_module(schedule=Piecewise([9, 1, 1, 1], [70, 30, 12, 1]))
    trainer = plain_trainer(tmp_path, evaluation(), logger=recorder, max_steps=55, max_epochs=-1)
    trainer.fit(module, FactorDataModule(TinySprites(), batch_size=4))  # 24 steps an epoch, so every 50 steps
    assert list(recorder.column("nmi/mig")) == [50]


def test_numbers_are_the_nmi_of_the_codes_of_that_step(tmp_path: Path) -> None:
    data, recorder = FactorDataModule(TinySprites(), batch_size=32), Recorder()
    encodings = Encodings(data)
    trainer = plain_trainer(tmp_path, evaluation(4, bins=7), encodings, logger=recorder, max_steps=8, max_epochs=-1)
    trainer.fit(tiny_module(), data)
    assert list(recorder.column("nmi/mig")) == [3, 4, 6, 8]
    for step, numbers in recorder.rows:
        if "nmi/mig" not in numbers:
            continue
        encoding = encodings.after[step]
        matrix = nmi(encoding.codes, encoding.factors, 7)
        assert numbers["nmi/mig"] == pytest.approx(mig(encoding.codes, encoding.factors, 7).score)
        ordered = np.sort(matrix, axis=0)
        for k, name in enumerate(FACTORS):
            assert numbers[f"nmi/max1/{name}"] == pytest.approx(ordered[-1, k])
            assert numbers[f"nmi/max2/{name}"] == pytest.approx(ordered[-2, k])
            assert [numbers[f"nmi/latent_{j:02d}/{name}"] for j in range(10)] == pytest.approx(matrix[:, k])
        assert len(numbers) == 1 + 4 * (1 + 1 + 10)


@pytest.mark.parametrize(("heat_maps", "saved"), [("stage", [3, 6]), ("epoch", [2, 3, 4, 6])])
def test_heat_maps_are_saved_at_stage_ends_and_optionally_at_every_epoch(
    heat_maps: str, saved: list[int], tmp_path: Path
) -> None:
    """A logger that takes pictures gets one every time."""
    recorder = Recorder()
    trainer = plain_trainer(tmp_path, evaluation(2, heat_maps=heat_maps), logger=recorder, max_epochs=2)
    trainer.fit(tiny_module(), FactorDataModule(TinySprites(), batch_size=32))  # 3 steps a stage
    files = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert files == ["nmi.png", *(f"nmi_step_{step:07d}.png" for step in saved)]
    for name in files:
        Image.open(tmp_path / "figures" / name).load()
    assert [(step, key) for step, key, _ in recorder.images] == [(step, "nmi/matrix") for step in (2, 3, 4, 6)]
    for step, _, (picture,) in recorder.images:
        if step in saved:
            file = Image.open(tmp_path / "figures" / f"nmi_step_{step:07d}.png")
            np.testing.assert_array_equal(np.asarray(picture), np.asarray(file))


def test_without_a_logger_that_takes_pictures_only_saved_heat_maps_are_drawn(tmp_path: Path, monkeypatch) -> None:
    drawn: list[str] = []
    heat_map = figures.nmi_heat_map

    def count(matrix, names, title):
        drawn.append(title)
        return heat_map(matrix, names, title)

    monkeypatch.setattr(figures, "nmi_heat_map", count)
    plain_trainer(tmp_path, evaluation(1), max_epochs=2).fit(
        tiny_module(), FactorDataModule(TinySprites(), batch_size=32)
    )
    assert drawn == ["step 3", "step 6"]


def test_the_picture_of_the_run_shows_its_whole_history(tmp_path: Path, monkeypatch) -> None:
    drawn: list[tuple] = []
    over_training = figures.nmi_over_training

    def keep(history, boundaries):
        drawn.append((list(history), list(boundaries)))
        return over_training(history, boundaries)

    monkeypatch.setattr(figures, "nmi_over_training", keep)
    plain_trainer(tmp_path, evaluation(2), max_epochs=2).fit(
        tiny_module(), FactorDataModule(TinySprites(), batch_size=32)
    )
    assert drawn == [(["2", "3"], [3, 6, 9, 12]), (["2", "3", "4", "6"], [3, 6, 9, 12])]
    history = results.read(tmp_path)["history"]["nmi"]
    assert list(history) == ["2", "3", "4", "6"]
    assert set(history["6"]["max1"]) == set(history["6"]["max2"]) == set(FACTORS)


def test_data_without_labels_has_no_matrix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    trainer = plain_trainer(tmp_path, evaluation(1), logger=recorder, max_epochs=2)
    encoded = mock.Mock()
    monkeypatch.setattr("deft_lightning.training.callbacks.evaluation.encode", encoded)
    trainer.fit(tiny_module(), FactorDataModule(UnlabelledSprites(), batch_size=32))
    encoded.assert_not_called()  # which takes as long as a part of an epoch
    assert not any(key.startswith("nmi") for _, numbers in recorder.rows for key in numbers)
    assert not recorder.images
    assert not (tmp_path / "figures").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"every_n_steps": 0}, "callbacks.nmi_matrix.every_n_steps is 0: give a whole number from 1 up"),
        ({"heat_maps": "step"}, "callbacks.nmi_matrix.heat_maps is 'step': use one of stage, epoch"),
    ],
)
def test_refusals(options: dict, sentence: str) -> None:
    with pytest.raises(DeftError, match=sentence):
        NMIMatrix(**options)
