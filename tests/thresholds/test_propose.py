"""The proposal as a command: what it proposes where the answer is known, and runs under its schedule."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from deft_lightning import DeftError
from deft_lightning.common import results
from deft_lightning.common.errors import Interrupted
from deft_lightning.thresholds import Auto, propose, record, summary
from deft_lightning.training import build, run
from tests.helpers import PLAIN, TwoSquares, compose_run, correlation_eigenvalues, send_signal
from tests.thresholds.test_anneal import ANNEAL

pytestmark = pytest.mark.slow  # trains runs


def proposal(folder: Path, *overrides: str) -> dict:
    return propose.propose(*compose_run(folder, *overrides, base=ANNEAL, config="thresholds_propose"))


# Slow: three anneal tests of 1,000 steps; in much fewer the small square is learnt too late.
@pytest.mark.acceptance
def test_trained_on_two_squares_of_very_different_size_it_separates_them(tmp_path: Path) -> None:
    """In every seed the latent that opens first, above the first pressure, is the large square's.

    The most that a nat of KL can gain is known: 1,152 nats for the large square and 419 for the small one. A test may
    find a threshold late but never early, so no pressure below which the small square's latents wait is above 419.
    Some seeds open a second or third latent for the large square beside the first, down to half its threshold; which
    ones rests on rounding, and so on the processor.
    """
    large, small = (
        correlation_eigenvalues(TwoSquares(large=name == "large", small=name == "small").pixels)[0]
        for name in ("large", "small")
    )
    assert (large, small) == pytest.approx((1152, 419), rel=1e-3)
    content = proposal(
        tmp_path / "run",
        "data._target_=tests.helpers.TwoSquares",
        "schedule.beta_high=550",
        "schedule.steps=1000",
        "batch_size=16",
        "lr=0.0003",
        "callbacks.anneal_recorder.limit=0.1",
        "callbacks.anneal_recorder.window=20",
        "n=3",
    )
    first, second = content["proposal"]["stages"][:2]
    assert len(first["latents_above"]) == 3
    assert all(1 <= latents <= 4 for latents in first["latents_above"])
    assert first["stable"]
    assert small / 5 < first["pressure"] < small
    assert max(second["thresholds"]) < first["pressure"]
    for total, thresholds in zip(content["threshold"], content["latent_thresholds"], strict=True):
        assert small / 2 < max(value for value in thresholds if value is not None) <= total["pressure"] < 550
    for seed, thresholds in enumerate(content["latent_thresholds"]):
        opened_first = max(range(10), key=lambda latent: thresholds[latent] or 0)
        by_large, by_small = _explained(tmp_path / "run" / f"seed_{seed}", opened_first)
        assert by_large > 0.5 > by_small


def _explained(folder: Path, latent: int) -> tuple[float, float]:
    """The fractions of a latent's variance explained by the positions of the large and of the small square."""
    cfg = OmegaConf.load(folder / "config.yaml")
    module, data = build.trained_module_and_data(cfg, folder / "checkpoints" / "last.ckpt")
    with torch.no_grad():
        codes = module.encode(data.dataset.images(torch.arange(64), torch.Generator())).mean[:, latent].view(8, 8)
    return tuple(float(codes.mean(dim=axis).var(correction=0) / codes.var(correction=0)) for axis in (1, 0))


# Two tests of 10 steps, with a limit so low that the KL is first below and then above it.
SHORT = (
    "n=2",
    "schedule.steps=10",
    "callbacks.anneal_recorder.limit=0.0006",
    "callbacks.anneal_recorder.window=2",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("proposal") / "run"
    proposal(folder, *SHORT)
    return folder


def test_every_seed_is_a_run_of_its_own(finished: Path) -> None:
    """The schedule is as long as that of the experiment: 23 epochs of 12 steps."""
    content = record.read(finished, "proposal")
    assert content["seeds"] == [0, 1]
    for seed, latents in zip(content["seeds"], content["latent_thresholds"], strict=True):
        test = record.read(finished / f"seed_{seed}", "anneal")
        assert (test["settings"]["seed"], test["latent_thresholds"]) == (seed, latents)
        assert results.read(finished / f"seed_{seed}")["status"] == "finished"
    assert content["latent_thresholds"][0] != content["latent_thresholds"][1]
    assert sum(content["proposal"]["steps"]) == 23 * 12
    assert content["proposal"]["pressures"][-1] == 1
    assert any("seed(s) cannot show whether other seeds give the same" in notice for notice in content["notices"])
    assert results.read(finished)["thresholds"]["proposal"] == content["proposal"]


def test_stopped_and_resumed_equals_uninterrupted(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the second test: the first is kept, the second continues from its checkpoint."""
    train, begun = run.train, []

    def stopping(cfg, folder: Path):
        begun.append((cfg.seed, cfg.resume))
        if begun == [(0, False), (1, False)]:
            for key, value in (override.removeprefix("+").split("=") for override in send_signal(4, signal.SIGTERM)):
                OmegaConf.update(cfg, key, int(value) if value.isdigit() else value, force_add=True)
        return train(cfg, folder)

    monkeypatch.setattr(run, "train", stopping)
    with pytest.raises(Interrupted):
        proposal(tmp_path / "run", *SHORT)
    assert results.read(tmp_path / "run")["status"] == "interrupted"
    proposal(tmp_path / "run", *SHORT, "resume=true")
    assert begun[2:] == [(1, True)]
    ours, theirs = (json.loads((folder / record.FILE).read_text()) for folder in (tmp_path / "run", finished))
    assert ours == theirs


def test_the_summary_has_the_options_to_train_with(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary.proposal(finished)
    printed = capsys.readouterr().out.replace("\n", "")
    stages = len(record.read(finished, "proposal")["proposal"]["pressures"])
    latents = {1: "10", 2: "5,5", 3: "4,3,3", 4: "3,3,2,2"}[stages]
    assert f"schedule=auto schedule.path={finished / record.FILE} groups.latents=[{latents}]" in printed


def _write(folder: Path, finished: Path, **changes: object) -> Path:
    content = json.loads((finished / record.FILE).read_text())
    content["proposal"] = {"epochs": [1, 2, 1], "pressures": [50, 20, 1]}
    content["data"] |= {"shape": [3, 64, 64]}
    content |= changes
    return record.write(folder, content)


def _auto(folder: Path, source: Path, *overrides: str) -> dict:
    return run.train(*compose_run(folder, *PLAIN, "schedule=auto", f"schedule.path={source}", *overrides))


def test_a_run_under_a_proposed_schedule(finished: Path, tmp_path: Path) -> None:
    """It has the stages of the file, not those of the experiment, and is not resumed with those of another file."""
    source = _write(tmp_path, finished)
    with pytest.raises(Interrupted):
        _auto(tmp_path / "run", source, *send_signal(17, signal.SIGTERM))
    original = source.read_text()
    _write(tmp_path, finished, proposal={"epochs": [1, 2, 1], "pressures": [50, 10, 1]})
    with pytest.raises(DeftError, match=r"schedule.pressures: \[50, 20, 1\] -> \[50, 10, 1\]"):
        _auto(tmp_path / "run", source, "resume=true")
    source.write_text(original)
    outcome = _auto(tmp_path / "run", source, "resume=true")
    assert [(stage["step"], stage["pressure"]) for stage in outcome["stages"].values()] == [(12, 50), (36, 20), (48, 1)]
    assert outcome["training"]["schedule"]["pressures"] == [50, 20, 1]


def test_thresholds_of_other_data_are_refused(finished: Path, tmp_path: Path) -> None:
    data = json.loads((finished / record.FILE).read_text())["data"] | {"shape": [3, 64, 64]}
    for change, sentence in (
        ({"name": "dsprites"}, r"measured on another data set \(dsprites\) than this run trains on \(tiny\)"),
        ({"images": 95}, r"another number of images \(95\)"),
    ):
        source = _write(tmp_path, finished, data=data | change)
        with pytest.raises(DeftError, match=sentence) as caught:
            _auto(tmp_path / "run" / sentence[-4:-2], source)
        assert "\n" not in str(caught.value)


def test_custom_images_are_told_apart_by_their_digest(finished: Path, tmp_path: Path) -> None:
    """All of them have the name custom."""
    data = {"name": "custom", "images": 96, "shape": [3, 64, 64], "digest": "a"}
    schedule = Auto(_write(tmp_path, finished, data=data))
    schedule.check(data, "Bernoulli")
    with pytest.raises(DeftError, match=r"measured on another set of images \(a\) than this run trains on \(b\)"):
        schedule.check(data | {"digest": "b"}, "Bernoulli")
    data |= {"name": "TensorDataset", "source": "torch Dataset"}
    schedule = Auto(_write(tmp_path, finished, data=data))
    schedule.check(data, "Bernoulli")
    with pytest.raises(DeftError, match=r"another set of images \(a\) .* \(b\)"):
        schedule.check(data | {"digest": "b"}, "Bernoulli")


def test_thresholds_of_another_likelihood_are_refused(finished: Path, tmp_path: Path) -> None:
    """Their pressures are of other nats; a file that names no likelihood was measured with the paper's."""
    source = _write(tmp_path, finished)
    with pytest.raises(
        DeftError, match=r"was measured with the likelihood Bernoulli, and this run trains with Gaussian .*: measure"
    ) as caught:
        _auto(tmp_path / "run", source, "likelihood=gaussian")
    assert "\n" not in str(caught.value)
    settings = json.loads(source.read_text())["settings"]
    assert settings["likelihood"] == "Bernoulli"
    data = json.loads(source.read_text())["data"]
    gaussian = Auto(_write(tmp_path, finished, settings=settings | {"likelihood": "Gaussian, sigma 0.1"}))
    gaussian.check(data, "Gaussian, sigma 0.1")
    for other in ("Gaussian, sigma 0.2", "Bernoulli"):
        with pytest.raises(DeftError, match=f"measured with the likelihood Gaussian, sigma 0.1, .* {other}"):
            gaussian.check(data, other)
    del settings["likelihood"]
    Auto(_write(tmp_path, finished, settings=settings)).check(data, "Bernoulli")


def test_auto_refuses_what_it_cannot_read(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(DeftError, match=r"schedule.path is null: give the thresholds.json"):
        Auto(None)
    with pytest.raises(DeftError, match=r"schedule cannot be built from the configuration .*'form'"):
        _auto(tmp_path / "run", finished, "+schedule.form=x")
    with pytest.raises(DeftError, match="there is no "):
        Auto(tmp_path / "nowhere.json")
    with pytest.raises(DeftError, match="is of kind anneal: give a file of kind proposal"):
        Auto(finished / "seed_0")
    _write(tmp_path, finished, proposal=None)
    with pytest.raises(DeftError, match="no proposal in it"):
        Auto(tmp_path)
    (tmp_path / record.FILE).write_text("{")
    with pytest.raises(DeftError, match="is damaged"):
        Auto(tmp_path)


def test_another_schedule_is_refused(tmp_path: Path) -> None:
    base = [override for override in ANNEAL if not override.startswith("schedule.")]
    cfg, folder = compose_run(tmp_path, "schedule=piecewise", base=tuple(base), config="thresholds_propose")
    with pytest.raises(DeftError, match="use schedule=anneal"):
        propose.propose(cfg, folder)
