"""The command line: what Hydra users expect, and one sentence for every mistake."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from deft_lightning.common import results
from deft_lightning.common.results import Status
from deft_lightning.launch import sweep
from tests.helpers import PLAIN, TINY
from tests.launch.running import QUICK, REPOSITORY, command


@pytest.mark.slow  # dozens of command lines
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["+experiment=color_dsprits"], "there is no 'experiment/color_dsprits'"),
        (["+experiment=color_dsprits"], "Did you mean 'color_dsprites'?"),
        (["data=dsprits"], "Did you mean 'dsprites'?"),
        (["groups=deft6"], "there is no 'groups/deft6': choose one of deft, deft2,"),
        (["experiment=dsprites"], "write +experiment=<name>"),
        (["sed=1"], "'sed' is not a field of the configuration. Did you mean 'seed'?"),
        (["groups.gama=1"], "Did you mean 'groups.gamma'?"),
        (["+sed=1"], "sed is not a field of the configuration"),
        (["+groups.gama=1"], "unexpected keyword argument 'gama'"),
        (["seed=one"], "seed is 'one': give a whole number from 0 up"),
        (["lr=fast"], "lr is 'fast': give a number above 0"),
        (["name=123"], "name is 123: give a word"),
        (["tags=one"], "tags is 'one': give a list of words"),
        (["compile=maybe"], "compile is 'maybe': give true or false"),
        (["batch_size=0"], "batch_size is 0"),
        (
            ["schedule.pressures=[4,3,2,1]", "schedule.epochs=[1,1,1]"],
            "pressures has 4 values and schedule.epochs has 3",
        ),
        (["groups.latents=[5,5]"], "has 4 stages and groups.latents has 2 groups"),
        (["groups.gamma=1.01"], "give a number from 0 to 1"),
        (["groups=deft2"], "the schedule has 4 stages and groups.latents has 2 groups"),
        (["trainer.accelerator=abacus", *TINY[1:2]], "trainer"),
        (["trainer.precision=7", *TINY[1:2]], "trainer"),
        (["data=custom"], "data.path is null: give"),
        (["data.source=elsewhere"], "data.source is 'elsewhere'"),
        (["resume=true"], "there is no unfinished run of this name and seed under "),
        (["resume=nowhere"], "nowhere holds no run to resume"),
        (["+trainer.max_steps=20"], "trainer.max_steps is 20: set schedule.epochs or scale.fraction"),
        (["+trainer.callbacks=[]"], "trainer.callbacks is []: set callbacks, as in ~callbacks.traversals"),
        (
            ["+experiment=fig13_beta_vae", "schedule.steps=20"],
            "schedule.steps is 20, and has no effect since schedule.epochs is 23: set schedule.epochs, or add "
            "schedule.epochs=null.",
        ),
        (
            ["+experiment=beta_vae", "schedule=piecewise", "groups=deft", "schedule.pressure=6"],
            "schedule.pressure is 6, and schedule=piecewise does not use it: set schedule.pressures.",
        ),
        (["threads=none"], "threads is 'none': give a whole number from 1 up"),
        (["sweep.resume=true"], "sweep.resume is True without --multirun: add --multirun"),
        (["+sweep=baselines"], "baselines is a sweep over experiments, not a single run: add --multirun"),
        (["+experiment=fig13_deft_tc"], "fig13_deft_tc is a sweep over experiments, not a single run"),
        (["seed=[1"], "the override 'seed=[1' cannot be read"),
    ],
)
def test_a_mistake_is_one_line_and_a_status(arguments: list[str], sentence: str) -> None:
    status, line = command(*arguments, "logger=csv")
    assert status == 1
    assert sentence in line
    assert "\n" not in line


def test_a_refused_configuration_leaves_no_folder(tmp_path: Path) -> None:
    command("seed=one")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_run_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    status, line = command(f"hydra.run.dir={tmp_path}/taken/run")
    assert (status, "cannot be written" in line) == (1, True)
    assert (tmp_path / "taken").read_text() == "a file"


@pytest.mark.slow  # trains a run
def test_a_run_lands_in_outputs_under_its_name_and_seed(tmp_path: Path) -> None:
    assert command(*TINY, *PLAIN, "schedule.epochs=[0.1,0.1,0.1,0.1]", "seed=7") == (0, "")
    (folder,) = (tmp_path / "outputs" / "color_dsprites").iterdir()
    assert folder.name.endswith("_seed7")
    assert OmegaConf.load(folder / "config.yaml").seed == 7
    assert len(re.findall(r"Stage \d of 4 at step", (folder / "run.log").read_text())) == 4


def _python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -X importtime`, which lists on stderr every module that is imported."""
    return subprocess.run(
        [sys.executable, "-X", "importtime", *arguments],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )


def _imports_torch(process: subprocess.CompletedProcess[str]) -> bool:
    assert re.search(r"\| +hydra$", process.stderr, re.MULTILINE)
    return re.search(r"\| +torch$", process.stderr, re.MULTILINE) is not None


def test_cfg_job_prints_the_configuration_and_imports_no_torch() -> None:
    done = _python("-m", "deft_lightning", "+experiment=color_dsprites", "--cfg", "job")
    printed = OmegaConf.create(done.stdout)
    assert list(printed.schedule.pressures) == [160, 105, 30, 1]
    assert printed.data._target_.endswith("ColorDSprites")
    assert not _imports_torch(done)


def test_help_imports_no_torch() -> None:
    done = _python("-m", "deft_lightning", "--help")
    assert "deft_lightning is powered by Hydra" in done.stdout
    assert not _imports_torch(done)


def test_tab_completion_lists_the_experiments_and_imports_no_torch() -> None:
    """As the shell asks for completions."""
    line = "deft-lightning +experiment=color"
    done = _python("-m", "deft_lightning", "-sc", "query=bash", COMP_LINE=line, COMP_POINT=str(len(line)))
    assert "+experiment=color_dsprites" in done.stdout.split()
    assert not _imports_torch(done)


@pytest.mark.slow  # starts Python, and imports torch there
def test_a_closed_output_ends_no_run() -> None:
    """As in `python -m deft_lightning ... 2>&1 | head -1`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "deft_lightning", *QUICK],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=120) == 0
    (path,) = Path("outputs").rglob(results.FILE)
    assert results.status(path.parent) == Status.FINISHED


def test_a_run_that_another_process_trains_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "outputs" / "dsprites" / "2026-01-31_12-00-00_seed0"
    folder.mkdir(parents=True)
    (folder / "results.json").write_text('{"status": "running", "seed": 0}')
    with sweep.lock(folder):
        status, line = command("+experiment=dsprites", "name=dsprites", "resume=true", "logger=csv")
    assert status == 1
    assert "another process is training the run in" in line
    assert (folder / "results.json").read_text() == '{"status": "running", "seed": 0}'
