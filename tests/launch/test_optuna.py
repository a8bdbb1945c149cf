"""Optuna as a sweeper, on a score with a known maximum instead of a training."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from deft_lightning import DeftError
from deft_lightning.common import results
from deft_lightning.launch import cli
from deft_lightning.launch.sweep import SweepFolder, jobs

pytest.importorskip("optuna", reason="pip install 'deft-lightning[optuna]'")

SEARCH = ("+experiment=beta_vae", "hydra/sweeper=optuna", "sweep.score=mig", "hydra.sweeper.n_trials=30",
          "schedule.pressure=tag(log, interval(1.0, 1000.0))")  # fmt: skip
trained: list[float] = []


def task(cfg: DictConfig, folder: Path) -> None:
    """A run whose MIG is greatest, 1, under a pressure of 30; one under more than 300 fails."""
    pressure = cfg.schedule.pressure
    trained.append(pressure)
    if pressure > 300:
        raise DeftError("the pressure is too high")
    mig = 1 - math.log(pressure / 30) ** 2
    results.update(folder, status="finished", training={}, stages={"stage_1": {"scores": {"mig": mig}}})


@pytest.fixture
def search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Sweep the task in an empty folder; gives exit status, screen, and the pressures trained in their order."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, list[float]]:
        monkeypatch.setattr(sys, "argv", ["deft_lightning", "--multirun", *arguments])
        OmegaConf.clear_cache(OmegaConf.create())
        trained.clear()
        status, said = 0, ""
        try:
            cli.run_task(task)
        except SystemExit as stop:
            status, said = (stop.code, "") if isinstance(stop.code, int) else (1, str(stop.code))
        captured = capsys.readouterr()
        return status, captured.out + captured.err + said, list(trained)

    return call


def test_the_greatest_score_is_found_whatever_fails(search) -> None:
    status, said, pressures = search(*SEARCH, "sweep.name=one")
    assert status == 1  # some jobs have failed
    assert len(pressures) == 30
    assert max(pressures) > 300
    assert "the pressure is too high" in said
    best = OmegaConf.load("multirun_outputs/one/best.yaml")
    nearest = min(pressures, key=lambda pressure: abs(math.log(pressure / 30)))
    assert best.params["schedule.pressure"] == pytest.approx(nearest)
    assert best.value == pytest.approx(1 - math.log(nearest / 30) ** 2)
    distances = [abs(math.log(pressure / 30)) for pressure in pressures]
    assert sum(distances[20:]) / 10 < 1.4  # 1.7 at random, more than 2 where it looks for the smallest
    assert SweepFolder.current is not None
    assert len(jobs(SweepFolder.current)) == 30


def test_the_search_is_a_function_of_its_seed_and_resumed_it_trains_only_what_failed(search) -> None:
    few = (*SEARCH, "hydra.sweeper.n_trials=12")  # two more than the sampler draws at random
    first = search(*few, "sweep.name=one")[2]
    failed = [pressure for pressure in first if pressure > 300]
    assert 0 < len(failed) < len(first) == 12
    assert search(*few, "sweep.name=two")[2] == first
    assert search(*few, "sweep.name=three", "hydra.sweeper.seed=1")[2] != first
    assert search(*few, "sweep.name=one", "sweep.resume=true")[2] == failed


def test_jobs_can_be_asked_for_in_batches_and_fields_can_be_choices(search) -> None:
    choices = ("batch_size=32,64", "seed=range(3)", "lr=tag(log, interval(1e-5, 1e-3))")
    narrow = (*SEARCH[:3], "schedule.pressure=tag(int, interval(5, 90))", "hydra.sweeper.n_trials=5")
    status, said, pressures = search(*narrow, *choices, "hydra.sweeper.n_jobs=3", "sweep.name=one")
    assert (status, len(pressures)) == (0, 5)
    assert all(isinstance(pressure, int) and 5 <= pressure <= 90 for pressure in pressures)
    assert said.count("Launching 3 jobs locally") == said.count("Launching 2 jobs locally") == 1
    assert set(OmegaConf.load("multirun_outputs/one/best.yaml").params) == {
        "schedule.pressure", "batch_size", "seed", "lr",
    }  # fmt: skip


def test_pressures_can_be_looked_for_one_by_one(search) -> None:
    """A list is no interval: its values stand under `sweep`, which takes any field, and the list refers to them."""
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
        (SEARCH[:2], "there is nothing to maximise: name a score, as in sweep.score=mig"),
        (SEARCH[:3], "there is nothing to look through: give an interval"),
        ((*SEARCH[:3], "schedule.pressure=glob(*)"), "schedule.pressure=glob(*) cannot be looked through"),
    ],
)
def test_what_cannot_be_searched_is_one_sentence(search, arguments: tuple[str, ...], sentence: str) -> None:
    status, said, pressures = search(*arguments)
    assert (status, pressures) == (1, [])
    assert f"error: {sentence}" in said


def test_a_score_that_runs_do_not_have_is_said_with_those_they_have(search) -> None:
    """The run has finished all the same, and the same sweep with the right name does not train it again."""
    one = (*SEARCH[:2], *SEARCH[4:], "hydra.sweeper.n_trials=1")
    _, said, _ = search(*one, "sweep.score=gim")
    assert "sweep.score is 'gim', and the run was scored for mig: choose one of these." in said
    assert SweepFolder.current is not None
    assert [job["status"] for job in jobs(SweepFolder.current).values()] == ["finished"]
    status, _, pressures = search(*one, "sweep.score=mig", "sweep.resume=true")
    assert (status, pressures) == (0, [])
