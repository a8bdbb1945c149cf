"""What is printed before a training."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from deft_lightning import AdamW, FactorDataModule
from deft_lightning.training import summary
from tests.helpers import TinySprites, plain_trainer, tiny_module


def test_stages_have_their_own_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that starts from the weights of another has no first ones."""
    monkeypatch.setattr(summary.summary_picture, "draw", lambda folder, outcome: folder / "summary.png")
    stage = {"scores": {"mig": 0.25}, "pressure": 30, "step": 12, "max1_nmi": {"posX": 0.5}, "max2_nmi": {"posX": 0.1}}
    summary.end({"stages": {"stage_2": stage}, "data": {"factors": ["posX"]}}, tmp_path)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["2", "30", "12", "0.250"] in rows
    assert ["2", "0.40"] in rows


def test_it_names_the_optimiser_and_what_is_held_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cfg = OmegaConf.create({"name": "mine", "seed": 0, "scale": {"name": "quick"}, "batch_size": 8})
    module = tiny_module(optimizer=AdamW(), steps_per_epoch=9)
    data = FactorDataModule(TinySprites(), 8, held_out=0.25)
    summary.start(cfg, module, data, plain_trainer(tmp_path), tmp_path, first_step=0)
    printed = " ".join(capsys.readouterr().out.split())
    assert "learning AdamW, lr 0.0005, batch 8" in printed
    assert "96 images 1x64x64, 24 held out" in printed
