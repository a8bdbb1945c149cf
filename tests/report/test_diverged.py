"""A run that diverged is a failure of its method; methods of unequal length are marked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deft_lightning.report import paired, tables
from deft_lightning.report.statistics import wilson
from deft_lightning.report.study import Study
from tests.report.test_study import scored, study_of


def diverged(seed: int, **options: Any) -> dict[str, Any]:
    return scored(0.0, seed=seed, status="diverged", **options) | {"stages": {}}


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """FactorVAE: one of four finished runs below 0.1, two diverged, one failed by an error; DEFT: three runs."""
    runs = [scored(mig, method="FactorVAE", seed=seed) for seed, mig in enumerate((0.05, 0.2, 0.3, 0.4))]
    runs += [diverged(seed, method="FactorVAE") for seed in (4, 5)]
    runs += [scored(0.0, method="FactorVAE", seed=6, status="failed"), scored(0.0, seed=6, status="interrupted")]
    return study_of(tmp_path, *runs, *(scored(0.3, seed=seed) for seed in range(3)))


def test_both_readings_of_a_failure_rate(study: Study) -> None:
    table = tables.failures(study)
    row = table.frame.set_index("Method").loc["FactorVAE"]
    assert (row["Runs"], row["Failed (%)"], row["Diverged"]) == (6, 50.0, 2)
    assert (row["Runs, diverged left out"], row["Failed, diverged left out (%)"]) == (4, 25.0)
    assert (row["Low"] / 100, row["High"] / 100) == pytest.approx(wilson(3, 6))
    deft, factor = table.printed.to_dict("records")
    low, high = (100 * end for end in wilson(1, 4))
    assert factor["Failed without them (%)"] == f"25.0 ({low:.1f} to {high:.1f})"
    assert (deft["Diverged"], deft["Failed without them (%)"]) == ("0", "—")


def test_the_second_reading_is_not_shown_where_nothing_diverged(tmp_path: Path) -> None:
    assert "Diverged" not in tables.failures(study_of(tmp_path, scored(0.3), scored(0.05, seed=1))).printed


def test_scores_are_those_of_finished_runs(study: Study) -> None:
    summary = tables.summary(study).frame.set_index(["Score", "Method"])
    assert summary.loc[("MIG", "FactorVAE"), "Runs"] == 4
    assert summary.loc[("MIG", "FactorVAE"), "Mean"] == pytest.approx(0.2375)
    counts = tables.runs(study, Path()).frame.groupby("Status")["Counts"].unique().to_dict()
    assert {status: list(values) for status, values in counts.items()} == {
        "finished": ["yes"], "diverged": ["as failed"], "failed": ["no"], "interrupted": ["no"]
    }  # fmt: skip


def test_a_method_of_which_every_run_diverged_failed_always(tmp_path: Path) -> None:
    study = study_of(tmp_path, scored(0.3), diverged(0, method="FactorVAE"), diverged(1, method="FactorVAE"))
    row = tables.failures(study).frame.set_index("Method").loc["FactorVAE"]
    assert (row["Runs"], row["Failed (%)"], row["Runs, diverged left out"]) == (2, 100.0, 0)
    assert tables.failures(study).printed["Failed without them (%)"].tolist() == ["—", "—"]
    only = study_of(tmp_path / "only", diverged(0))
    assert tables.failures(only).frame["Failed (%)"].tolist() == [100.0]
    assert len(tables.summary(only).frame) == len(paired.paired(only).frame) == 0


def test_a_value_at_which_runs_diverge_is_not_the_best(tmp_path: Path) -> None:
    """One good run of three: its mean MIG is 0.2, that of the other value 0.3."""
    runs = [scored(0.6, method="beta-VAE", pressure=2)]
    runs += [diverged(seed, method="beta-VAE", pressure=2) for seed in (1, 2)]
    runs += [scored(0.3, method="beta-VAE", pressure=6, seed=seed) for seed in range(3)]
    study = study_of(tmp_path, *runs)
    assert study.best_value("dSprites", "beta-VAE") == "pressure 6"
    row = tables.failures(study).frame.iloc[0]
    assert (row["Diverged"], row["Diverged at best"], row["Failed at best (%)"]) == (2, 0, 0.0)


def test_a_run_that_diverged_on_data_without_labels_is_no_failed_mig(tmp_path: Path) -> None:
    run = diverged(0)
    run["data"]["factors"] = None
    assert study_of(tmp_path, run).outcomes() == {}


def test_methods_of_unequal_length_are_marked(tmp_path: Path) -> None:
    """DEFT 264,960 steps and the study's baselines 300,000, as in the paper; equal lengths are not marked."""
    longer = [
        scored(0.1 * s, method="beta-VAE", seed=s, steps=300_000, boundaries=[300_000]) for s in (1, 2)
    ]  # fmt: skip
    other = [scored(0.2, method=m, dataset="smallnorb", steps=5000, boundaries=[5000]) for m in ("DEFT", "beta-VAE")]
    study = study_of(tmp_path, *(scored(0.3, seed=s) for s in (1, 2)), *longer, *other)
    names = ["DEFT (264,960 steps)", "β-VAE (300,000 steps)"]
    assert tables.failures(study).printed["Method"].tolist() == [*names, "DEFT", "β-VAE"]
    assert tables.failures(study).frame["Method"].tolist() == ["DEFT", "beta-VAE"] * 2
    row = tables.comparisons(study).printed.iloc[0]
    assert [row["A"], row["B"]] == names
    row = paired.paired(study).printed.iloc[0]
    assert [row["A"], row["B"]] == names
    (notice,) = study.notices
    assert "on dSprites were trained for different numbers of steps" in notice
    assert "DEFT 264,960 steps; β-VAE 300,000 steps" in notice
