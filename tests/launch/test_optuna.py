"""Optuna as a sweeper, on a score with a known maximum instead of a training."""

from __future__ import annotations

import math
from contextlib import chdir
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from deft_lightning import DeftError
from deft_lightning.common import results
from deft_lightning.common.errors import Diverged, Interrupted
from deft_lightning.common.results import Status
from deft_lightning.launch import cli
from deft_lightning.launch.sweep import SweepFolder, jobs
from tests.launch.running import sweep

pytestmark = pytest.mark.slow  # trains runs

pytest.importorskip("optuna", reason="pip install 'deft-lightning[optuna]'")

SEARCH = ("+experiment=beta_vae", "hydra/sweeper=optuna", "sweep.score=mig", "hydra.sweeper.n_trials=30",
          "schedule.pressure=tag(log, interval(1.0, 1000.0))")  # fmt: skip
trained: list[float] = []


def task(cfg: DictConfig, folder: Path) -> None:
    """A run whose MIG is highest, 1, at a pressure of 30. Above 300 it fails, above 600 it diverges."""
    pressure = cfg.schedule.pressure
    trained.append(pressure)
    results.update(folder, training={})
    if pressure > 600:
        raise Diverged("the pressure is much too high")
    if pressure > 300:
        raise DeftError("the pressure is too high")
    mig = 1 - math.log(pressure / 30) ** 2
    results.update(folder, status=Status.FINISHED, stages={"stage_1": {"scores": {"mig": mig}}})


def search(*arguments: str) -> tuple[int, str, list[float]]:
    """Sweep the task; returns the exit status, what was printed, and the pressures trained, in order."""
    trained.clear()
    status, printed, _ = sweep(*arguments, main=lambda: cli.run_task(task))
    return status, printed, list(trained)


@pytest.fixture(scope="module")
def thirty(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, list[float]]:
    """A search of thirty trials: its working folder, what it printed, and its pressures."""
    folder = tmp_path_factory.mktemp("thirty")
    with chdir(folder):
        status, printed, pressures = search(*SEARCH, "sweep.name=one")
    assert status == 1  # some jobs have failed
    return folder, printed, pressures


def test_the_highest_score_is_found_whatever_fails(thirty) -> None:
    folder, printed, pressures = thirty
    assert len(pressures) == 30
    assert max(pressures) > 300
    assert "the pressure is too high" in printed
    best = OmegaConf.load(folder / "multirun_outputs/one/best.yaml")
    nearest = min(pressures, key=lambda pressure: abs(math.log(pressure / 30)))
    assert best.params["schedule.pressure"] == pytest.approx(nearest)
    assert best.value == pytest.approx(1 - math.log(nearest / 30) ** 2)
    distances = [abs(math.log(pressure / 30)) for pressure in pressures]
    assert sum(distances[20:]) / 10 < 1.4  # 1.7 at random, more than 2 if it searched for the lowest score
    assert len(jobs(folder / "multirun_outputs/one")) == 30


def test_the_search_is_a_function_of_its_seed_and_resumed_it_trains_only_what_failed(thirty) -> None:
    _, _, pressures = thirty
    few = (*SEARCH, "hydra.sweeper.n_trials=12")  # two more than the sampler draws at random
    assert search(*few, "sweep.name=two")[2] == pressures[:12]
    assert search(*SEARCH, "hydra.sweeper.n_trials=1", "hydra.sweeper.seed=1")[2] != pressures[:1]
    failed = [pressure for pressure in pressures[:12] if 300 < pressure <= 600]
    diverged = [pressure for pressure in pressures[:12] if pressure > 600]
    assert failed
    assert diverged
    assert search(*few, "sweep.name=two", "sweep.resume=true")[2] == failed


def test_trials_that_have_not_begun_are_counted() -> None:
    ended = {3: Interrupted("the run was stopped by SIGTERM at step 3: resume=true continues from there.", 15)}

    def stopped(cfg: DictConfig, folder: Path) -> None:
        task(cfg, folder)
        if len(trained) in ended:
            raise ended[len(trained)]

    trained.clear()
    status, printed, _ = sweep(*SEARCH, "hydra.sweeper.n_trials=5", main=lambda: cli.run_task(stopped))
    assert (status, len(trained)) == (1, 3)
    assert printed.count("a trial of the search") == printed.count("not begun") == 2
    assert "of 5 jobs finished" in printed


def test_trials_can_be_launched_in_batches_and_fields_can_be_choices() -> None:
    choices = ("batch_size=32,64", "seed=range(3)", "lr=tag(log, interval(1e-5, 1e-3))")
    narrow = (*SEARCH[:3], "schedule.pressure=tag(int, interval(5, 90))", "hydra.sweeper.n_trials=5")
    status, printed, pressures = search(*narrow, *choices, "hydra.sweeper.n_jobs=3", "sweep.name=one")
    assert (status, len(pressures)) == (0, 5)
    assert all(isinstance(pressure, int) and 5 <= pressure <= 90 for pressure in pressures)
    assert printed.count("Launching 3 jobs locally") == printed.count("Launching 2 jobs locally") == 1
    assert set(OmegaConf.load("multirun_outputs/one/best.yaml").params) == {
        "schedule.pressure", "batch_size", "seed", "lr",
    }  # fmt: skip


def test_settings_suggested_again_are_one_job() -> None:
    """Six trials of two choices: both are trained once, also where they come twice in one batch."""
    narrow = (*SEARCH[:3], "schedule.pressure=20,40", "hydra.sweeper.n_trials=6")
    for n_jobs in (1, 3):
        status, printed, pressures = search(*narrow, f"hydra.sweeper.n_jobs={n_jobs}", f"sweep.name=of_{n_jobs}")
        assert (status, sorted(pressures)) == (0, [20, 40])
        assert "2 of 2 jobs finished" in printed
        assert OmegaConf.load(f"multirun_outputs/of_{n_jobs}/best.yaml").params["schedule.pressure"] == "40"


def test_the_command_line_wins_over_the_parameters_of_an_experiment() -> None:
    seeds: list[int] = []

    def keep(cfg: DictConfig, folder: Path) -> None:
        seeds.append(cfg.seed)
        task(cfg, folder)

    fixed = (*SEARCH[:3], "+hydra.sweeper.params.seed='range(9)'", "seed=3", "schedule.pressure=interval(20, 40)")
    status, _, _ = sweep(*fixed, "hydra.sweeper.n_trials=4", "sweep.name=one", main=lambda: cli.run_task(keep))
    assert (status, seeds) == (0, [3] * 4)
    assert list(OmegaConf.load("multirun_outputs/one/best.yaml").params) == ["schedule.pressure"]


@pytest.mark.parametrize("field", ["n_trials=0", "n_jobs=-1"])
def test_wrong_numbers_of_trials_are_one_sentence(field: str) -> None:
    status, printed, pressures = search(*SEARCH, f"hydra.sweeper.{field}")
    assert (status, pressures) == (1, [])
    assert f"hydra.sweeper.{field.partition('=')[0]} is" in printed


def test_each_pressure_of_a_list_can_be_searched() -> None:
    """The intervals are fields under `sweep`, which accepts any, and the list refers to them."""
    refer = ("schedule.pressure=${sweep.first}", "+sweep.first=interval(20, 40)", "hydra.sweeper.n_trials=3")
    status, _, pressures = search(*SEARCH[:3], *refer)
    assert status == 0
    assert len(set(pressures)) == 3
    assert all(20 <= pressure <= 40 for pressure in pressures)
    assert SweepFolder.current is not None
    assert SweepFolder.current.name.startswith("beta_vae_20")
    assert len(jobs(SweepFolder.current)) == 3
    assert search(*SEARCH[:3], *refer, "sweep.resume=true")[2] == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (SEARCH[:2], "sweep.score is null: name the score to maximise, as in sweep.score=mig"),
        (SEARCH[:3], "the search space is empty: give an interval"),
        ((*SEARCH[:3], "schedule.pressure=glob(*)"), "schedule.pressure=glob(*) cannot be searched"),
    ],
)
def test_what_cannot_be_searched_is_one_sentence(arguments: tuple[str, ...], sentence: str) -> None:
    status, printed, pressures = search(*arguments)
    assert (status, pressures) == (1, [])
    assert f"error: {sentence}" in printed
