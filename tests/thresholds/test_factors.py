"""Thresholds of single factors: the right images, every subset once, and the same thresholds after a stop."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from threading import Event

import pytest
import torch

from deft_lightning import DeftError
from deft_lightning.common import results
from deft_lightning.common.errors import Interrupted
from deft_lightning.common.method import Method
from deft_lightning.data.factors import FactorSpace
from deft_lightning.thresholds import crossing, factors, populations, record, summary
from deft_lightning.thresholds.population import Population
from deft_lightning.thresholds.subsets import Subset, varying
from tests.helpers import UNLABELLED, TinySprites, compose_run
from tests.thresholds.test_anneal import ANNEAL

pytestmark = pytest.mark.slow  # trains runs

TINY_FACTORS = (
    *ANNEAL,
    "data._target_=tests.helpers.TinySprites",
    "schedule.steps=10",
    "callbacks.anneal_recorder.limit=0.002",  # reached in so few steps
    "callbacks.anneal_recorder.window=2",
    "repeats=3",
    "population=2",
    "threads=1",  # one population at a time, so that they can be counted
)


def measure(folder: Path, *overrides: str) -> dict:
    return factors.measure(*compose_run(folder, *overrides, base=TINY_FACTORS, config="thresholds_factors"))


def test_one_factor_varies_and_nuisance_is_shared() -> None:
    space = FactorSpace(("category", "instance", "azimuth"), (3, 4, 5), nuisance=("instance",))
    assert varying(space, 2 * 20 + 3 * 5 + 1, "category").tolist() == [16, 36, 56]
    assert varying(space, 2 * 20 + 3 * 5 + 1, "azimuth").tolist() == [55, 56, 57, 58, 59]
    assert varying(TinySprites.space, 95, "scale").tolist() == [63, 79, 95]


def test_a_subset_has_the_images_of_its_indices() -> None:
    dataset, random = TinySprites(), torch.Generator()
    subset = Subset(dataset, torch.tensor([5, 90]))
    assert len(subset) == 2
    assert torch.equal(subset.images(torch.tensor([1, 0]), random), dataset.images(torch.tensor([90, 5]), random))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("factors") / "run"
    measure(folder)
    return folder


def test_other_networks_and_likelihoods_are_measured_as_well(tmp_path: Path) -> None:
    choices = ("networks=residual", "networks.channels=4", "likelihood=gaussian_learnt", "optimizer=adamw")
    never = "callbacks.anneal_recorder.limit=1000"  # nats: these networks begin with more than the limit of the others
    content = measure(tmp_path / "run", *choices, never, "schedule.steps=4", "repeats=2")
    assert [len(values) for values in content["factors"].values()] == [2] * 4
    assert content["settings"]["likelihood"] == "Gaussian learnt sigma"
    outcome = results.read(tmp_path / "run")
    assert Method.of_record(outcome["method"]).label == "beta-VAE, Gaussian learnt sigma"


def test_every_factor_has_its_subsets_and_the_pressures_of_the_experiment(finished: Path) -> None:
    content, outcome = record.read(finished, "factors"), results.read(finished)
    assert {name: len(values) for name, values in content["factors"].items()} == dict.fromkeys(
        ("shape", "scale", "posX", "posY"), 3
    )
    crossed = [value for values in content["factors"].values() for value in values if value is not None]
    assert len(set(crossed)) > 1
    assert content["images"] == {"shape": 2, "scale": 3, "posX": 4, "posY": 4}
    assert content["pressures"] == [160, 105, 30, 1]
    assert (outcome["status"], outcome["thresholds"]["factors"]) == ("finished", content["factors"])
    assert Method.of_record(outcome["method"]).label == "beta-VAE"
    assert (finished / "figures" / "factors.png").stat().st_size > 10_000


@pytest.mark.parametrize("ending", ["asked", "killed", "damaged"])
def test_a_stopped_measurement_goes_on_where_it_was(
    ending: str, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Stopped in the fourth population, it keeps three and the steps of the fourth, and ends with the same thresholds.

    A measurement that is asked to stop saves its current step; one that is killed has an earlier checkpoint.
    """
    begun: list[tuple[int, int]] = []  # members and first step of every population
    seen: list[Population] = []
    step = Population.step
    stops: list[Event] = []

    def stopping(self: Population):
        if all(self is not other for other in seen):
            seen.append(self)
            begun.append((len(self), self.step_count))
        if len(begun) == 4 and self.step_count == 7:
            if ending == "killed":
                raise RuntimeError(ending)
            os.kill(os.getpid(), signal.SIGINT)
            assert stops[-1].wait(60)  # until the main thread has asked this one to end after the step
        return step(self)

    monkeypatch.setattr(Population, "step", stopping)
    monkeypatch.setattr(populations, "Event", lambda: stops.append(Event()) or stops[-1])
    if ending == "killed":
        monkeypatch.setattr(populations, "SAVE_SECONDS", 0.0)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores SIGINT
    try:
        with pytest.raises(RuntimeError if ending == "killed" else KeyboardInterrupt):
            measure(tmp_path / "run")
    finally:
        signal.signal(signal.SIGINT, handler)
    part = record.read(tmp_path / "run", "factors", finished=False)
    assert [len(values) for values in part["factors"].values()] == [3, 2, 0, 0]
    assert results.read(tmp_path / "run")["status"] == ("failed" if ending == "killed" else "interrupted")
    with pytest.raises(DeftError, match="is not finished: continue its measurement with resume="):
        record.read(tmp_path / "run", "factors")
    (checkpoint,) = (tmp_path / "run" / "checkpoints").iterdir()
    if ending == "damaged":
        checkpoint.write_bytes(checkpoint.read_bytes()[:10_000])
    measure(tmp_path / "run", "resume=true")
    assert begun[4:] == [(1, {"asked": 8, "killed": 7, "damaged": 0}[ending]), (2, 0), (1, 0), (2, 0), (1, 0)]
    assert ("is damaged" in caplog.text) == (ending == "damaged")
    assert record.read(tmp_path / "run", "factors") == record.read(finished, "factors")
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


def test_sigterm_interrupts_a_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The populations end, and results.json says so."""
    before = signal.getsignal(signal.SIGTERM)
    step = Population.step

    def stopping(self: Population):
        if self.step_count == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self)

    monkeypatch.setattr(Population, "step", stopping)
    with pytest.raises(Interrupted, match="stopped by SIGTERM: resume=true continues"):
        measure(tmp_path / "run", "schedule.steps=100000")
    assert results.read(tmp_path / "run")["status"] == "interrupted"
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (("objective=dip_vae_i",), "use objective=beta_vae"),
        (UNLABELLED, "no labels on a full grid"),
        (("data.held_out=0.25",), r"data.held_out is 0.25: give 0, since subsets of single factors take all images"),
        (("repeats=0",), "repeats is 0: give a whole number from 1 up"),
        (("population=many",), "population is 'many'"),
        (("~callbacks.anneal_recorder",), "callbacks.anneal_recorder is missing"),
        (("groups=deft2",), "one encoder group: use groups=single"),
        (("callbacks.anneal_recorder.limit=1e-9",), "schedule.beta_high="),
    ],
)
def test_refusals_are_one_sentence(overrides: tuple[str, ...], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(DeftError, match=sentence) as caught:
        measure(tmp_path / "run", *overrides)
    assert "\n" not in str(caught.value)


def test_a_beta_high_that_is_too_low_is_noticed_before_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here after 4 of the 10 steps of the first population, of two members."""
    taken = []
    step = Population.step
    monkeypatch.setattr(Population, "step", lambda self: taken.append(len(self)) or step(self))
    monkeypatch.setattr(crossing, "SETTLING", 4)
    with pytest.raises(DeftError, match=r"schedule.beta_high is 300, near or below the threshold .*: raise it about"):
        measure(tmp_path / "run", "callbacks.anneal_recorder.limit=1e-9")
    assert taken == [2, 2, 2, 2]
    assert results.read(tmp_path / "run")["status"] == "failed"


def test_damaged_thresholds_are_one_sentence(finished: Path, tmp_path: Path) -> None:
    (tmp_path / record.FILE).write_text((finished / record.FILE).read_text()[:100])
    with pytest.raises(DeftError, match=r"thresholds.json is damaged .* measure the thresholds again"):
        record.read(tmp_path, "factors")
    (tmp_path / record.FILE).write_text('{"schema_version": 1}')
    with pytest.raises(DeftError, match=r"is not a thresholds\.json of deft_lightning"):
        record.read(tmp_path, "factors")
    with pytest.raises(DeftError, match="is of kind factors: give a file of kind anneal"):
        record.read(finished, "anneal")
    with pytest.raises(DeftError, match=r"there is no .*nothing.json"):
        record.read(tmp_path / "nothing.json", "anneal")


def test_the_table_counts_what_was_never_crossed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = {
        "kind": "factors",
        "finished": True,
        "data": {"name": "made up"},
        "factors": {"big": [40.0, 50.0, 60.0], "small": [None, None, None]},
        "images": {"big": 4, "small": 2},
        "pressures": None,
        "notices": [],
    }
    record.write(tmp_path, content)
    summary.factors(tmp_path)
    big, small = (
        line.split() for line in capsys.readouterr().out.splitlines() if line.split()[:1] in (["big"], ["small"])
    )
    assert big == ["big", "4", "3", "0", "40.0", "45.0", "50.0", "55.0", "60.0"]
    assert small == ["small", "2", "3", "3"]
