"""The spectrum as a command, and beta_high taken from it by anneal tests, proposals and thresholds of factors."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from deft_lightning import Anneal, DeftError
from deft_lightning.common import results
from deft_lightning.common.errors import Interrupted
from deft_lightning.data.spectrum import spectrum, spectrum_of
from deft_lightning.model.likelihoods import Bernoulli, Gaussian, LearntGaussian
from deft_lightning.model.module import DEFT
from deft_lightning.thresholds import factors, propose, record, summary
from deft_lightning.thresholds import spectrum as command
from deft_lightning.training import resolution, run
from tests.helpers import TinySprites, UnlabelledSprites, compose_run, send_signal
from tests.thresholds.test_anneal import ANNEAL
from tests.thresholds.test_factors import TINY_FACTORS
from tests.thresholds.test_propose import SHORT

NULL = "schedule.beta_high=null"
FIRST = float(spectrum_of(UnlabelledSprites()).eigenvalues[0])
HIGH = pytest.approx(1.25 * FIRST, rel=1e-3)


def test_beta_high_is_a_quarter_above_the_first_eigenvalue() -> None:
    assert Anneal().resolved(lambda: 199.7) == Anneal(249.6)  # four digits
    assert Anneal(steps=7, fraction=0.5).resolved(lambda: 4) == Anneal(5, 7, 0.5)
    given = Anneal(300)
    assert given.resolved(lambda: pytest.fail("a number is not computed again")) is given
    assert Anneal().timeline().length == 10_000
    with pytest.raises(DeftError, match=r"^schedule.beta_high is null: give a number"):
        Anneal().timeline().at(0)
    with pytest.raises(DeftError, match=r"^the first eigenvalue of the images is 0.7, so that no information passes"):
        Anneal().resolved(lambda: 0.7)


@pytest.mark.slow  # a run folder and its figure
def test_what_the_command_leaves_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overrides = [word for word in ANNEAL if "beta_high" not in word]
    folder = tmp_path / "run"
    command.measure(*compose_run(folder, *overrides, base=(), config="thresholds_spectrum"))
    content = record.read(folder, "spectrum")
    eigenvalues = spectrum_of(UnlabelledSprites()).eigenvalues
    assert content["eigenvalues"] == pytest.approx(eigenvalues, rel=1e-3)
    assert content["beta_high"] == HIGH
    assert content["settings"] == {
        "seed": 0,
        "images": 960,
        "pixels": int((sum(TinySprites()._masks.float()) > 0).sum()),
        "likelihood": "Bernoulli",
    }
    assert content["alike"][0][0] == 1  # posX and posY move the sprites equally far
    assert results.read(folder)["thresholds"]["eigenvalues"] == content["eigenvalues"]
    assert results.read(folder)["status"] == "finished"
    assert (folder / "figures" / "spectrum.png").stat().st_size > 10_000
    summary.spectrum(folder)
    shown = capsys.readouterr().out
    assert f"{eigenvalues[0]:.1f}" in shown
    assert "are alike: a model may learn them rotated" in " ".join(shown.split())
    assert "of 4,096 pixels are left out: their mean is below 0.001 or above 0.999" in " ".join(shown.split())


@pytest.mark.slow  # trains runs
def test_a_run_records_its_beta_high_and_a_resumed_one_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number is in results.json, config.yaml and the checkpoint. It is computed once."""
    folder = tmp_path / "run"

    def anneal(*overrides: str) -> dict:
        return run.train(*compose_run(folder, NULL, *overrides, base=ANNEAL, config="thresholds"))

    with pytest.raises(Interrupted):
        anneal(*send_signal(16, signal.SIGTERM))
    stopped = results.read(folder)
    assert stopped["training"]["schedule"]["beta_high"] == HIGH
    assert stopped["config_digest"] == results.digest(stopped["training"])
    monkeypatch.setattr(resolution, "first_eigenvalue", lambda *_: pytest.fail("computed again"))
    with pytest.raises(DeftError, match=r"other settings \(schedule.beta_high: .* -> 300\)"):
        anneal("schedule.beta_high=300", "resume=true")
    finished = anneal("resume=true")
    assert finished["training"] == stopped["training"]
    content = record.read(folder, "anneal")
    assert content["settings"]["beta_high"] == content["curves"][0]["beta"][0] == HIGH
    assert content["eigenvalues"] == pytest.approx(spectrum_of(UnlabelledSprites()).eigenvalues, rel=1e-3)
    assert OmegaConf.load(folder / "config.yaml").schedule.beta_high == HIGH
    model = DEFT.load_from_checkpoint(folder / "checkpoints" / "last.ckpt")
    assert model.schedule.beta_high == HIGH  # type: ignore[attr-defined]


@pytest.mark.acceptance  # starts two processes
@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo")
def test_two_processes_find_the_same_beta_high(tmp_path: Path) -> None:
    overrides = (NULL, "trainer=ddp", "trainer.accelerator=cpu")
    outcome = run.train(*compose_run(tmp_path / "run", *overrides, base=ANNEAL, config="thresholds"))
    assert outcome["training"]["schedule"]["beta_high"] == HIGH
    assert record.read(tmp_path / "run", "anneal")["settings"]["beta_high"] == HIGH


@pytest.mark.slow  # trains runs
def test_the_tests_of_a_proposal_share_one_beta_high(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    content = propose.propose(
        *compose_run(folder, *SHORT, NULL, base=ANNEAL, config="thresholds_propose"),
    )
    assert content["settings"]["beta_high"] == HIGH
    for seed in (0, 1):
        assert results.read(folder / f"seed_{seed}")["training"]["schedule"]["beta_high"] == HIGH
    assert results.read(folder)["training"]["schedule"]["beta_high"] == HIGH
    assert OmegaConf.load(folder / "config.yaml").n == 2


@pytest.mark.slow  # trains populations
def test_factors_take_the_largest_eigenvalue_of_their_subsets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every subset has a spectrum of its own, and all are trained under one schedule."""
    seen: list[tuple[int, float]] = []
    first = resolution.first_eigenvalue

    def counting(dataset, likelihood) -> float:
        value = first(dataset, likelihood)
        images = dataset.images(torch.arange(len(dataset)), torch.Generator())
        assert value == pytest.approx(spectrum([images]).eigenvalues[0], rel=1e-3)
        seen.append((len(dataset), value))
        return value

    monkeypatch.setattr(resolution, "first_eigenvalue", counting)
    arguments = compose_run(tmp_path / "run", NULL, base=TINY_FACTORS, config="thresholds_factors")
    content = factors.measure(*arguments)
    assert [size for size, _ in seen] == [2] * 3 + [3] * 3 + [4] * 6  # three subsets of each factor
    expected = 1.25 * max(value for _, value in seen)
    assert content["settings"]["beta_high"] == pytest.approx(expected, rel=1e-3)
    assert results.read(tmp_path / "run")["training"]["schedule"]["beta_high"] == content["settings"]["beta_high"]


@pytest.mark.slow  # an eigendecomposition of 4,096 pixels
def test_the_spectrum_of_a_likelihood() -> None:
    """That of a Gaussian is the covariance over sigma^2; one that is not known is refused with what to do."""
    dataset = UnlabelledSprites()
    images = dataset.images(torch.arange(96), torch.Generator()).flatten(1).double()
    covariance = torch.cov(images.T, correction=0)
    expected = float(torch.linalg.eigvalsh(covariance)[-1]) / 0.25
    assert resolution.first_eigenvalue(dataset, Gaussian(sigma=0.5)) == pytest.approx(expected, rel=1e-3)
    assert resolution.first_eigenvalue(dataset, Bernoulli()) == pytest.approx(
        float(spectrum([images.view(-1, 1, 64, 64).float()]).eigenvalues[0]), rel=1e-3
    )
    with pytest.raises(DeftError, match=r"not for Gaussian learnt sigma: give schedule\.beta_high as a number"):
        resolution.first_eigenvalue(dataset, LearntGaussian())
