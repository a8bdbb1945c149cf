"""Tables of the pages come from the committed results and are up to date."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deft_lightning import DeftError
from deft_lightning.launch.reproduce import ROWS
from deft_lightning.report import committed, reproduction, reproduction_pairs, reproduction_tables
from deft_lightning.report.loading import Record
from deft_lightning.report.statistics import wilson
from tests.docs.pages import ROOT
from tests.report import factory
from tests.report.test_study import scored, study_of


def test_the_pages_are_those_of_the_committed_results() -> None:
    runs = reproduction.read(ROOT / reproduction.RESULTS)
    for page in reproduction.PAGES:
        text = (ROOT / page).read_text()
        assert reproduction.MARK.search(text), page
        assert text == reproduction.render(text, runs), (
            f"{page} is out of date: python -m deft_lightning.report.reproduction write"
        )


def records_of(folder: Path, *contents: dict[str, Any]) -> list[Record]:
    return study_of(folder, *contents).runs


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
    text = reproduction_tables.failure_table(reproduction.read(tmp_path / "committed"))
    assert "2 of 7" in text
    assert "1 diverged" in text


def test_a_rate_of_two_runs_is_not_in_readme(tmp_path: Path) -> None:
    few = [scored(0.3, method="FactorVAE", seed=seed) for seed in (0, 1)]
    enough = [scored(0.3, seed=seed) for seed in range(3)]
    text = reproduction_tables.failure_table(records_of(tmp_path, *few, *enough))
    assert "FactorVAE" not in text
    assert "0 of 3" in text


def test_the_median_of_few_runs_has_no_interval() -> None:
    assert committed.median([0.1, 0.2, 0.4]) == "0.200"
    low, high = map(float, committed.median(list(np.linspace(0, 1, 9))).split("(")[1].rstrip(")").split(" to "))
    assert 0 <= low < 0.5 < high <= 1


def test_runs_are_grouped_by_their_settings(tmp_path: Path) -> None:
    """Settings are named, in the order of their numbers; other pressures of DEFT are no DEFT of Table 1."""
    records = [scored(0.2, method="beta-VAE", pressure=pressure, seed=seed) for pressure in (16, 6) for seed in (1, 0)]
    other = scored(0.3, seed=3)
    other["training"]["schedule"]["epochs"] = [6, 2, 4, 15]
    gamma = scored(0.3, seed=4, name="fig5_gamma")
    made = committed.groups(records_of(tmp_path, *records, other, scored(0.3), gamma))
    assert [group.method for group in made] == [
        "DEFT (epochs 2, 2, 4, 15)", "DEFT (epochs 6, 2, 4, 15)", "beta-VAE (beta 6)", "beta-VAE (beta 16)"
    ]  # fmt: skip
    assert [run.seed for run in made[2].runs] == [0, 1]
    other["boundaries"], other["steps"] = [400_000], 400_000
    longer, table_1 = committed.groups(records_of(tmp_path / "longer", other, scored(0.3)))[::-1]
    assert (longer.method, table_1.method) == ("DEFT (epochs 6, 2, 4, 15)", "DEFT")


def test_the_command_of_a_group_is_that_of_its_jobs(tmp_path: Path) -> None:
    contents = [scored(0.3, seed=seed, steps=1000) for seed in (0, 1)]
    for content in contents:
        overrides = ["sweep.name=a", "+experiment=deft", "schedule.epochs=[2,2,4,15]", f"seed={content['seed']}"]
        content["sweep"] = {"name": "a", "overrides": overrides}
    (group,) = committed.groups(records_of(tmp_path, *contents))
    assert group.command() == (
        "python -m deft_lightning --multirun +experiment=deft 'schedule.epochs=[2,2,4,15]' seed=0,1"
    )
    assert group.steps == "1,000 (full)"
    assert committed.groups(records_of(tmp_path / "single", scored(0.3)))[0].command() is None


def test_a_section_has_every_method_of_the_paper(tmp_path: Path) -> None:
    """Those without runs are listed as not run; the others with both readings where one diverged."""
    records = [scored(0.2, seed=seed, method="beta-VAE") for seed in (0, 1)]
    records.append(scored(0.0, seed=2, method="beta-VAE", status="diverged"))
    text = reproduction.TABLES["table 2 dsprites"](records_of(tmp_path, *records))
    lines = text.split("\n\n")[0].splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in lines[2:]] == [
        "DEFT", "β-VAE (beta 6)", "FactorVAE", "DIP-VAE-I", "DIP-VAE-II", "β-TCVAE", "AnnealedVAE"
    ]  # fmt: skip
    assert "| 0 | not run | 8% |" in lines[2]
    assert "| 3 | 1 of 3 (6 to 79%), 1 diverged; without: 0 of 2 (0 to 66%) | 47.7% | 0.200 |" in lines[3]
    assert {line.count("|") for line in lines} == {11}
    assert "make reproduce ROW=table2_dsprites SEEDS=3" in text
    figure = reproduction.TABLES["fig 11"](records_of(tmp_path))
    assert figure.startswith("The paper: in forty runs")
    assert "47.7%" not in figure  # which is of Table 2
    covered = reproduction.TABLES["coverage"](records_of(tmp_path))
    assert "| Table 2, dSprites | `ROW=table2_dsprites` | 3 | 264,960 (full) | β-VAE | DEFT; FactorVAE;" in covered


def test_rows_are_those_of_make_reproduce() -> None:
    rows = [section.row for section in reproduction_tables.SECTIONS.values()] + list(reproduction_tables.CURVES)
    assert sorted(rows) == sorted(ROWS)
    for section in reproduction_tables.SECTIONS.values():
        assert ROWS[section.row].data == section.dataset


def test_rotated_positions_are_counted_with_their_stage(tmp_path: Path) -> None:
    """Seed 0 is rotated from the second stage on, seed 1 is not, seed 2 learnt nothing."""
    known, rotated, nothing = [[0.4, 0.0], [0.0, 0.4]], [[0.2, 0.15], [0.15, 0.2]], [[0.0, 0.0]] * 2
    contents = []
    for seed, stages in enumerate([(known, rotated, rotated), (known, known, known), (nothing, nothing, nothing)]):
        content = scored(0.3, seed=seed)
        content["stages"] = {
            f"stage_{j}": {"scores": {"mig": 0.1 * j + seed / 100}, "nmi": [[0.0] * 3 + row for row in nmi]}
            for j, nmi in enumerate(stages, start=1)
        }
        contents.append(content)
    records = records_of(tmp_path, *contents)
    (row,) = reproduction.TABLES["positions"](records).splitlines()[2:]
    low, high = wilson(1, 2)
    assert f"1 of 2 ({100 * low:.0f} to {100 * high:.0f}%) | stage 2: 1 | 0.300 | 0.310 |" in row
    ends = [line.split(" | ")[-2:] for line in reproduction.TABLES["stages"](records).splitlines()[2:]]
    assert ends == [
        ["0.100, 0.200, 0.300", "rotated since stage 2 |"], ["0.110, 0.210, 0.310", "separate since stage 1 |"],
        ["0.120, 0.220, 0.320", "not learnt |"],
    ]  # fmt: skip
    (fig_8,) = [line for line in reproduction.TABLES["fig 8"](records).splitlines() if "rendered" in line]
    assert fig_8.endswith("| 3 | 0.110, 0.210, 0.310 |")


def test_damage_and_unknown_tables_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.json.gz").write_bytes(b"nothing")
    with pytest.raises(DeftError, match=r"a\.json\.gz cannot be read"):
        reproduction.read(tmp_path)
    with pytest.raises(DeftError, match="there is no table 'rates': use one of failure rates"):
        reproduction.render("<!-- begin: rates -->\n<!-- end -->", [])


def test_deft_is_paired_with_every_method_trained_alike_over_the_seeds_of_both(tmp_path: Path) -> None:
    """Differences of 0.3, 0.4 and 0.5: mean 0.4, deviation 0.1, half an interval 4.303 0.1 / sqrt(3) = 0.248.

    Of four deviations, two pairs would rarely show a difference (the critical t is 12.7), three do (4.3).
    """
    migs = {"DEFT": [0.4, 0.6, 0.8, 0.9], "beta-VAE": [0.1, 0.2, 0.3], "DEFT (TC)": [0.9], "AnnealedVAE": [0.3, 0.7]}
    contents = [scored(mig, method=method, seed=s) for method, row in migs.items() for s, mig in enumerate(row)]
    contents += [scored(0.1, method="beta-VAE", dataset="smallnorb", seed=s) for s in range(3)]
    lines = reproduction_pairs.pair_table(records_of(tmp_path, *contents)).splitlines()[2:]
    assert len(lines) == 2  # one seed makes no pairs, and other images are not compared
    first, second = sorted(lines, key=lambda line: "AnnealedVAE" in line)
    assert first.endswith("| 3 | +0.400 (+0.152 to +0.648) | 0.100 | 3 |")
    assert second.endswith("| 2 | +0.000 (-1.271 to +1.271) | 0.141 |  |")


def test_schedules_without_labels_are_paired_with_table_1_over_the_same_seeds(tmp_path: Path) -> None:
    migs = {"DEFT": [0.1, 0.2, 0.3], "DEFT, schedule=distil": [0.3, 0.4], "DEFT (TC)": [0.9, 0.9]}
    contents = []
    for method, values in migs.items():
        for seed, value in enumerate(values):
            content = scored(value, method=method, seed=seed)
            last = max(content["stages"])
            content["stages"][last] |= {"max1_nmi": {"shape": value}, "max2_nmi": {"shape": value / 2}}
            contents.append(content)
    runs = records_of(tmp_path, *contents)
    lines = reproduction_pairs.schedule_table(runs).splitlines()[2:]
    assert len(lines) == 2
    assert "| DEFT |" in lines[0]
    assert "| 2 |" in lines[0]
    assert lines[0].endswith("|  |")
    assert "| DEFT, schedule=distil |" in lines[1]
    assert lines[1].endswith("| +0.200 (+0.200 to +0.200) |")
    by_seed = reproduction_pairs.schedule_seeds(runs).splitlines()
    assert by_seed[0].endswith("| seed | MIG | gap of shape |")
    assert len(by_seed) == 2 + 4
    assert by_seed[-1].endswith("| 1 | 0.400 | 0.20 |")


def test_folders_of_the_machine_are_not_committed(tmp_path: Path) -> None:
    content = scored(0.4) | {"sweep": {"overrides": ["schedule.path=/home/me/runs/proposal", "a=b/c"]}}
    content["training"] = {"schedule": {"path": "/home/me/runs/proposal"}, "url": "https://host/page"}
    factory.write(tmp_path / "run", content)
    reproduction.add([tmp_path / "run"], tmp_path / "committed")
    (run,) = reproduction.read(tmp_path / "committed")
    assert run.content["sweep"]["overrides"] == ["schedule.path=proposal", "a=b/c"]
    assert run.content["training"] == {"schedule": {"path": "proposal"}, "url": "https://host/page"}
