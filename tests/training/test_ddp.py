"""Two processes that train one model through gloo, compared with one process and the same global batch."""

from __future__ import annotations

import csv
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from torch import distributed

from deft_lightning import DeftError
from deft_lightning.common import results
from deft_lightning.common.errors import Diverged, Interrupted
from deft_lightning.data.cache import MissingDataError
from deft_lightning.model.checkpoint import read_checkpoint
from deft_lightning.training import config, run
from deft_lightning.training.distributed import _failure, fit
from tests.conftest import MakeOnce
from tests.helpers import PLAIN, compose_run, send_signal

# Slow: each of the two processes imports torch and Lightning again.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not distributed.is_gloo_available(), reason="needs gloo"),
]
SHORT = (*PLAIN, "schedule.epochs=[0.34,0.34,0.34,0.34]", "trainer.log_every_n_steps=1")  # 16 steps, with colours
DDP = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.log_every_n_steps=1")
OBJECTIVES = {
    "deft": (),
    "deft_tc": ("objective=deft_tc",),
    "dip_vae_ii": ("objective=dip_vae_ii",),
    "factor_vae": ("objective=factor_vae", "objective.hidden=50"),
    "gaussian_learnt": ("likelihood=gaussian_learnt",),
    # One of the two processes validates, with an objective that else gathers the batch of both.
    "held_out": ("objective=dip_vae_ii", "data.held_out=0.375", "schedule.epochs=[0.57,0.57,0.57,0.57]"),
}


BROKEN = {"broken": ("data._target_=tests.helpers.BrokenSprites", "+data.after=5")}


def fit_each(cfg: DictConfig, root: Path, configurations: dict[str, Any]) -> None:
    """Train every one of `configurations`, {name: fields}, in the folder `root`/name.

    Several of them in the same two processes, since these take longer to start than to train.
    """
    for name, fields in configurations.items():
        one = OmegaConf.create(fields)
        assert isinstance(one, DictConfig)
        start = run.Start(run_id=name, checkpoint=None, first_step=0, resumed=False)
        run._fit(one, root / name, config.build_choices(one), start)


@pytest.fixture(scope="session")
def two_processes(make_once: MakeOnce) -> Path:
    """A folder with one run of two processes for every objective, and a last one that fails; its error is in a file."""

    def train(root: Path) -> None:
        overrides = OBJECTIVES | BROKEN
        composed = {name: compose_run(root, *SHORT, *overrides[name], *DDP)[0] for name in overrides}
        configurations = {name: OmegaConf.to_container(cfg, resolve=True) for name, cfg in composed.items()}
        try:
            fit(fit_each, 2, composed["deft"], root, configurations)
        except DeftError as error:
            (root / "error").write_text(f"{type(error).__name__}: {error}")

    return make_once("two_processes", train)


def _parts(folder: Path) -> list[list[float]]:
    """The logged parts of the loss of every step."""
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    keys = [key for key in rows[0] if key.startswith("train/")]
    return [[float(row[key]) for key in keys] for row in rows if row["train/loss"]]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_two_processes_are_one_with_the_same_global_batch(objective: str, two_processes: Path, tmp_path: Path) -> None:
    one = run.train(*compose_run(tmp_path / "one", *SHORT, *OBJECTIVES[objective]))
    two = results.read(two_processes / objective)
    assert two["status"] == "finished"
    ours, theirs = torch.tensor(_parts(two_processes / objective)), torch.tensor(_parts(tmp_path / "one"))
    assert len(theirs) == one["steps"] == 16
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    for name, stage in one["stages"].items():
        assert two["stages"][name]["scores"] == pytest.approx(stage["scores"], rel=1e-5, abs=1e-5)
        validation = stage.get("validation", {})
        assert bool(validation) == (objective == "held_out")
        assert two["stages"][name].get("validation", {}) == pytest.approx(validation, rel=1e-5, abs=1e-5)


@pytest.mark.acceptance  # starts six processes
def test_a_stopped_run_resumes_and_ends_as_one_that_was_not_stopped(two_processes: Path, tmp_path: Path) -> None:
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match="stopped by SIGTERM at step 7: resume=true continues from there"):
        run.train(*compose_run(tmp_path / "run", *SHORT, *DDP, *send_signal(6, signal.SIGTERM)))
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers
    assert results.read(tmp_path / "run")["status"] == "interrupted"
    run.train(*compose_run(tmp_path / "run", *SHORT, *DDP, "resume=true"))
    folders = (two_processes / "deft", tmp_path / "run")
    whole, resumed = (read_checkpoint(folder / "checkpoints" / "last.ckpt") for folder in folders)
    assert resumed["global_step"] == 16
    for name, value in whole["state_dict"].items():
        assert torch.equal(resumed["state_dict"][name], value), name


def test_the_reason_is_that_of_the_process_that_failed(two_processes: Path) -> None:
    assert (two_processes / "error").read_text().startswith("Diverged: the loss is nan at step 6 in stage 2")
    outcome = results.read(two_processes / "broken")
    assert (outcome["status"], outcome["reason"][:15]) == ("diverged", "the loss is nan")


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (("trainer.devices=auto",), "trainer.devices is 'auto': give the number of processes"),
        (("trainer.strategy=null",), "trainer.devices is 2: for one run on several, use trainer=ddp"),
        (("trainer.devices=3",), "batch_size is 8: give a multiple of trainer.devices, which is 3"),
    ],
)
def test_what_cannot_be_divided_among_processes_is_refused(
    overrides: tuple[str, ...], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(DeftError, match=sentence):
        run.train(*compose_run(tmp_path / "run", *SHORT, *DDP, *overrides))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", [DeftError, MissingDataError, Interrupted, Diverged])
def test_every_kind_of_sentence_comes_out_of_a_process_as_it_is(kind: type[DeftError]) -> None:
    failure = SimpleNamespace(message={"message": f"{kind.__name__}: the file: is not there."}, local_rank=1)
    error = SimpleNamespace(failures={1: failure}, get_first_failure=lambda: (1, failure))
    outcome = _failure(error)  # type: ignore[arg-type]
    assert str(outcome) == "the file: is not there."
    assert issubclass(kind, type(outcome))
