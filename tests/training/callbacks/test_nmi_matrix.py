"""The NMI matrix is logged when it is due, and is that of the codes of that very step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
from deft_lightning.training.callbacks._common import scaled_epoch
from PIL import Image

from deft_lightning import FactorDataModule, Piecewise
from deft_lightning.evaluation.codes import encode
from deft_lightning.metrics import mig, nmi
from deft_lightning.training.callbacks import NMIMatrix
from tests.helpers import Recorder, TinySprites, UnlabelledSprites, plain_trainer, tiny_module

FACTORS = ("shape", "scale", "posX", "posY")


class Codes(pl.Callback):
    """The codes of all images after every step, computed apart from the callback under test."""

    def __init__(self, data: FactorDataModule) -> None:
        self.data, self.tables = data, {}

    def on_train_batch_end(self, trainer, pl_module, *_) -> None:
        self.tables[trainer.global_step] = encode(pl_module, self.data, self.data.sample(96))


def test_due_every_n_steps_and_at_stage_ends(tmp_path: Path) -> None:
    recorder = Recorder()
    trainer = plain_trainer(tmp_path, NMIMatrix(every_n_steps=5, num_points=96), logger=recorder, max_epochs=4)
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
    trainer = plain_trainer(tmp_path, NMIMatrix(num_points=96), logger=recorder, max_steps=55, max_epochs=-1)
    trainer.fit(module, FactorDataModule(TinySprites(), batch_size=4))  # 24 steps an epoch: 50 it is
    assert list(recorder.column("nmi/mig")) == [50]


def test_numbers_are_the_nmi_of_the_codes_of_that_step(tmp_path: Path) -> None:
    data, recorder = FactorDataModule(TinySprites(), batch_size=32), Recorder()
    codes = Codes(data)
    trainer = plain_trainer(
        tmp_path, NMIMatrix(4, num_points=96, bins=7), codes, logger=recorder, max_steps=8, max_epochs=-1
    )
    trainer.fit(tiny_module(), data)
    assert list(recorder.column("nmi/mig")) == [3, 4, 6, 8]
    for step, numbers in recorder.rows:
        if "nmi/mig" not in numbers:
            continue
        table = codes.tables[step]
        matrix = nmi(table.codes, table.factors, 7)
        assert numbers["nmi/mig"] == pytest.approx(mig(table.codes, table.factors, 7).score)
        ordered = np.sort(matrix, axis=0)
        for k, name in enumerate(FACTORS):
            assert numbers[f"nmi/max1/{name}"] == pytest.approx(ordered[-1, k])
            assert numbers[f"nmi/max2/{name}"] == pytest.approx(ordered[-2, k])
            assert [numbers[f"nmi/latent_{j:02d}/{name}"] for j in range(10)] == pytest.approx(matrix[:, k])
        assert len(numbers) == 1 + 4 * (1 + 1 + 10)


def test_every_matrix_is_a_heat_map_in_the_run_folder_and_the_logger(tmp_path: Path) -> None:
    recorder = Recorder()
    trainer = plain_trainer(tmp_path, NMIMatrix(100, num_points=96), logger=recorder, max_epochs=2)
    trainer.fit(tiny_module(), FactorDataModule(TinySprites(), batch_size=32))
    paths = [tmp_path / "figures" / f"nmi_step_{step:07d}.png" for step in (3, 6)]
    assert recorder.images == [(step, "nmi/matrix", [str(path)]) for step, path in zip((3, 6), paths, strict=True)]
    for path in paths:
        Image.open(path).load()


def test_data_without_labels_has_no_matrix(tmp_path: Path) -> None:
    recorder = Recorder()
    trainer = plain_trainer(tmp_path, NMIMatrix(1, num_points=96), logger=recorder, max_epochs=2)
    trainer.fit(tiny_module(), FactorDataModule(UnlabelledSprites(), batch_size=32))
    assert not any(key.startswith("nmi") for _, numbers in recorder.rows for key in numbers)
    assert not recorder.images
    assert not (tmp_path / "figures").exists()
