"""Runs on a torch Dataset of the user's and on folders that are decoded as the training goes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deft_lightning import DeftError, FactorDataModule
from deft_lightning.common import results
from deft_lightning.common.errors import Interrupted
from deft_lightning.model.checkpoint import read_checkpoint
from deft_lightning.training import config, run
from deft_lightning.training.callbacks import Evaluation, Scores
from tests.docs.pages import ROOT
from tests.helpers import BARE, TinySprites, compose_run, plain_trainer, send_signal, slowly, tiny_module

MODULE = '''
import torch
from torch.utils.data import Dataset

class Squares(Dataset):
    """Grey squares at 8 x 8 places, some of them mirrored by a random transform."""
    factor_names = ("x", "y")

    def __init__(self, count=64, labels=True):
        self.count, self.labels = count, labels

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        y, x = divmod(index, 8)
        image = torch.zeros(1, 64, 64)
        image[:, 7 * y : 7 * y + 10, 7 * x : 7 * x + 10] = 0.5 + 0.5 * torch.rand(())
        return (image, (x, y)) if self.labels else image
'''
SHORT = (
    "batch_size=8",
    "schedule.epochs=[1,1,1,1]",
    "scale=smoke",
    "scale.fraction=1",
    "trainer=cpu",
    "trainer.log_every_n_steps=1",
    "logger=csv",
    "compile=false",
)
SQUARES = ("data=torch", "data._target_=my_squares.Squares")


@pytest.fixture
def squares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that has the user's module, and that Python looks into."""
    (tmp_path / "my_squares.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_squares", raising=False)
    return tmp_path


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"]


def same(ours: Path, theirs: Path) -> bool:
    first, second = weights(ours), weights(theirs)
    return list(first) == list(second) and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow  # starts a process, which trains
def test_a_dataset_in_the_current_folder_is_trained_on_from_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "my_squares.py").write_text(MODULE)
    command = [sys.executable, "-m", "deft_lightning", *SQUARES, "+data.count=48", *SHORT, *BARE]
    options = ("data.workers=1", "data.held_out=0.25", "hydra.run.dir=out", "metrics.at_end=[factor_vae]")
    done = subprocess.run(
        [*command, *options, "metrics.votes=[20,10]"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    content = results.read(tmp_path / "out")
    assert content["data"] | {"notices": []} == {
        "name": "Squares",
        "images": 48,
        "held_out": 12,
        "shape": [1, 64, 64],
        "factors": ["x", "y"],
        "factor_sizes": [],
        "source": "torch Dataset",
        "notices": [],
    }
    assert content["training"]["data"] == {"name": "my_squares:Squares", "count": 48, "held_out": 0.25}
    assert content["own_code"]["my_squares"]["file"] == str(tmp_path / "my_squares.py")
    assert content["boundaries"] == [4, 8, 12, 16]
    assert {"mig", "factor_vae", "reconstruction"} <= set(content["stages"]["stage_4"]["scores"])
    assert content["stages"]["stage_4"]["scored_on"] == "held-out images"


@pytest.mark.slow  # trains runs
@pytest.mark.parametrize("step", [12, *slowly(5, 7)])  # with workers far ahead, within an epoch of 8 steps, at its end
def test_a_stopped_run_with_workers_and_random_transforms_is_resumed_to_the_bit(step: int, squares: Path) -> None:
    base = (*SQUARES, *SHORT, *BARE)
    run.train(*compose_run(squares / "whole", "data.workers=0", base=base))
    with pytest.raises(Interrupted):
        run.train(*compose_run(squares / "run", "data.workers=2", *send_signal(step, signal.SIGTERM), base=base))
    run.train(*compose_run(squares / "run", "data.workers=1", "resume=true", base=base))
    assert same(squares / "run", squares / "whole")
    assert results.read(squares / "run")["stages"] == results.read(squares / "whole")["stages"]


@pytest.mark.slow  # starts a process, which trains
def test_a_stopped_command_exits_although_it_has_workers(squares: Path) -> None:
    """They do not answer the SIGTERM by which Python would end them."""
    command = [sys.executable, "-m", "deft_lightning", *SQUARES, *SHORT, *BARE, "data.workers=2", "hydra.run.dir=out"]
    done = subprocess.run(
        [*command, *send_signal(5, signal.SIGTERM)],
        cwd=squares,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "stopped by SIGTERM at step 6" in done.stderr
    assert results.read(squares / "out")["status"] == "interrupted"


@pytest.mark.slow  # trains runs
def test_a_labelled_folder_trains_to_the_same_weights_and_scores_in_memory_and_streamed(tmp_path: Path) -> None:
    images = TinySprites().images(torch.arange(96), torch.Generator())[:, 0].numpy()
    (tmp_path / "photos").mkdir()
    for index in np.random.default_rng(0).permutation(96)[:64]:
        picture = Image.fromarray((images[index] * 255).astype(np.uint8)).resize((80, 70))
        picture.save(tmp_path / "photos" / f"{index}.png")
    rows = [f"{path.name},{int(path.stem) % 3}" for path in (tmp_path / "photos").iterdir()]
    (tmp_path / "labels.csv").write_text("\n".join(["file,kind", *rows]))
    base = (
        f"data.labels={tmp_path / 'labels.csv'}",
        "data=custom",
        f"data.path={tmp_path / 'photos'}",
        *SHORT,
        *BARE,
        "data.held_out=0.2",
    )
    run.train(*compose_run(tmp_path / "memory", "data.in_memory=true", base=base))
    run.train(*compose_run(tmp_path / "stream", "data.in_memory=false", "data.workers=2", base=base))
    assert same(tmp_path / "stream", tmp_path / "memory")
    ours, theirs = results.read(tmp_path / "stream"), results.read(tmp_path / "memory")
    assert ours["stages"] == theirs["stages"]
    assert all("mig" in stage["scores"] for stage in ours["stages"].values())
    assert ours["history"] == theirs["history"]
    assert ours["config_digest"] == theirs["config_digest"]
    assert ours["data"]["digest"] != theirs["data"]["digest"]  # of the files instead of the pixels


def test_a_dataset_is_trained_on_and_scored_in_a_notebook(squares: Path) -> None:
    from my_squares import Squares  # noqa: PLC0415

    data = FactorDataModule(Squares(), batch_size=16, seed=1, held_out=0.25, workers=1)
    trainer = plain_trainer(squares / "run", Evaluation([Scores()]), max_epochs=2, limit_val_batches=0)
    trainer.fit(tiny_module(seed=1), data)
    stages = results.read(squares / "run")["stages"]
    assert list(stages) == ["stage_1", "stage_2"]
    assert {"mig", "modularity", "kl"} <= set(stages["stage_2"]["scores"])


def test_a_missing_target_is_one_sentence() -> None:
    cfg, _ = compose_run(Path("unused"), base=("data=torch",))
    with pytest.raises(DeftError, match=r"data._target_ is null: give your Dataset, as in data._target_=my_module"):
        config.dataset(cfg)


def test_a_target_that_makes_no_dataset_is_one_sentence() -> None:
    cfg, _ = compose_run(Path("unused"), base=("data=torch", "data._target_=builtins.list"))
    with pytest.raises(DeftError, match="the data are a list: give a data set of deft_lightning, or a map-style"):
        config.dataset(cfg)


@pytest.mark.slow  # trains a run
def test_a_broken_item_ends_a_run_with_its_sentence(squares: Path) -> None:
    (squares / "my_squares.py").write_text(MODULE.replace("y, x = divmod", "assert index != 40; y, x = divmod"))
    with pytest.raises(DeftError, match=r"item 40 of Squares cannot be read \(AssertionError: \): look at its code"):
        run.train(*compose_run(squares / "run", "data.workers=1", base=(*SQUARES, *SHORT, *BARE)))
    assert results.read(squares / "run")["status"] == "failed"
    (squares / "my_squares.py").write_text(MODULE)
