"""examples/own_method as a user has it: copied elsewhere, trained, swept, resumed, evaluated, reported and loaded."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deft_lightning.common import results
from tests.docs.pages import ROOT
from tests.helpers import PLAIN

pytestmark = pytest.mark.acceptance  # a dozen commands, each of which imports torch

SMOKE = ("scale=smoke", "trainer=cpu", "logger=csv", "compile=false", *PLAIN)


def run(folder: Path, *arguments: str, module: str = "deft_lightning") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory, dsprites_root: Path) -> Path:
    """A copy of the example with a finished run in outputs/mine/one."""
    folder = Path(shutil.copytree(ROOT / "examples" / "own_method", tmp_path_factory.mktemp("lab") / "own_method"))
    data = ("data=dsprites", f"data.root={dsprites_root}")
    done = run(folder, "--config-dir", "conf", "+experiment=mine", *data, *SMOKE, "hydra.run.dir=outputs/mine/one")
    assert done.returncode == 0, done.stderr
    return folder


def test_a_run_has_its_score_and_says_what_code_it_used(mine: Path) -> None:
    content = results.read(mine / "outputs" / "mine" / "one")
    assert content["status"] == "finished"
    assert content["method"]["objective"] == "ordered VAE"
    assert content["training"]["objective"] == {"name": "my_method:OrderedVAE", "spread": 2.0}
    assert content["training"]["networks"]["name"] == "my_method:Patches"
    assert content["own_code"]["my_method"]["file"] == str(mine / "my_method.py")
    assert 0 <= content["stages"]["stage_1"]["scores"]["sparsity"] <= 1


def test_it_is_evaluated_loaded_and_reported(mine: Path) -> None:
    scored = run(mine, "outputs/mine/one", "metrics=fast", "metrics.at_end=[irs]", module="deft_lightning.evaluate")
    assert scored.returncode == 0, scored.stderr
    assert "irs" in results.read(mine / "outputs" / "mine" / "one")["stages"]["stage_1"]["scores"]
    code = """
from deft_lightning import DeftError, load_model
try:
    load_model("outputs/mine/one")
except DeftError as error:
    print(error)
model = load_model("outputs/mine/one", trust=True)
print(type(model.objective).__name__, model.decode(model.encode(__import__("torch").zeros(2, 1, 64, 64)).mean).shape)
"""
    (mine / "use.py").write_text(code)
    used = run(mine, module="use")
    assert used.returncode == 0, used.stderr
    assert "add trust=True (in a command --trust) to import it" in used.stdout
    assert "OrderedVAE torch.Size([2, 1, 64, 64])" in used.stdout
    reported = run(mine, "outputs", module="deft_lightning.report")
    assert reported.returncode == 0, reported.stderr
    assert "ordered VAE" in (mine / "report" / "index.html").read_text()


def test_a_sweep_in_processes_and_a_change_of_the_code(mine: Path, dsprites_root: Path) -> None:
    data = ("data=dsprites", f"data.root={dsprites_root}")
    sweep = ("--multirun", "--config-dir", "conf", "+sweep=compare", *data, *SMOKE, "seed=0", "sweep.name=lab")
    chosen = ("+experiment@_global_=fig13_beta_vae,mine", "hydra/launcher=processes")
    done = run(mine, *sweep, *chosen)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 jobs finished" in done.stdout
    folders = [path.parent for path in mine.glob("multirun_outputs/lab/*/results.json")]
    (folder,) = [path for path in folders if results.read(path)["method"]["objective"] == "ordered VAE"]
    results.update(folder, status="interrupted")
    (mine / "my_method.py").write_text((mine / "my_method.py").read_text() + "\n# changed\n")
    resumed = run(mine, *sweep, *chosen, "sweep.resume=true")
    assert "my_method" in resumed.stdout + resumed.stderr
    assert "has changed since this run began" in resumed.stdout + resumed.stderr
    assert json.loads((folder / "results.json").read_text())["status"] == "finished"


def test_a_module_that_is_elsewhere_is_one_sentence(mine: Path, tmp_path: Path) -> None:
    shutil.copytree(mine / "conf", tmp_path / "conf")
    done = run(tmp_path, "--config-dir", "conf", "+experiment=mine", "data=dsprites", *SMOKE)
    assert done.returncode == 1
    assert "run the command in the folder of its module" in done.stderr
    assert "Traceback" not in done.stderr
