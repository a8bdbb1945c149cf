"""Two studies compared: over the same seeds where they have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deft_lightning.report import baseline, statistics
from deft_lightning.report.__main__ import main
from tests.report import factory
from tests.report.test_study import scored, study_of


def test_differences_are_over_the_seeds_of_both(tmp_path: Path) -> None:
    """Seeds 1 to 4 are in both; MIG is 0.05 higher in each, the reconstruction error the same."""
    new = study_of(tmp_path / "new", *(scored(0.15 + 0.1 * s, seed=s) for s in range(1, 6)))
    old = study_of(tmp_path / "old", *(scored(0.1 + 0.1 * s, seed=s) for s in range(5)))
    table = baseline.differences(new, old)
    frame = table.frame.set_index("Score")
    mig = frame.loc["MIG"]
    assert (mig["Paired over"], mig["Runs"], mig["Reading"]) == ("4 seeds", 4, "higher")
    assert (mig["Difference"], mig["Low"], mig["High"]) == pytest.approx((0.05, 0.05, 0.05))
    assert frame.loc["Reconstruction error (nats)", "Reading"] == "the same numbers"
    first, second = baseline.lines(table)
    assert first == "dSprites, DEFT: MIG 0.350 -> 0.400, difference 0.050 (95% 0.050 to 0.050), 4 seeds: higher"
    assert second.startswith("dSprites, DEFT: Reconstruction error (nats) 50.0 -> 50.0")


def test_without_common_seeds_the_samples_are_compared(tmp_path: Path) -> None:
    migs = [0.2, 0.3, 0.45], [0.1, 0.25, 0.2]
    new = study_of(tmp_path / "new", *(scored(m, seed=s) for s, m in enumerate(migs[0])))
    old = study_of(tmp_path / "old", *(scored(m, seed=10 + s) for s, m in enumerate(migs[1])))
    row = baseline.differences(new, old).frame.iloc[0]
    assert (row["Paired over"], row["Reading"]) == ("not paired", "no difference shown")
    assert row["Difference"] == pytest.approx(np.mean(migs[0]) - np.mean(migs[1]))
    assert (row["Low"], row["High"]) == statistics.unpaired(*migs)


def test_one_run_each_has_no_interval(tmp_path: Path) -> None:
    table = baseline.differences(study_of(tmp_path / "new", scored(0.3)), study_of(tmp_path / "old", scored(0.2)))
    row = table.frame.iloc[0]
    assert (row["Paired over"], row["Reading"]) == ("1 seed", "no interval")
    assert baseline.lines(table)[0] == "dSprites, DEFT: MIG 0.200 -> 0.300, difference 0.100, 1 seed: no interval"


def test_only_the_same_data_and_swept_value_are_compared(tmp_path: Path) -> None:
    """Only the baseline was swept: pressure 6 is compared with pressure 6. Other data are left out."""
    new = study_of(tmp_path / "new", *(scored(0.3, method="beta-VAE", pressure=6, seed=s) for s in (0, 1)))
    olds = [scored(0.1 * p, method="beta-VAE", pressure=p, seed=s) for p in (2, 6) for s in (0, 1)]
    olds += [scored(0.9, method="beta-VAE", pressure=6, source="published", seed=s) for s in (0, 1)]
    frame = baseline.differences(new, study_of(tmp_path / "old", *olds, scored(0.9))).frame
    assert frame["Value"].unique().tolist() == ["pressure 6"]
    assert frame["Baseline mean"].iloc[0] == pytest.approx(0.6)


def test_failures_are_compared_with_those_that_diverged(tmp_path: Path) -> None:
    new = study_of(tmp_path / "new", scored(0.3), scored(0, seed=1, status="diverged"), scored(0.05, seed=2))
    old = study_of(tmp_path / "old", *(scored(0.3, seed=s) for s in range(3)))
    row = baseline.differences(new, old).frame.set_index("Score").loc[baseline.FAILED]
    assert (row["Mean"], row["Baseline mean"], row["Runs"]) == (pytest.approx(2 / 3), 0, 3)
    assert row["Reading"] == "no difference shown"


@pytest.mark.parametrize(
    ("seeds", "shift", "reading"), [(3, 0, "no difference shown"), (6, 0, "lower"), (6, 9, "lower")]
)
def test_failures_are_compared_by_exact_tests(tmp_path: Path, seeds: int, shift: int, reading: str) -> None:
    """All fail before and none after: over 3 seeds that may be chance, p = 2 / 2^3. Their differences have no spread,
    and so no interval."""
    new = study_of(tmp_path / "new", *(scored(0.3 + s / 100, seed=s) for s in range(seeds)))
    old = study_of(tmp_path / "old", *(scored(0.05 - s / 1000, seed=s + shift) for s in range(seeds)))
    row = baseline.differences(new, old).frame.set_index("Score").loc[baseline.FAILED]
    assert (row["Reading"], row["Difference"]) == (reading, -1)
    assert np.isnan([row["Low"], row["High"]]).all()


def test_welch_covers_the_difference_of_two_means() -> None:
    """For samples of one size and spread it is Student's interval; for small samples it covers 95%."""
    random = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        low, high = statistics.unpaired(random.normal(0.3, 0.1, 6), random.normal(0.1, 0.3, 9))
        hits += low < 0.2 < high
    assert hits / 400 == pytest.approx(0.95, abs=0.03)
    assert np.isnan(statistics.unpaired([1.0], [2.0, 3.0])).all()
    assert np.isnan(statistics.unpaired([1.0, 1.0], [2.0, 2.0])).all()


@pytest.mark.slow  # builds a whole report
def test_the_page_and_the_screen_show_the_differences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(3):
        factory.write(tmp_path / "new" / str(seed), scored(0.3, seed=seed))
        factory.write(tmp_path / "old" / str(seed), scored(0.2 + seed / 100, seed=seed))
    arguments = [str(tmp_path / "new"), "--baseline", str(tmp_path / "old"), "--out", str(tmp_path / "report")]
    assert main([*arguments, "--latex"]) == 0
    *said, page = capsys.readouterr().out.splitlines()
    assert page == str(tmp_path / "report" / "index.html")
    assert [line.split(",")[1].split(":")[1].split()[0] for line in said] == ["MIG", "Reconstruction"]
    html = Path(page).read_text()
    assert '<a href="#baseline">Compared with the baseline</a>' in html
    assert '<td class="n">3 seeds</td>' in html
    assert (tmp_path / "report" / "tables" / "baseline.csv").is_file()
    assert (tmp_path / "report" / "tables" / "scores.tex").is_file()
    factory.write(tmp_path / "other", scored(0.3, method="FactorVAE"))
    arguments[2] = str(tmp_path / "other")
    assert main(arguments) == 0
    streams = capsys.readouterr()
    assert streams.out == f"{page}\n"
    assert "nothing to compare" in streams.err


def test_a_baseline_without_runs_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    factory.write(tmp_path / "new", scored(0.3))
    arguments = [str(tmp_path / "new"), "--baseline", str(tmp_path / "nowhere"), "--out", str(tmp_path / "report")]
    assert main(arguments) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert "nowhere: give the folder of a sweep" in line
