"""Scores of the user's own: computed like the built-in ones, and kept from ending a run."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from deft_lightning import DeftError, evaluate
from deft_lightning.common import results
from deft_lightning.evaluation import own
from deft_lightning.evaluation.scores import COLUMNS, TAKEN, Settings
from deft_lightning.evaluation.sources import score_codes
from deft_lightning.metrics import mig
from deft_lightning.report.loading import Record, Records
from deft_lightning.report.study import Study
from deft_lightning.training import run
from tests.helpers import BARE, compose_run
from tests.report import factory

RANDOM = np.random.default_rng(0)
FACTORS = RANDOM.integers(0, 4, (300, 2))
CODES = FACTORS + 0.1 * RANDOM.normal(size=(300, 2))
CORRELATION = {"name": "correlation", "function": f"{__name__}.correlation"}
PAIR = {"name": "pair", "function": f"{__name__}.pair"}
BROKEN = {"name": "broken", "function": f"{__name__}.broken"}


def correlation(codes, factors) -> float:
    """Correlation of the first latent and the first factor."""
    return np.corrcoef(codes[:, 0], factors[:, 0])[0, 1]


@dataclass(frozen=True)
class Pair:
    score: float
    low: np.float64
    per_latent: np.ndarray


def pair(codes, factors) -> Pair:
    return Pair(0.5, np.float64(0.25), np.zeros(2))


def broken(codes, factors) -> float:
    raise ValueError("no luck")


def test_numbers_and_dataclasses_become_scores() -> None:
    settings = Settings(each_stage=["mig", CORRELATION], at_end=[PAIR], num_test=100)
    assert settings.names == ["mig", "correlation", "pair"]
    assert settings.stage_names == ["mig", "correlation"]
    scores = score_codes(settings.names, settings, CODES, FACTORS).scores
    rows = np.random.default_rng(0).permutation(300)[100:]
    assert scores["correlation"] == pytest.approx(correlation(CODES[rows], FACTORS[rows]))
    assert scores["mig"] == pytest.approx(mig(CODES[rows], FACTORS[rows]).score)
    assert (scores["pair"], scores["pair_low"]) == (0.5, 0.25)
    assert "pair_per_latent" not in scores


def test_a_bootstrap_gives_their_intervals() -> None:
    settings = Settings(each_stage=[CORRELATION], num_test=100, bootstrap=30)
    low, high = score_codes(settings.names, settings, CODES, FACTORS).intervals["correlation"]
    assert 0.9 < low < high


def test_an_array_beside_the_numbers_of_a_dataclass_has_no_interval() -> None:
    """Intervals are written to results.json as numbers."""
    settings = Settings(each_stage=[PAIR], num_test=100, bootstrap=5)
    scored = score_codes(settings.names, settings, CODES, FACTORS)
    assert set(scored.intervals) == {"pair", "pair_low"}
    assert json.loads(json.dumps(scored.record()["intervals"])) == {"pair": [0.5, 0.5], "pair_low": [0.25, 0.25]}


def test_one_that_fails_is_marked_and_the_others_are_kept(caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings(each_stage=[BROKEN, "mig"], num_test=100)
    scored = score_codes(settings.names, settings, CODES, FACTORS)
    assert set(scored.scores) == {"mig"}
    assert scored.record()["failed_scores"] == {"broken": "ValueError: no luck"}
    assert "the score broken failed (ValueError: no luck)" in caplog.text


@pytest.mark.parametrize(
    ("item", "sentence"),
    [
        ("migg", "metrics.each_stage holds 'migg': give one of mig, .*, or your own as {name: my_score"),
        ({"name": "mine"}, "holds {'name': 'mine'}: give one of"),
        ({"name": "a b", "function": "m.f"}, "has a score called 'a b'"),
        ({"name": "mig", "function": "m.f"}, "mig, a name that this package uses: rename it"),
        ({"name": "kl", "function": "m.f"}, "a score of your own called kl, a name that this package uses"),
        ({"name": "dci_completeness", "function": "m.f"}, "called dci_completeness, a name that this package uses"),
        ({"name": "method", "function": "m.f"}, "called method, a name that this package uses"),
        ({"name": "best", "function": "m.f"}, "called best, a name that this package uses"),
        ({"name": "mine", "function": "f"}, "has the function 'f' for mine: write module.function"),
    ],
)
def test_wrong_entries_are_one_sentence(item, sentence: str) -> None:
    with pytest.raises(DeftError, match=sentence):
        Settings(each_stage=[item])


def test_functions_that_cannot_be_had_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "with_a_mistake.py").write_text("1 / 0")
    for path, sentence in (
        ("no_such_module.f", "run the command in the folder of its module"),
        (f"{__name__}.absent", "has no absent"),
        (f"{__name__}.CODES", "is no function"),
        ("with_a_mistake.f", "fails when it is imported \\(ZeroDivisionError: division by zero"),
    ):
        with pytest.raises(DeftError, match=sentence):
            own.load(path)


def test_one_whose_name_begins_a_name_of_the_package_is_missing_until_it_is_computed() -> None:
    settings = Settings(each_stage=[{"name": "active", "function": f"{__name__}.pair"}])
    assert settings.missing(["active_units"]) == ["active"]
    assert settings.missing(["active_units", "active_low"]) == []


@pytest.mark.slow  # trains runs
def test_in_a_run_and_added_to_a_finished_one(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    own_scores = f"metrics.each_stage=[mig,{{name:broken,function:{BROKEN['function']}}}]"
    run.train(*compose_run(folder, *BARE, own_scores))
    content = results.read(folder)
    assert content["status"] == "finished"
    assert content["stages"]["stage_4"]["failed_scores"] == {"broken": "ValueError: no luck"}
    assert content["own_code"][__name__]["file"] == __file__
    added = f"metrics.at_end=[{{name:correlation,function:{CORRELATION['function']}}}]"
    assert evaluate.main([str(folder), "metrics=fast", added, "--device", "cpu"]) == 0
    assert "correlation" in results.read(folder)["stages"]["stage_4"]["scores"]
    mended = f"metrics.at_end=[{{name:broken,function:{CORRELATION['function']}}}]"
    assert evaluate.main([str(folder), "metrics=fast", mended, "--device", "cpu"]) == 0
    stage = results.read(folder)["stages"]["stage_4"]
    assert (stage["scores"]["broken"], stage["failed_scores"]) == (stage["scores"]["correlation"], {"broken": None})
    assert stage["own_code"] == {__name__: content["own_code"][__name__]}  # the code that has computed it
    assert sys.modules[__name__].__file__ == __file__


def test_names_of_columns_that_the_report_has_beside_the_scores_are_taken(tmp_path: Path) -> None:
    content = factory.result("DEFT")
    columns = set(Study(Records([Record(tmp_path, content)])).ended.columns)
    assert columns - set(content["stages"]["stage_4"]["scores"]) == set(COLUMNS) < TAKEN
