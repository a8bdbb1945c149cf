"""Finished runs are scored again from their checkpoints; scores that they have are not changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from deft_lightning import DeftError, evaluate
from deft_lightning.common import results
from deft_lightning.evaluation import scores as scoring
from deft_lightning.evaluation.codes import encode
from deft_lightning.evaluation.sources import sample_tables
from deft_lightning.metrics import dci, irs, mig, udr
from deft_lightning.training import build, rescore, run, run_folder
from tests.conftest import MakeOnce
from tests.helpers import BARE, UNLABELLED, compose_run

pytestmark = pytest.mark.slow  # trains runs

QUICK = ("metrics=full", "metrics.votes=[40,20]")


@pytest.fixture(scope="session")
def runs(make_once: MakeOnce) -> Path:
    """A folder with two finished runs that differ in their seed."""

    def train(root: Path) -> None:
        for seed in (0, 1):
            run.train(*compose_run(root / f"seed{seed}", *BARE, f"seed={seed}"))

    return make_once("seeds", train)


@pytest.fixture
def copies(runs: Path, tmp_path: Path) -> Path:
    """The two runs, to be changed by this test."""
    return Path(shutil.copytree(runs, tmp_path / "runs"))


def test_scores_are_added_and_what_was_there_stays(copies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = results.read(copies / "seed0")
    assert evaluate.main([str(copies / "*"), *QUICK, "--device", "cpu"]) == 0
    after = results.read(copies / "seed0")
    last, old = after["stages"]["stage_4"], before["stages"]["stage_4"]
    assert {name: last["scores"][name] for name in old["scores"]} == old["scores"]
    assert {key: after[key] for key in before if key != "stages"} == {
        key: before[key] for key in before if key != "stages"
    }
    assert set(last["scores"]) == set(old["scores"]) | {
        name for metric in scoring.NAMES for name in scoring.score_names(metric)
    }
    assert last["dci_estimator"] == "reference"
    assert after["udr"]["runs"] == 2
    text = (copies / "seed0" / "results.json").read_text()
    capsys.readouterr()
    assert evaluate.main([str(copies / "*"), *QUICK, "--device", "cpu"]) == 0
    assert (copies / "seed0" / "results.json").read_text() == text
    assert capsys.readouterr().out.count("nothing to add") == 2


def test_files_beside_the_runs_of_a_sweep_are_skipped(copies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As the shell expands multirun_outputs/<sweep>/*."""
    plan = copies / "multirun.yaml"
    plan.write_text("name: small\n")
    expanded = [str(path) for path in sorted(copies.iterdir())]
    assert evaluate.main([*expanded, "metrics=fast", "--device", "cpu"]) == 0
    assert capsys.readouterr().out.count("nothing to add") == 2
    assert evaluate.main([str(plan), "metrics=fast"]) == 1
    assert f"there is no run in {plan}" in capsys.readouterr().err


def test_the_scores_are_those_of_the_codes(copies: Path) -> None:
    """The metric functions give the same scores for the model of the checkpoint."""
    settings = scoring.Settings(num_points=96, num_test=500, each_stage=["mig"], at_end=["irs", "dci"])
    rescore.rescore(copies / "seed1", settings, "cpu", None)
    cfg = run_folder.read_config(copies / "seed1")
    module, data = build.trained_module_and_data(cfg, copies / "seed1" / "checkpoints" / "last.ckpt")
    train, test = (encode(module, data, rows) for rows in sample_tables(data, settings))
    scores = results.read(copies / "seed1")["stages"]["stage_4"]["scores"]
    assert scores["irs"] == pytest.approx(irs(train.codes, train.factors).score)
    assert scores["mig"] == pytest.approx(mig(train.codes, train.factors).score)
    expected = dci(train.codes, train.factors, test.codes, test.factors)
    assert scores["dci_disentanglement"] == pytest.approx(expected.disentanglement)


def test_udr_is_that_of_the_runs_on_the_same_images(copies: Path) -> None:
    assert evaluate.main([str(copies), "metrics=fast", "--device", "cpu"]) == 0
    codes, kl = [], []
    for seed in (0, 1):
        folder = copies / f"seed{seed}"
        cfg = run_folder.read_config(folder)
        module, data = build.trained_module_and_data(cfg, folder / "checkpoints" / "last.ckpt")
        encoding = encode(module, data, data.sample(96, seed=0), seed=0)
        codes.append(encoding.codes)
        kl.append(encoding.kl)
    expected = udr(codes, kl).scores
    written = [results.read(copies / f"seed{seed}")["udr"]["score"] for seed in (0, 1)]
    assert written == pytest.approx(np.asarray(expected))


def test_a_repeated_run_is_no_peer_in_udr(copies: Path) -> None:
    """Two runs of one seed would agree with each other by necessity: the later one is taken."""
    shutil.copytree(copies / "seed0", copies / "again")
    results.update(copies / "again", started="2099-01-01T00:00:00+0000")
    random = np.random.default_rng(0)
    codes = {name: random.normal(size=(200, 3)) for name in ("seed0", "seed1")}
    codes["again"] = codes["seed0"]
    found = rescore.add_udr({copies / n: rescore.Representation(c, np.ones(3)) for n, c in codes.items()})
    assert found == [copies / "seed1", copies / "again"]
    assert results.read(copies / "again")["udr"]["runs"] == 2


def test_an_interval_of_dci_is_of_the_estimator_of_the_score(copies: Path) -> None:
    folder = copies / "seed0"
    quick = {"each_stage": [], "at_end": ["dci"], "num_test": 100, "dci_estimator": "fast"}
    assert "dci_disentanglement" in rescore.rescore(folder, scoring.Settings(**quick)).added
    settings = scoring.Settings(**{**quick, "bootstrap": 2, "dci_estimator": "reference"})
    with pytest.raises(DeftError, match=r"has the DCI of metrics\.dci_estimator=fast"):
        rescore.rescore(folder, settings, set_by_user=["dci_estimator"])
    rescore.rescore(folder, settings)
    stage = results.read(folder)["stages"]["stage_4"]
    assert stage["dci_estimator"] == "fast"
    assert len(stage["intervals"]["dci_disentanglement"]) == 2


def test_intervals_come_with_a_bootstrap(copies: Path) -> None:
    overrides = ("metrics=fast", "metrics.num_points=96", "metrics.bootstrap=20")
    assert evaluate.main([str(copies / "seed0"), *overrides, "--device", "cpu"]) == 0
    intervals = results.read(copies / "seed0")["stages"]["stage_4"]["intervals"]
    assert set(intervals) == {"mig", "modularity", "active_units", "total_correlation"}
    assert all(0 <= low <= high for low, high in intervals.values())


def _remove_scores(folder: Path) -> None:
    content = results.read(folder)
    for stage in content["stages"].values():
        del stage["scores"]
    (folder / "results.json").write_text(json.dumps(content))


def _forget_class(folder: Path) -> None:
    path = folder / "config.yaml"
    path.write_text(path.read_text().replace("tests.helpers.TinySprites", "tests.helpers.Missing"))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda folder: (folder / "config.yaml").write_text("a: [1"), "config.yaml cannot be read"),
        (lambda folder: (folder / "config.yaml").write_text(""), "config.yaml lacks data"),
        (lambda folder: (folder / "config.yaml").unlink(), "config.yaml cannot be read"),
        (lambda folder: (folder / "results.json").write_text('{"status": "fini'), "results.json cannot be read"),
        (_forget_class, "seed0: data is tests.helpers.Missing, and tests.helpers has no Missing"),
        (_remove_scores, "has no scores of any stage to add to"),
    ],
)
def test_a_run_damaged_in_any_way_is_one_sentence(
    damage: Callable[[Path], object], sentence: str, copies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(copies / "seed0")
    assert evaluate.main([str(copies), "metrics=fast", "--device", "cpu"]) == 1
    captured = capsys.readouterr()
    assert sentence in captured.err
    assert captured.err.count("error:") == 1
    assert "seed1: nothing to add" in captured.out


def test_one_damaged_run_does_not_stop_the_others(copies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copies / "seed0" / "checkpoints" / "last.ckpt").write_bytes(b"cut short")
    before = (copies / "seed0" / "results.json").read_text()
    overrides = ("metrics=fast", "metrics.at_end=[irs]")
    assert evaluate.main([str(copies), *overrides, "--device", "cpu"]) == 1
    captured = capsys.readouterr()
    assert "last.ckpt is damaged or not a checkpoint" in captured.err
    assert captured.err.count("error:") == 1
    assert (copies / "seed0" / "results.json").read_text() == before
    assert "irs" in results.read(copies / "seed1")["stages"]["stage_4"]["scores"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere/*"], "there is no run in nowhere/*"),
        (["metrics=full"], "no run folder is given"),
        (["{runs}", "metrics=all"], "use metrics=fast, paper or full"),
        (["{runs}", "metrics.bins=1"], "metrics.bins is 1: give a whole number from 2 up"),
        (["{runs}", "metrics.at_end=[fid]"], "metrics.at_end holds 'fid': give one of"),
        (["{runs}", "metrics.bootstrap=50", "metrics.infomec_mi=knn"], "metrics.infomec_mi=binned with infomec"),
        (["{runs}", "metrics.num_points=60"], "was scored with 96: leave it out"),
        (["{runs}", "--device", "toaster"], "--device is toaster: use cpu, or a device that torch finds here"),
    ],
)
def test_what_cannot_be_evaluated_is_one_sentence(
    arguments: list[str], sentence: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main([argument.format(runs=runs) for argument in arguments]) == 1
    captured = capsys.readouterr()
    assert sentence in captured.err
    assert "Traceback" not in captured.err


def test_a_run_that_did_not_finish_is_refused(copies: Path) -> None:
    results.update(copies / "seed0", status="interrupted")
    with pytest.raises(DeftError, match="is interrupted: only finished runs can be scored again"):
        rescore.rescore(copies / "seed0", scoring.Settings(), "cpu", None)


def test_without_labels_only_what_needs_none_is_scored(tmp_path: Path) -> None:
    run.train(*compose_run(tmp_path / "run", *BARE, *UNLABELLED))
    assert evaluate.main([str(tmp_path), *QUICK, "--device", "cpu"]) == 0
    scores = results.read(tmp_path / "run")["stages"]["stage_4"]["scores"]
    assert set(scores) == {"reconstruction", "kl", "active_units", "total_correlation"}
