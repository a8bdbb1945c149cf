"""One evaluation pass: the images are encoded once a step, for the parts that are due, in any order of callbacks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from deft_lightning import DEFT, DeftError, FactorDataModule
from deft_lightning.common import results
from deft_lightning.common.errors import Diverged
from deft_lightning.evaluation.codes import encode
from deft_lightning.model.checkpoint import read_checkpoint
from deft_lightning.training import build, run
from deft_lightning.training.callbacks import (
    Evaluation,
    EvaluationPart,
    HeldOut,
    KLDecomposition,
    NMIMatrix,
    Phase,
    Scores,
    Snapshot,
    Traversals,
    evaluation,
)
from tests.helpers import BARE, TinySprites, compose_run, plain_trainer, tiny_module
from tests.training.conftest import FEW_COLUMNS

pytestmark = pytest.mark.slow  # trains runs


class Look(EvaluationPart):
    """Keeps its snapshots; due at `steps`, or at the end of every stage where that is None."""

    def __init__(self, steps: tuple[int, ...] | None = None) -> None:
        self.steps, self.snapshots, self.starts = steps, [], 0

    def due(self, module: DEFT, stage: int | None) -> bool:
        return super().due(module, stage) if self.steps is None else module.global_step in self.steps

    def start(self, data: FactorDataModule) -> None:
        self.starts += 1

    def evaluate(self, snapshot: Snapshot) -> None:
        self.snapshots.append((snapshot.step, snapshot))


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps at which the evaluation has encoded images, as often as it did."""
    steps: list[int] = []

    def count(module, data, indices, *arguments):
        steps.append(module.global_step)
        return encode(module, data, indices, *arguments)

    monkeypatch.setattr(evaluation, "encode", count)
    return steps


def _fit(folder: Path, *parts: EvaluationPart, num_points: int = 60, epochs: int = 4) -> None:
    trainer = plain_trainer(folder, Evaluation(list(parts), num_points), max_epochs=epochs)
    trainer.fit(tiny_module(), FactorDataModule(TinySprites(), batch_size=32))  # 3 steps a stage


def test_images_are_encoded_once_a_step_for_all_parts(tmp_path: Path, encoded: list[int]) -> None:
    looks = Look(), Look(), Look((5, 6))
    _fit(tmp_path, *looks, NMIMatrix(4), KLDecomposition(), Scores(), Traversals(columns=3))
    assert encoded == [3, 4, 5, 6, 8, 9, 12]
    first, second, other = ([step for step, _ in look.snapshots] for look in looks)
    assert first == second == [3, 6, 9, 12]
    assert other == [5, 6]
    for (_, one), (_, two) in zip(looks[0].snapshots, looks[1].snapshots, strict=True):
        assert one.encoding is two.encoding
    assert looks[0].snapshots[1][1].encoding is looks[2].snapshots[1][1].encoding  # both at step 6


def test_nothing_is_encoded_where_no_part_is_due(tmp_path: Path, encoded: list[int]) -> None:
    look = Look((2, 7))
    _fit(tmp_path, look)
    assert encoded == [2, 7]
    assert [snapshot.stage for _, snapshot in look.snapshots] == [None, None]


def test_a_snapshot_is_that_of_its_step(tmp_path: Path) -> None:
    look = Look()
    _fit(tmp_path, look, num_points=50)
    snapshots = [snapshot for _, snapshot in look.snapshots]
    assert [snapshot.stage for snapshot in snapshots] == [0, 1, 2, 3]
    first, last = snapshots[0], snapshots[-1]
    assert (len(first.encoding.codes), first.bins, first.folder) == (50, 20, tmp_path)
    assert torch.equal(first.encoding.indices, last.encoding.indices)  # the same images every time
    assert not np.array_equal(first.encoding.codes, last.encoding.codes)
    assert last.is_last
    assert last.pressure == 1


def test_a_data_set_with_fewer_images_is_encoded_whole(tmp_path: Path) -> None:
    look = Look()
    _fit(tmp_path, look, num_points=1000, epochs=1)
    assert sorted(look.snapshots[0][1].encoding.indices.tolist()) == list(range(96))


def test_parts_start_once_a_fit(tmp_path: Path) -> None:
    look = Look()
    _fit(tmp_path, look, epochs=2)
    assert look.starts == 1


def test_the_seconds_of_all_sessions_are_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every evaluation takes 2 seconds by this clock; there are 2 in each session."""
    clock = iter(range(0, 1000, 2))
    monkeypatch.setattr(evaluation.time, "monotonic", lambda: float(next(clock)))
    for total in (4.0, 8.0):
        _fit(tmp_path, Look((1, 2)), epochs=1)
        assert results.read(tmp_path)["timings"]["evaluation_seconds"] == total


def test_data_without_images_by_index_is_one_sentence(tmp_path: Path) -> None:
    images = TinySprites().images(torch.arange(96), torch.Generator())
    trainer = plain_trainer(tmp_path, Evaluation([Scores()]), max_epochs=1)
    with pytest.raises(DeftError, match="scores and pictures need images by their index: train on a"):
        trainer.fit(tiny_module(), list(images.split(32)))


@pytest.mark.parametrize("labelled", [True, False])
def test_a_loader_of_an_ordinary_dataset_is_scored_as_a_data_module_of_it(labelled: bool, tmp_path: Path) -> None:
    images = TinySprites().images(torch.arange(96), torch.Generator())
    factors = TinySprites.space.factors(torch.arange(96))
    dataset = torch.utils.data.TensorDataset(images, *([factors] if labelled else []))
    look = Look()
    trainer = plain_trainer(tmp_path, Evaluation([look, Scores()], num_points=50), max_epochs=1)
    trainer.fit(tiny_module(), torch.utils.data.DataLoader(dataset, batch_size=32))
    encoding = look.snapshots[0][1].encoding
    assert torch.equal(encoding.indices, FactorDataModule(TinySprites()).sample(50))
    scores = results.read(tmp_path)["stages"]["stage_1"]["scores"]
    assert ("mig" in scores) == labelled
    if labelled:
        assert np.array_equal(encoding.factors, factors[encoding.indices].numpy())


def test_callbacks_are_sorted_by_phase_and_parts_share_one_evaluation() -> None:
    cfg, _ = compose_run(Path("unused"))
    reversed_cfg = cfg.copy()
    reversed_cfg.callbacks = OmegaConf.create(dict(reversed(list(cfg.callbacks.items()))))
    for composed in (cfg, reversed_cfg):
        callbacks = build.callbacks(composed)
        phases = [callback.phase for callback in callbacks if hasattr(callback, "phase")]
        assert phases == sorted(phases)
        assert type(callbacks[0]).__name__ == "FiniteLoss"
        assert callbacks[-1].phase == Phase.SAVE
        (one,) = (callback for callback in callbacks if isinstance(callback, Evaluation))
        assert {type(part) for part in one.parts} == {NMIMatrix, KLDecomposition, HeldOut, Scores, Traversals}


def test_the_order_of_callbacks_in_the_configuration_does_not_matter(finished: Path, tmp_path: Path) -> None:
    cfg, folder = compose_run(tmp_path / "run", FEW_COLUMNS)
    cfg.callbacks = OmegaConf.create(dict(reversed(list(cfg.callbacks.items()))))
    outcome, expected = run.train(cfg, folder), results.read(finished)
    for key in ("stages", "history", "boundaries", "steps", "status"):
        assert outcome[key] == expected[key], key
    ours, theirs = (read_checkpoint(place / "checkpoints" / "last.ckpt") for place in (folder, finished))
    assert all(torch.equal(ours["state_dict"][name], value) for name, value in theirs["state_dict"].items())
    ours, theirs = (sorted((place / "metrics.csv").read_text().splitlines()) for place in (folder, finished))
    assert ours == theirs


def test_a_callback_can_be_switched_off(tmp_path: Path) -> None:
    outcome = run.train(
        *compose_run(tmp_path / "run", *BARE, "schedule.epochs=[0.1,0.1,0.1,0.1]", "callbacks.scores=null")
    )
    assert outcome["status"] == "finished"
    assert "stages" not in outcome


@pytest.mark.slow  # trains a run
def test_a_run_whose_last_step_spoils_the_weights_has_diverged(tmp_path: Path) -> None:
    """The loss of its only step is that of the first weights, and finite."""
    one_step = ("+experiment=beta_vae", "data._target_=tests.helpers.TinySprites", "scale=smoke", "scale.fraction=1")
    with pytest.raises(Diverged, match="posteriors hold NaN or infinite values after step 1"):
        run.train(*compose_run(tmp_path, "schedule.steps=1", "lr=1e30", "trainer=cpu", "logger=csv", base=one_step))
    assert results.read(tmp_path)["status"] == "diverged"
