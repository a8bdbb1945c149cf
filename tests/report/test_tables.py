"""The tables against runs with known answers, and against the paper's numbers."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pandas as pd
import pytest

from deft_lightning.report import paired, paper, tables
from deft_lightning.report.loading import load
from deft_lightning.report.study import Study
from tests.report import factory
from tests.report.test_study import scored, study_of


@pytest.fixture
def swept(tmp_path: Path) -> Study:
    """beta-VAE at two pressures, ten runs each: 7 and 1 of them fail; DEFT, ten runs, none fails."""
    runs = [scored(0.05 if s < 7 else 0.2, method="beta-VAE", pressure=2, seed=s) for s in range(10)]
    runs += [scored(0.05 if s < 1 else 0.2, method="beta-VAE", pressure=6, seed=s) for s in range(10)]
    runs += [scored(0.3 + s / 100, seed=s) for s in range(10)]
    return study_of(tmp_path, *runs)


def test_failure_rates_pooled_and_at_the_best_value(swept: Study) -> None:
    table = tables.failures(swept)
    deft, beta = table.frame.set_index("Method").loc[["DEFT", "beta-VAE"]].to_dict("records")
    assert (beta["Runs"], beta["Failed (%)"], beta["Best value"]) == (20, 40.0, "pressure 6")
    assert (beta["Runs at best"], beta["Failed at best (%)"], beta["Paper (%)"]) == (10, 10.0, 47.7)
    assert (deft["Failed (%)"], deft["Paper (%)"]) == (0.0, 8.0)
    assert deft["Low"] < 1e-9
    assert deft["High"] == pytest.approx(100 * 1.959964**2 / (10 + 1.959964**2))  # Wilson's interval of 0 of n


def test_a_mig_of_a_tenth_is_no_failure(tmp_path: Path) -> None:
    study = study_of(tmp_path, scored(0.1), scored(0.0999, seed=1))
    assert tables.failures(study).frame["Failed (%)"].tolist() == [50.0]


def test_the_papers_table_2() -> None:
    assert paper.failure_rate("AnnealedVAE", "scream_dsprites") == 100.0
    assert paper.failure_rate("DIP-VAE-I", "smallnorb") == 28.7
    assert paper.failure_rate("DEFT", "color_dsprites") == 0.0
    assert paper.failure_rate("beta-TCVAE", "dsprites") == 18.7
    assert paper.failure_rate("DEFT (TC)", "dsprites") is None
    assert paper.failure_rate("DEFT", "noisy_dsprites") is None


def test_settings_say_whether_they_are_the_papers(tmp_path: Path) -> None:
    other = scored(0.2, seed=2, config_digest="other")
    other["training"]["schedule"]["pressures"] = [70, 30, 12, 2]
    study = study_of(tmp_path, scored(0.3), scored(0.3, seed=1), other, scored(0.1, method="beta-VAE"))
    frame = tables.settings(study).frame
    assert frame["Pressures"].tolist() == ["70, 30, 12, 1", "70, 30, 12, 2"]
    assert frame["As in Table 1"].tolist() == ["yes", "no"]
    assert frame["Runs"].tolist() == [2, 1]


def test_summary_gives_mean_and_median(swept: Study) -> None:
    row = tables.summary(swept).frame.set_index(["Score", "Method"]).loc[("MIG", "DEFT")]
    assert row["Mean"] == pytest.approx(0.345)
    assert row["Median"] == pytest.approx(0.345)
    assert (row["Lowest"], row["Highest"], row["Runs"]) == (0.3, 0.39, 10)
    assert (row["Median low"], row["Median high"]) == pytest.approx((0.31, 0.38))  # 2nd and 9th of ten


def test_comparison_reads_the_difference(swept: Study) -> None:
    frame = tables.comparisons(swept).frame
    mig = frame[frame["Score"] == "MIG"].iloc[0]
    assert (mig["A"], mig["B"], mig["Runs A"], mig["Runs B"]) == ("DEFT", "beta-VAE", 10, 10)
    assert (mig["P(A > B)"], mig["Cliff's delta"], mig["Reading"]) == (1.0, 1.0, "DEFT higher")
    assert mig["p (Holm)"] == mig["p"] < 0.001  # one pair: nothing to correct for
    same = frame[frame["Score"] == "Reconstruction error (nats)"].iloc[0]
    assert (same["P(A > B)"], same["p"], same["Reading"]) == (0.5, 1.0, "no difference shown")


def test_p_is_corrected_over_the_pairs_of_a_data_set(tmp_path: Path) -> None:
    runs = [scored(0.1 + i / 10 + s / 100, method=m, seed=s) for i, m in enumerate(("A", "B", "C")) for s in range(5)]
    frame = tables.comparisons(study_of(tmp_path, *runs)).frame
    mig = frame[frame["Score"] == "MIG"]
    assert len(mig) == 3
    assert mig["p (Holm)"].to_numpy() == pytest.approx(3 * mig["p"].to_numpy())  # all equally small


def test_reconstruction_errors_of_different_likelihoods_are_not_compared(tmp_path: Path) -> None:
    """Nats under one likelihood are no higher or lower than nats under another; MIG can be compared."""
    runs = [
        scored(0.1 * seed, method=m, seed=seed, config_digest=f"{m}{seed}")
        for m in ("DEFT", "beta-VAE")
        for seed in (1, 2)
    ]
    others = [scored(0.1 * seed, seed=seed, config_digest=f"other{seed}") for seed in (1, 2)]
    for content in others:
        content["method"]["likelihood"] = "continuous Bernoulli"
    frame = tables.comparisons(study_of(tmp_path, *runs, *others)).frame
    pairs = {score: rows[["A", "B"]].to_numpy().tolist() for score, rows in frame.groupby("Score")}
    assert len(pairs["MIG"]) == 3
    assert pairs["Reconstruction error (nats)"] == [["DEFT", "beta-VAE"]]


def test_udr_chooses_without_labels(tmp_path: Path) -> None:
    runs = [
        scored(mig, seed=s, udr={"score": udr}) for s, (mig, udr) in enumerate([(0.1, 0.2), (0.3, 0.9), (0.5, 0.4)])
    ]
    frame = tables.udr(study_of(tmp_path, *runs, scored(0.6, seed=9, udr=None))).frame
    row = frame.iloc[0]
    assert (row["Runs with UDR"], row["Chosen run"], row["Its MIG"], row["Median MIG"]) == (3, "seed 1", 0.3, 0.3)
    assert (row["Highest UDR"], row["Highest MIG"]) == (0.9, 0.5)


def test_udr_chooses_where_nothing_has_labels(tmp_path: Path) -> None:
    runs = [scored(0.1, seed=s, udr={"score": udr}) for s, udr in enumerate((0.2, 0.9, 0.4))]
    for run in runs:
        del run["stages"]["stage_1"]["scores"]["mig"]
    table = tables.udr(study_of(tmp_path, *runs))
    (row,) = table.printed.to_dict("records")
    assert (row["Runs with UDR"], row["Chosen run"], row["Its MIG"], row["Highest UDR"]) == (
        "3",
        "seed 1",
        "—",
        "0.900",
    )


def test_a_study_without_runs_has_an_empty_table_of_them(tmp_path: Path) -> None:
    factory.write(tmp_path, factory.proposal(), name="thresholds.json")
    table = tables.runs(Study(load([tmp_path])), tmp_path)
    assert len(table.frame) == 0
    table.write(tmp_path)


def test_runs_table_leads_to_the_run_folders(study: Study, tmp_path: Path) -> None:
    frame = tables.runs(study, tmp_path / "report").frame
    assert len(frame) == len(study.runs)
    for folder in frame["Folder"]:
        assert (tmp_path / "report" / folder / "results.json").resolve().is_file()
    assert frame["Status"].iloc[:2].tolist() == ["diverged", "failed"]
    assert "step 90" in frame["Reason"].iloc[0]
    assert "step 7" in frame["Reason"].iloc[1]
    assert set(frame["Status"].iloc[2:]) == {"finished"}


def test_runs_table_shows_speed_memory_and_machine_where_recorded(tmp_path: Path) -> None:
    bare = scored(0.2, seed=1)
    for field in ("precision", "device", "threads", "peak_memory_mb", "images_per_second"):
        del bare[field]
    table = tables.runs(study_of(tmp_path, scored(0.3), bare), tmp_path)
    columns = ["Images/s", "Memory (MB)", "Precision", "Device", "Threads"]
    assert table.printed[columns].to_numpy().tolist() == [["4,480", "1,234", "32-true", "cpu", "2"], [""] * 5]
    assert table.frame["Memory (MB)"].iloc[0] == 1234.5


def test_table_1_is_that_of_the_configuration() -> None:
    assert {name: (row["epochs"], row["pressures"]) for name, row in paper.table_1().items()} == factory.PIECEWISE


def test_a_run_that_lacks_numbers_does_not_take_those_of_the_others(tmp_path: Path) -> None:
    early = scored(0.2, status="failed") | {"seed": None}
    early.pop("steps", None)
    study = study_of(tmp_path, scored(0.3) | {"steps": 1234, "seed": 3}, early)
    rows = tables.runs(study, tmp_path).printed.to_dict("records")
    assert [(row["Status"], row["Seed"], row["Steps"]) for row in rows] == [
        ("failed", "", ""),
        ("finished", "3", "1,234"),
    ]


def test_proposed_pressures_stand_beside_the_papers(study: Study) -> None:
    (row,) = tables.proposals(study).printed.to_dict("records")
    assert (row["Pressures"], row["Pressures of Table 1"]) == ("66.5, 28, 1", "70, 30, 12, 1")


def test_csv_holds_the_numbers_and_markdown_what_is_read(swept: Study, tmp_path: Path) -> None:
    table = tables.summary(swept)
    table.write(tmp_path)
    back = pd.read_csv(tmp_path / "scores.csv")
    assert back["Mean"].tolist() == pytest.approx(table.frame["Mean"].tolist(), abs=0)
    lines = (tmp_path / "scores.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(table.frame) + 2
    assert {line.count("|") for line in lines} == {len(table.printed.columns) + 1}
    assert any("| β-VAE |" in line for line in lines)


def test_cells_cannot_break_a_table(tmp_path: Path) -> None:
    reason = 'one | two\nthree, "four"'
    study = study_of(tmp_path / "runs", factory.result(status="failed", reason=reason))
    tables.runs(study, tmp_path).write(tmp_path)
    with (tmp_path / "runs.csv").open(newline="") as file:
        assert next(csv.DictReader(file))["Reason"] == reason
    lines = (tmp_path / "runs.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 3
    assert len(re.findall(r"(?<!\\)\|", lines[2])) == len(re.findall(r"\|", lines[0]))


def test_without_finished_runs_every_table_is_empty(tmp_path: Path) -> None:
    study = study_of(tmp_path, scored(0.3, status="running"))
    for make in (
        tables.settings,
        tables.failures,
        tables.summary,
        paired.paired,
        tables.comparisons,
        tables.udr,
        tables.proposals,
    ):
        table = make(study)
        assert len(table.frame) == 0, table.key
        table.write(tmp_path)


def test_methods_are_paired_by_seed(tmp_path: Path) -> None:
    """Seed 3 has no partner; the difference is the same for every other seed, so that its interval is a point."""
    runs = [scored(0.3 + 0.1 * seed, method="DEFT", seed=seed) for seed in range(4)]
    runs += [scored(0.2 + 0.1 * seed, method="beta-VAE", seed=seed) for seed in range(3)]
    for run in runs:
        stage = run["stages"]["stage_1"]
        stage |= {"max1_nmi": {"posX": stage["scores"]["mig"]}, "max2_nmi": {"posX": 0.1}}
    frame = paired.paired(study_of(tmp_path, *runs)).frame.set_index("Measure")
    row = frame.loc["MIG"]
    assert (row["A"], row["B"], row["Seeds"], row["Reading"]) == ("DEFT", "beta-VAE", 3, "DEFT higher")
    assert (row["A - B"], row["Low"], row["High"]) == pytest.approx((0.1, 0.1, 0.1))
    assert frame.loc["gap of posX", "A - B"] == pytest.approx(0.1)
