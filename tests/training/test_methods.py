"""Every method learns on dSprites, and does on tiny data what its objective is for."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from deft_lightning import load_run
from deft_lightning.common import results
from deft_lightning.training import run
from tests.helpers import PLAIN, compose_run

pytestmark = pytest.mark.slow  # 17 runs of 130 to 300 steps

UNTRAINED = math.log(2) * 64 * 64  # nats: ln 2 for every pixel

STEPS = 300

Outcome = tuple[dict[str, Any], dict[str, float]]


def _train(folder: Path, *overrides: str) -> Outcome:
    """The results of a run, and its last logged numbers."""
    run.train(*compose_run(folder, *PLAIN, base=overrides))
    last: dict[str, float] = {}
    with (folder / "metrics.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            last |= {key: float(value) for key, value in row.items() if key and value}
    return results.read(folder), last


@pytest.mark.acceptance  # eight trainings of 130 steps
@pytest.mark.parametrize(
    "experiment",
    ["beta_vae", "annealed_vae", "factor_vae", "dip_vae_i", "dip_vae_ii", "beta_tcvae", "deft", "deft_tc"],
)
def test_every_method_learns_on_dsprites(experiment: str, dsprites_root: Path, tmp_path: Path) -> None:
    """As many steps as at smoke scale: all parts are finite, and images are reconstructed better than by chance."""
    short = [f"data.root={dsprites_root}", "scale=smoke", "batch_size=8", "trainer=cpu", "logger=csv"]
    if experiment.startswith("deft"):
        short.append("scale.fraction=0.0000625")  # an epoch has eight times as many steps as with a batch of 64
    if experiment == "factor_vae":
        short.append("objective.hidden=100")
    outcome, logged = _train(tmp_path / "run", f"+experiment={experiment}", *short)
    assert 130 <= outcome["steps"] <= 150
    assert all(math.isfinite(value) for value in logged.values())
    *_, last = outcome["stages"].values()
    assert 0 < last["scores"]["reconstruction"] < 0.5 * UNTRAINED
    split = outcome["history"]["kl_decomposition"][str(last["step"])]
    assert split["mi"] + split["tc"] + split["dwkl"] == pytest.approx(split["kl"], abs=0.1 + 0.05 * split["kl"])
    assert -0.01 <= split["mi"] <= math.log(1000) + 0.01  # of the 1,000 images it is computed on


def _on_squares(folder: Path, experiment: str, *overrides: str) -> Outcome:
    """300 steps on 96 squares and discs, enough for the codes to encode the images."""
    tiny = ("data._target_=tests.helpers.TinySprites", "batch_size=8", "scale=smoke", "scale.fraction=1")
    short = (f"schedule.steps={STEPS}", "lr=2e-3", "trainer=cpu", "logger=csv", "scale.num_points=96", "compile=false")
    return _train(folder, f"+experiment={experiment}", *tiny, *short, *overrides)


@pytest.mark.acceptance  # trains some 300 steps
def test_the_kl_of_annealed_vae_follows_its_capacity(tmp_path: Path) -> None:
    """The capacity stops growing half way; gamma = 1000 keeps the KL near it."""
    for capacity in (3, 6):
        limits = (f"schedule.c_max={capacity}", f"schedule.increase_steps={STEPS // 2}")
        outcome, logged = _on_squares(tmp_path / str(capacity), "annealed_vae", *limits)
        assert logged["capacity"] == capacity
        assert outcome["stages"]["stage_1"]["scores"]["kl"] == pytest.approx(capacity, rel=0.15)


def test_the_discriminator_distinguishes_codes_from_permuted_codes(tmp_path: Path) -> None:
    """gamma = 0: nothing makes the codes independent, and the discriminator learns that they are not."""
    _, logged = _on_squares(tmp_path / "run", "factor_vae", "objective.gamma=0", "objective.hidden=100")
    assert 0 < logged["train/discriminator_loss"] < math.log(2)


@pytest.mark.acceptance  # trains two runs of 300 steps each
@pytest.mark.parametrize("experiment", ["dip_vae_i", "dip_vae_ii"])
def test_dip_brings_the_covariance_close_to_the_identity(experiment: str, tmp_path: Path) -> None:
    """The squared distance of the covariance from the identity is the sum of both penalties, I's tenfold apart."""
    distances = []
    for weight in (0, 50):
        _, logged = _on_squares(tmp_path / str(weight), experiment, f"objective.lambda_od={weight}")
        distances.append(logged["train/dip_off_diagonal"] + logged["train/dip_diagonal"])
    assert distances[1] < 0.5 * distances[0]


@pytest.mark.acceptance  # trains two runs of 300 steps
def test_beta_tcvae_lowers_the_total_correlation(tmp_path: Path) -> None:
    """The same start, data and noise under beta 1 and beta 10."""
    total_correlation = []
    for beta in (1, 10):
        outcome, _ = _on_squares(tmp_path / str(beta), "beta_tcvae", f"objective.beta={beta}")
        total_correlation.append(outcome["history"]["kl_decomposition"][str(STEPS)]["tc"])
    assert total_correlation[1] < 0.8 * total_correlation[0]


@pytest.mark.acceptance  # 700 steps of the slowest networks each
@pytest.mark.parametrize("likelihood", ["gaussian", "gaussian_learnt", "continuous_bernoulli"])
def test_residual_networks_learn_grey_images_with_every_likelihood(likelihood: str, tmp_path: Path) -> None:
    """The mean image would leave all of the variance."""
    grey = ("data._target_=tests.helpers.GreySprites", "schedule.steps=700", "schedule.pressure=1", "lr=5e-4")
    choices = ("networks=residual", "networks.channels=8", f"likelihood={likelihood}")
    outcome, logged = _on_squares(tmp_path / "run", "beta_vae", *grey, *choices)
    assert outcome["training"]["networks"] == {"name": "residual", "channels": 8}
    assert outcome["training"]["likelihood"]["name"] == likelihood
    assert all(math.isfinite(value) for value in logged.values())
    model, data = load_run(tmp_path / "run", trust=True)
    images = torch.cat(list(data.evaluation_images(torch.arange(96))))
    left = (model.reconstruct(images) - images).square().mean() / images.var(dim=0, correction=0).mean()
    assert float(left) < 0.75
    if likelihood == "gaussian_learnt":
        assert logged["train/sigma"] == pytest.approx(float(model.likelihood.squared_error.sqrt()), rel=0.5)
