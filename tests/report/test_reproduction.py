"""Tables of the pages come from the committed results and are up to date."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deft_lightning import DeftError
from deft_lightning.report import reproduction
from deft_lightning.report.statistics import wilson
from tests.docs.pages import ROOT
from tests.report import factory
from tests.report.test_study import scored


def test_the_pages_are_those_of_the_committed_results() -> None:
    runs = reproduction.read(ROOT / reproduction.RESULTS)
    for page in reproduction.PAGES:
        text = (ROOT / page).read_text()
        assert reproduction.MARK.search(text), page
        assert text == reproduction.render(text, runs), (
            f"{page} is out of date: python -m deft_lightning.report.reproduction write"
        )


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Six finished runs of one method, one of which failed, and one that is still running."""
    migs = [0.05, 0.2, 0.3, 0.4, 0.5, 0.6]
    for seed, value in enumerate(migs):
        factory.write(tmp_path / f"seed{seed}", scored(value, seed=seed))
    factory.write(tmp_path / "running", scored(0.9, seed=9) | {"status": "running"})
    return tmp_path


def test_ended_runs_are_added_without_their_curves_and_read_again(runs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "committed"
    paths = reproduction.add([runs], folder)
    assert len(paths) == 6
    before = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in reproduction.add([runs], folder)] == before
    read = reproduction.read(folder)
    assert sorted(run.scores["mig"] for run in read) == [0.05, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert all("history" not in run.content for run in read)


def test_the_table_has_rates_and_medians_with_their_intervals(runs: Path, tmp_path: Path) -> None:
    reproduction.add([runs], tmp_path / "committed")
    text = reproduction.render(
        "a\n<!-- begin: failure rates -->\nold\n<!-- end -->\nb", reproduction.read(tmp_path / "committed")
    )
    assert text.startswith("a\n")
    assert text.endswith("\nb")
    assert "old" not in text
    low, high = wilson(1, 6)
    assert f"1 of 6 ({100 * low:.0f} to {100 * high:.0f}%)" in text
    assert "| 0.350 (" in text
    assert reproduction.render(text, reproduction.read(tmp_path / "committed")) == text


def test_a_run_that_diverged_is_a_failure(runs: Path, tmp_path: Path) -> None:
    factory.write(runs / "diverged", scored(0.9, seed=8) | {"status": "diverged"})
    reproduction.add([runs], tmp_path / "committed")
    text = reproduction._failure_table(reproduction.read(tmp_path / "committed"))
    assert "2 of 7" in text
    assert "1 diverged" in text


def test_the_median_of_few_runs_has_no_interval() -> None:
    assert reproduction._median([0.1, 0.2, 0.4]) == "0.200"
    low, high = map(float, reproduction._median(list(np.linspace(0, 1, 9))).split("(")[1].rstrip(")").split(" to "))
    assert 0 <= low < 0.5 < high <= 1


def test_damage_and_unknown_tables_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.json.gz").write_bytes(b"nothing")
    with pytest.raises(DeftError, match=r"a\.json\.gz cannot be read"):
        reproduction.read(tmp_path)
    with pytest.raises(DeftError, match="there is no table 'rates': use one of failure rates"):
        reproduction.render("<!-- begin: rates -->\n<!-- end -->", [])
