"""The command line: what Hydra users expect of it, and one sentence for every mistake."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from deft_lightning import __main__
from tests.helpers import PLAIN, TINY


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run `python -m deft_lightning` in an empty folder; gives exit status and the error line."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["deft_lightning", *arguments])
        OmegaConf.clear_cache(OmegaConf.create())
        status, said = 0, ""
        try:
            __main__.main()
        except SystemExit as stop:
            status, said = (stop.code, "") if isinstance(stop.code, int) else (1, str(stop.code))
        lines = (said + capsys.readouterr().err).splitlines()
        return status, "\n".join(line for line in lines if line.startswith("error:"))

    return call


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["+experiment=color_dsprits"], "there is no 'experiment/color_dsprits'"),
        (["+experiment=color_dsprits"], "Did you mean 'color_dsprites'?"),
        (["data=dsprits"], "Did you mean 'dsprites'?"),
        (["groups=deft6"], "there is no 'groups/deft6'; groups: there are deft, deft2,"),
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
        (["data=custom"], "data.path should say where the images are"),
        (["data.source=elsewhere"], "data.source is 'elsewhere'"),
        (["resume=true"], "there is no unfinished run of this name and seed under "),
        (["resume=nowhere"], "nowhere holds no run to resume"),
        (["threads=none"], "threads is 'none': give a whole number from 1 up"),
        (["sweep.resume=true"], "sweep.resume is for sweeps: add --multirun"),
        (["+sweep=baselines"], "baselines is a sweep over experiments and no run by itself: add --multirun"),
        (["+experiment=fig13_deft_tc"], "fig13_deft_tc is a sweep over experiments and no run by itself"),
        (["seed=[1"], "the override 'seed=[1' cannot be read"),
    ],
)
def test_a_mistake_is_one_line_and_a_status(command, arguments: list[str], sentence: str) -> None:
    status, line = command(*arguments, "logger=csv")
    assert status == 1
    assert sentence in line
    assert "\n" not in line


def test_a_refused_configuration_leaves_no_folder(command, tmp_path: Path) -> None:
    command("seed=one")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_run_folder_that_cannot_be_made(command, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    status, line = command(f"hydra.run.dir={tmp_path}/taken/run")
    assert (status, "cannot be written" in line) == (1, True)
    assert (tmp_path / "taken").read_text() == "a file"


def test_a_run_lands_in_outputs_under_its_name_and_seed(command, tmp_path: Path) -> None:
    assert command(*TINY, *PLAIN, "schedule.epochs=[0.1,0.1,0.1,0.1]", "seed=7") == (0, "")
    (folder,) = (tmp_path / "outputs" / "color_dsprites").iterdir()
    assert folder.name.endswith("_seed7")
    assert OmegaConf.load(folder / "config.yaml").seed == 7
    assert (folder / "run.log").read_text().count("Stage ") == 4


def _python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )


def test_cfg_job_prints_the_configuration_(tmp_path: Path) -> None:
    done = _python("-m", "deft_lightning", "+experiment=color_dsprites", "--cfg", "job", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    printed = OmegaConf.create(done.stdout)
    assert list(printed.schedule.pressures) == [160, 105, 30, 1]
    assert printed.data._target_.endswith("ColorDSprites")


def test_looking_at_the_configuration_imports_no_torch(tmp_path: Path) -> None:
    done = _python("-c", "import deft_lightning.__main__, sys; print('torch' in sys.modules)", cwd=tmp_path)
    assert done.stdout.strip() == "False", done.stderr


def test_tab_completion_knows_the_experiments(tmp_path: Path) -> None:
    code = (
        "from hydra._internal.core_plugins.bash_completion import BashCompletion;"
        "from hydra._internal.config_loader_impl import ConfigLoaderImpl;"
        "from hydra._internal.utils import create_automatic_config_search_path as path;"
        "from deft_lightning.training.config import config_folder;"
        "loader = ConfigLoaderImpl(config_search_path=path(None, None, str(config_folder())));"
        "print(BashCompletion(loader)._query('config', '+experiment=color'))"
    )
    done = _python("-c", code, cwd=tmp_path)
    assert "+experiment=color_dsprites" in done.stdout, done.stderr
