"""Every method, trained at smoke scale on dSprites, does what its objective is for."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deft_lightning import results, run
from tests.helpers import PLAIN, compose_run

# Slow: each run takes 130 to 150 steps of 64 images, FactorVAE's with a discriminator of five million weights.
pytestmark = pytest.mark.slow

UNTRAINED = math.log(2) * 64 * 64  # nats: every pixel a coin toss

Outcome = tuple[dict[str, Any], dict[str, float]]


@pytest.fixture(scope="module")
def train(dsprites_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Outcome]:
    """Trains an experiment at smoke scale, once for the same overrides: its results and its last logged numbers."""
    known: dict[tuple[str, ...], Outcome] = {}

    def train(*overrides: str) -> Outcome:
        if overrides not in known:
            smoke = ("scale=smoke", f"data.root={dsprites_root}", "trainer=cpu", "logger=csv", *PLAIN)
            folder = tmp_path_factory.mktemp("methods") / "run"
            run.train(*compose_run(folder, *smoke, base=overrides))
            last: dict[str, float] = {}
            with (folder / "metrics.csv").open(newline="") as file:
                for row in csv.DictReader(file):
                    last |= {key: float(value) for key, value in row.items() if key and value}
            known[overrides] = results.read(folder), last
        return known[overrides]

    return train


@pytest.mark.parametrize(
    "experiment",
    ["beta_vae", "annealed_vae", "factor_vae", "dip_vae_i", "dip_vae_ii", "beta_tcvae", "deft", "deft_tc"],
)
def test_every_method_learns(experiment: str, train: Callable[..., Outcome]) -> None:
    """All parts are finite, the images are rebuilt better than by chance, and the codes are not silent."""
    outcome, logged = train(f"+experiment={experiment}")
    assert outcome["status"] == "finished"
    assert all(math.isfinite(value) for value in logged.values())
    *_, last = outcome["stages"].values()
    assert 0 < last["scores"]["reconstruction"] < 0.5 * UNTRAINED
    split = outcome["history"]["kl_decomposition"][str(last["step"])]
    assert split["mi"] + split["tc"] + split["dwkl"] == pytest.approx(split["kl"], abs=0.1 + 0.05 * split["kl"])
    assert 0 <= split["mi"] <= math.log(1000) + 0.01  # of the 1,000 images it is computed on


def test_the_kl_of_annealed_vae_follows_its_capacity(train: Callable[..., Outcome]) -> None:
    """Its capacity stops growing after a third of the run; gamma = 1000 nails the KL to it."""
    for capacity in (5, 10):
        outcome, logged = train("+experiment=annealed_vae", f"schedule.c_max={capacity}")
        assert logged["capacity"] == capacity
        assert logged["train/kl"] == pytest.approx(capacity, abs=0.15 * capacity)
        assert outcome["stages"]["stage_1"]["scores"]["kl"] == pytest.approx(capacity, abs=0.15 * capacity)


def test_the_discriminator_sees_that_codes_depend_on_each_other(train: Callable[..., Outcome]) -> None:
    _, logged = train("+experiment=factor_vae")
    assert logged["train/discriminator_loss"] < math.log(2)
    assert logged["train/discriminator_accuracy"] > 0.55


@pytest.mark.parametrize("experiment", ["dip_vae_i", "dip_vae_ii"])
def test_dip_draws_the_covariance_to_the_identity(experiment: str, train: Callable[..., Outcome]) -> None:
    _, free = train(f"+experiment={experiment}", "objective.lambda_od=0")
    _, drawn = train(f"+experiment={experiment}", "objective.lambda_od=50")
    for part in ("train/dip_diagonal", "train/dip_off_diagonal"):
        assert drawn[part] < free[part]


def test_beta_tcvae_lowers_the_total_correlation(train: Callable[..., Outcome]) -> None:
    """The same start, data and noise under beta 1 and beta 10."""
    splits = []
    for beta in (1, 10):
        outcome, _ = train("+experiment=beta_tcvae", f"objective.beta={beta}")
        splits.append(list(outcome["history"]["kl_decomposition"].values())[-1])
    assert splits[1]["tc"] < splits[0]["tc"]
