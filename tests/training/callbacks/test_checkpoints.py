"""Checkpoints are written whole or not at all, one is kept for every stage, and a full disk destroys none."""

from __future__ import annotations

import csv
import errno
import os
import signal
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from deft_lightning import DeftError, FactorDataModule
from deft_lightning.common.errors import Diverged, Interrupted
from deft_lightning.model.checkpoint import read_checkpoint
from deft_lightning.training.callbacks import Checkpoints, Evaluation, Scores
from deft_lightning.training.callbacks.checkpoints import link_or_copy
from deft_lightning.training.loggers import ResumableCSVLogger
from tests.helpers import Signal, TinySprites, Weights, plain_trainer, tiny_module

pytestmark = pytest.mark.slow  # trains runs

FULL = OSError(errno.ENOSPC, "No space left on device")


def _trainer(folder: Path, *callbacks: pl.Callback, **options) -> pl.Trainer:
    return plain_trainer(
        folder, *callbacks, **{"enable_checkpointing": True, "max_steps": 12, "max_epochs": -1, **options}
    )


def _fit(trainer: pl.Trainer) -> None:
    trainer.fit(tiny_module(), FactorDataModule(TinySprites(), batch_size=32))  # 3 steps a stage


def test_one_checkpoint_a_stage_stays_and_holds_its_weights(tmp_path: Path) -> None:
    weights = Weights()
    _fit(_trainer(tmp_path, Checkpoints(every_n_steps=2), weights))
    folder = tmp_path / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["last.ckpt", *(f"stage_{i}.ckpt" for i in (1, 2, 3, 4))]
    for name, step in (("stage_1", 3), ("stage_2", 6), ("stage_3", 9), ("stage_4", 12), ("last", 12)):
        checkpoint = torch.load(folder / f"{name}.ckpt", weights_only=True)
        assert checkpoint["global_step"] == step
        for key, value in weights.after[step].items():
            assert torch.equal(checkpoint["state_dict"][key], value)
        assert checkpoint["optimizer_states"][0]["state"]


def test_saves_every_n_steps_and_at_stage_ends(tmp_path: Path) -> None:
    saved: list[int] = []

    class Look(pl.Callback):
        def on_train_batch_start(self, trainer, *_) -> None:
            path = tmp_path / "checkpoints" / "last.ckpt"
            saved.append(read_checkpoint(path)["global_step"] if path.exists() else 0)

    _fit(_trainer(tmp_path, Checkpoints(every_n_steps=4), Look()))
    assert saved == [0, 0, 0, 3, 4, 4, 6, 6, 8, 9, 9, 9]


def _replace_fails(trainer: pl.Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = os.replace

    def full(source, target) -> None:
        if Path(target).name == "last.ckpt" and Path(target).exists():
            raise FULL
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)


def _save_fails(trainer: pl.Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    save = trainer.save_checkpoint

    def full(path, *arguments, **options) -> None:
        if trainer.global_step > 2:
            Path(path).write_bytes(b"half a checkpoint")
            raise FULL
        save(path, *arguments, **options)

    monkeypatch.setattr(trainer, "save_checkpoint", full)


@pytest.mark.parametrize("fails", [_replace_fails, _save_fails])
def test_a_full_disk_leaves_the_last_checkpoint_whole(fails, tmp_path: Path, monkeypatch) -> None:
    weights = Weights()
    trainer = _trainer(tmp_path, Checkpoints(every_n_steps=2), weights)
    fails(trainer, monkeypatch)
    with pytest.raises(DeftError, match=r"last.ckpt cannot be written \(.*No space left on device\): make room"):
        _fit(trainer)
    assert trainer.global_step == 3  # the end of stage 1 could not be saved
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["last.ckpt"]
    checkpoint = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    assert checkpoint["global_step"] == 2
    assert all(torch.equal(checkpoint["state_dict"][key], value) for key, value in weights.after[2].items())


def test_a_full_disk_at_the_copy_for_a_stage_is_one_sentence_too(tmp_path: Path, monkeypatch) -> None:
    def full(*_) -> None:
        raise FULL

    monkeypatch.setattr(os, "link", full)
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DeftError, match="No space left on device"):
        _fit(_trainer(tmp_path, Checkpoints(every_n_steps=2)))
    assert read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 3


@pytest.mark.parametrize("links", [True, False])
def test_a_second_name_outlives_a_new_last_checkpoint(links: bool, tmp_path: Path, monkeypatch) -> None:
    if not links:  # as on file systems without hard links
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(errno.EPERM, "not permitted")))
    last, stage = tmp_path / "last.ckpt", tmp_path / "stage_1.ckpt"
    stage.write_text("of an older run")
    last.write_text("first")
    link_or_copy(last, stage)
    (tmp_path / "new").write_text("second")
    os.replace(tmp_path / "new", last)
    assert (stage.read_text(), last.read_text()) == ("first", "second")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.ckpt", "stage_1.ckpt"]


def test_the_numbers_of_a_step_are_on_disk_before_its_checkpoint(tmp_path: Path, monkeypatch) -> None:
    """Otherwise a run that is killed between the two would lose them: it resumes after the checkpoint."""
    on_disk: dict[int, set[int]] = {}
    trainer = _trainer(tmp_path, Evaluation([Scores()], 20), Checkpoints(), logger=ResumableCSVLogger(tmp_path))
    save = trainer.save_checkpoint

    def look(*arguments, **options) -> None:
        with (tmp_path / "metrics.csv").open() as file:
            on_disk[trainer.global_step] = {int(row["step"]) for row in csv.DictReader(file) if row["score/kl"]}
        save(*arguments, **options)

    monkeypatch.setattr(trainer, "save_checkpoint", look)
    _fit(trainer)
    assert on_disk == {3: {3}, 6: {3, 6}, 9: {3, 6, 9}, 12: {3, 6, 9, 12}}


def test_a_stopped_run_has_logged_its_last_step(tmp_path: Path) -> None:
    """Lightning logs the numbers of a step after its callbacks, and a resumed run does not take that step again."""
    logger = ResumableCSVLogger(tmp_path)
    stop = Signal(4, signal.SIGTERM)
    trainer = _trainer(tmp_path, stop, Checkpoints(), logger=logger, log_every_n_steps=1)
    with pytest.raises(Interrupted, match="stopped by SIGTERM at step 5"):
        _fit(trainer)
    with (tmp_path / "metrics.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file) if row["train/loss"]] == ["0", "1", "2", "3", "4"]
    assert read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 5


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    """The loss of step 5 is still finite: its weights are broken after it, as by infinite gradients."""

    class Break(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, *_) -> None:
            if trainer.global_step == 5:
                pl_module.decoder.get_parameter(name).data.view(-1)[0] = float("inf")

    name = next(name for name, _ in tiny_module().decoder.named_parameters())
    weights = Weights()
    trainer = _trainer(tmp_path, weights, Break(), Checkpoints(every_n_steps=5))
    with pytest.raises(Diverged, match=rf"decoder\.{name} holds NaN or infinite values at step 5"):
        _fit(trainer)
    checkpoint = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    assert checkpoint["global_step"] == 3  # the end of stage 1
    assert all(torch.equal(checkpoint["state_dict"][key], value) for key, value in weights.after[3].items())


@pytest.mark.parametrize("steps", [0, -1, 2.5, "often"])
def test_a_period_must_be_a_whole_number(steps) -> None:
    with pytest.raises(DeftError, match=r"callbacks.checkpoints.every_n_steps is .*: give a whole number from 1 up"):
        Checkpoints(steps)
