"""Runs with images held out: losses and scores of these alone, the same split after an interruption."""

from __future__ import annotations

import csv
import signal
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

from deft_lightning import DeftError, FactorDataModule
from deft_lightning.common import results
from deft_lightning.common.errors import Interrupted
from deft_lightning.model.checkpoint import read_checkpoint
from deft_lightning.training import rescore, run, summary_picture
from deft_lightning.training.callbacks import HeldOut
from deft_lightning.training.callbacks.held_out import mean_parts
from deft_lightning.training.load import load_run
from tests.conftest import MakeOnce
from tests.helpers import BARE, TinySprites, compose_run, plain_trainer, send_signal, slowly, tiny_module
from tests.training.conftest import Copy

HELD_OUT = (*BARE, "data.held_out=0.25", "trainer.log_every_n_steps=1")


@pytest.fixture(scope="session")
def whole(make_once: MakeOnce) -> Path:
    """36 steps, 9 an epoch: 72 images in batches of 8."""
    return make_once("held_out", lambda folder: run.train(*compose_run(folder, *HELD_OUT)))


def rows(folder: Path, key: str) -> dict[int, float]:
    with (folder / "metrics.csv").open(newline="") as file:
        return {int(row["step"]): float(row[key]) for row in csv.DictReader(file) if row.get(key)}


@pytest.mark.slow  # trains runs
def test_losses_of_held_out_images_are_logged_and_kept(whole: Path) -> None:
    content = results.read(whole)
    assert content["data"]["held_out"] == 24
    assert content["training"]["data"]["held_out"] == 0.25
    assert content["boundaries"] == [9, 18, 27, 36]
    assert list(rows(whole, "validation/reconstruction")) == [9, 18, 27, 36]
    for number, step in enumerate(content["boundaries"], start=1):
        stage = content["stages"][f"stage_{number}"]
        assert stage["scored_on"] == "held-out images"
        assert stage["validation"] == content["history"]["validation"][str(step)]
        assert stage["validation"]["loss"] == pytest.approx(
            stage["validation"]["reconstruction"] + stage["pressure"] * stage["validation"]["kl"], rel=1e-5
        )
        assert stage["validation"]["kl"] == pytest.approx(sum(stage["kl_per_latent"]), rel=1e-4)  # the same images


@pytest.mark.slow  # trains runs
@pytest.mark.parametrize("step", [9, *slowly(7, 8, 20)])  # after an epoch, within one and at its last step
def test_a_resumed_run_has_the_same_split_and_ends_the_same(step: int, whole: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        run.train(*compose_run(tmp_path, *HELD_OUT, *send_signal(step, signal.SIGTERM)))
    run.train(*compose_run(tmp_path, *HELD_OUT, "resume=true"))
    ours, theirs = (read_checkpoint(path / "checkpoints" / "last.ckpt")["state_dict"] for path in (tmp_path, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert results.read(tmp_path)["stages"] == results.read(whole)["stages"]
    assert rows(tmp_path, "validation/loss") == rows(whole, "validation/loss")


@pytest.mark.slow  # trains runs
def test_a_run_is_not_resumed_with_another_share(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        run.train(*compose_run(tmp_path, *HELD_OUT, *send_signal(3, signal.SIGTERM)))
    with pytest.raises(DeftError, match=r"other settings \(data.held_out: 0.25 -> 0.5\)"):
        run.train(*compose_run(tmp_path, *HELD_OUT, "data.held_out=0.5", "resume=true"))


@pytest.mark.slow  # trains runs
def test_it_is_loaded_and_scored_again_on_its_own_images(whole: Path, copy: Copy) -> None:
    folder = copy(whole)
    _, data = load_run(folder, trust=True)
    assert data.split is not None
    assert torch.equal(data.split.held_out, FactorDataModule(TinySprites(), 8, 0, 0.25).split.held_out)  # type: ignore[union-attr]
    other = rescore.rescore(folder, rescore.scoring.Settings(num_points=24, at_end=["irs"]))
    assert other.added == ["irs"]
    assert len(other.representation.codes) == 96  # UDR compares seeds, whose held-out images differ, on all images


def test_nothing_is_held_out_by_default_and_the_settings_are_those_of_earlier_runs(tmp_path: Path) -> None:
    from deft_lightning.training import config  # noqa: PLC0415

    cfg, _ = compose_run(tmp_path)
    assert cfg.data.held_out == 0
    assert not {"held_out", "workers"} & set(config.training_part(cfg, config.build_choices(cfg).schedule)["data"])


@pytest.mark.parametrize("value", ["1", "-0.5", "many"])
def test_a_wrong_share_is_one_sentence_before_anything_is_read(value: str, tmp_path: Path) -> None:
    with pytest.raises(DeftError, match=r"data.held_out is .*: give a share from 0 to below 1, as in 0.1."):
        run.train(*compose_run(tmp_path / "run", f"data.held_out={value}"))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow  # trains
def test_lightning_validates_on_the_same_images_and_training_does_not_notice(tmp_path: Path) -> None:
    plain, watched = tiny_module(), tiny_module()
    plain_trainer(tmp_path, max_steps=9, limit_val_batches=0).fit(plain, FactorDataModule(TinySprites(), 8, 0, 0.25))
    data = FactorDataModule(TinySprites(), 8, 0, 0.25)
    trainer = plain_trainer(tmp_path, max_steps=9, num_sanity_val_steps=0)
    trainer.fit(watched, data)
    assert all(map(torch.equal, plain.state_dict().values(), watched.state_dict().values()))
    (lightnings,) = trainer.validate(watched, data, verbose=False)
    ours = mean_parts(watched, data.val_dataloader())
    assert {f"validation/{name}" for name in ours} == set(lightnings)
    for name, value in ours.items():
        assert lightnings[f"validation/{name}"] == pytest.approx(value, rel=1e-5)


def test_the_callback_is_never_due_without_held_out_images() -> None:
    part = HeldOut()
    part.start(FactorDataModule(TinySprites(), 8))
    assert not part.due(tiny_module(), stage=0)
    part.start(FactorDataModule(TinySprites(), 8, held_out=0.5))
    assert part.due(tiny_module(), stage=0)


@pytest.mark.slow  # trains runs
def test_the_summary_picture_shows_both_losses(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(summary_picture, "save_figure", lambda figure, *_: drawn.append(figure))
    summary_picture.draw(whole, results.read(whole))
    lines = {line.get_label(): line for axes in drawn[0].axes for line in axes.get_lines()}
    assert list(lines["KL, held out"].get_xdata()) == [9, 18, 27, 36]
    assert list(lines["reconstruction, held out"].get_ydata()) == list(
        rows(whole, "validation/reconstruction").values()
    )
    assert any(axes.get_title() == "scores of held-out images" for axes in drawn[0].axes)


@pytest.mark.slow  # trains runs
@pytest.mark.parametrize("objective", ["dip_vae_i", "beta_tcvae"])
def test_every_part_of_the_loss_has_its_key(objective: str, tmp_path: Path) -> None:
    run.train(*compose_run(tmp_path, *HELD_OUT, f"objective={objective}", "schedule.epochs=[0.2,0.2,0.2,0.2]"))
    with (tmp_path / "metrics.csv").open(newline="") as file:
        header = next(csv.reader(file))
    parts = {key.removeprefix("train/") for key in header if key.startswith("train/")}
    assert {key.removeprefix("validation/") for key in header if key.startswith("validation/")} == parts
