"""figures/summary.png: its lines, marks, table and pictures are those of the run, whatever the run was made without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from deft_lightning.training import run, summary_picture
from tests.helpers import UNLABELLED, compose_run
from tests.training.conftest import FEW_COLUMNS

pytestmark = pytest.mark.slow  # trains runs

METRICS = """\
step,stage,pressure,train/reconstruction,train/kl,score/mig
0,1,70,,,
4,1,70,500.0,0.5,
9,1,70,300.0,0.25,
10,,,,,0.2
10,2,1,,,
14,2,1,100.0,8.0,
19,2,1,90.0,10.0,
20,,,,,0.6
"""
OUTCOME: dict[str, Any] = {
    "name": "first_try",
    "seed": 3,
    "steps": 1234,
    "data": {"name": "tiny", "source": "rendered", "factors": ["shape", "posX"]},
    "boundaries": [10, 20],
    "history": {
        "nmi": {
            "10": {"max1": {"shape": 0.1, "posX": 0.4}, "max2": {"shape": 0.05, "posX": 0.3}},
            "20": {"max1": {"shape": 0.3, "posX": 0.8}, "max2": {"shape": 0.2, "posX": 0.1}},
        }
    },
    "stages": {
        "stage_1": {"scores": {"reconstruction": 310.0, "mig": 0.2}, "pictures": {"traversals": "figures/one.png"}},
        "stage_2": {
            "scores": {"reconstruction": 91.25, "mig": 0.6, "dci": 0.5},
            "pictures": {"traversals": "figures/two.png"},
        },
    },
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run folder with metrics.csv and the traversals of two stages, the second of which are 7 x 5 red pixels."""
    (tmp_path / "figures").mkdir()
    (tmp_path / "metrics.csv").write_text(METRICS)
    Image.new("RGB", (4, 4), "blue").save(tmp_path / "figures" / "one.png")
    Image.new("RGB", (7, 5), "red").save(tmp_path / "figures" / "two.png")
    return tmp_path


@pytest.fixture
def figure(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved."""
    figures: list[Figure] = []
    save = summary_picture.save_figure

    def keep(figure: Figure, folder: Path, name: str) -> Path:
        figures.append(figure)
        return save(figure, folder, name)

    monkeypatch.setattr(summary_picture, "save_figure", keep)
    return figures


def _draw(folder: Path, outcome: dict[str, Any], figure: list[Figure]) -> Figure:
    path = summary_picture.draw(folder, outcome)
    assert path == folder / "figures" / "summary.png"
    Image.open(path).load()
    return figure[0]


def _lines(axes: Axes) -> dict[str, list[tuple[float, float]]]:
    """The points of every labelled line."""
    lines = [line for line in axes.lines if not str(line.get_label()).startswith("_") and len(line.get_xdata())]
    return {str(line.get_label()): list(zip(line.get_xdata(), line.get_ydata(), strict=True)) for line in lines}


def _titled(figure: Figure, title: str) -> Axes:
    return next(axes for axes in figure.axes if axes.get_title() == title)


def test_losses_and_pressure_are_those_of_metrics_csv(folder: Path, figure: list[Figure]) -> None:
    drawn = _draw(folder, OUTCOME, figure)
    axes = _titled(drawn, "loss parts and pressure")
    lines = _lines(axes)
    assert lines["reconstruction (nats)"] == [(4, 500), (9, 300), (14, 100), (19, 90)]
    assert lines["KL (nats)"] == [(4, 0.5), (9, 0.25), (14, 8), (19, 10)]
    (other,) = (one for one in drawn.axes if one.get_ylabel() == "pressure")
    assert _lines(other)["pressure"] == [(0, 70), (4, 70), (9, 70), (10, 1), (14, 1), (19, 1)]
    assert (axes.get_yscale(), other.get_yscale()) == ("log", "log")
    marks = [list(line.get_xdata()) for line in axes.lines if line.get_linestyle() == "--"]
    assert marks == [[10, 10]]  # the end of stage 1
    assert drawn.get_suptitle() == "first_try, seed 3: tiny (rendered), 1,234 steps"


def test_nmi_scores_and_the_last_traversals_are_drawn(folder: Path, figure: list[Figure]) -> None:
    drawn = _draw(folder, OUTCOME, figure)
    nmi = _titled(drawn, "max-1 (solid) and max-2 (dotted) NMI of every factor")
    assert _lines(nmi) == {"shape": [(10, 0.1), (20, 0.3)], "posX": [(10, 0.4), (20, 0.8)]}
    (table,) = (axes.tables[0] for axes in drawn.axes if axes.tables)
    cells = {place: cell.get_text().get_text() for place, cell in table.get_celld().items()}
    rows = [[cells.get((row, column), "") for column in (-1, 0, 1)] for row in range(4)]
    assert rows == [
        ["", "stage 1", "stage 2"],
        ["reconstruction", "310", "91.2"],
        ["mig", "0.2", "0.6"],
        ["dci", "", "0.5"],  # scored at the last stage only
    ]
    (picture,) = (axes.images[0].get_array() for axes in drawn.axes if axes.images)
    assert picture.shape[:2] == (5, 7)
    assert (np.asarray(picture)[..., :3] == [255, 0, 0]).all()


def test_a_long_run_is_averaged(folder: Path, figure: list[Figure]) -> None:
    """1,000 logged losses become 200 means of 5."""
    rows = [f"{step},{step % 5}" for step in range(1000)]
    (folder / "metrics.csv").write_text("\n".join(["step,train/kl", *rows]) + "\n")
    points = _lines(_titled(_draw(folder, OUTCOME, figure), "loss parts and pressure"))["KL (nats)"]
    assert points == [(5 * i + 2, 2) for i in range(200)]


def test_the_reconstruction_of_a_density_is_drawn_below_0(folder: Path, figure: list[Figure]) -> None:
    (folder / "metrics.csv").write_text("step,train/reconstruction,train/kl\n0,-900,1\n9,-2000,3\n")
    axes = _titled(_draw(folder, OUTCOME, figure), "loss parts and pressure")
    assert axes.get_yscale() == "symlog"
    low, high = axes.get_ylim()
    assert low < -2000 < 3 < high


def test_stages_have_their_own_numbers(folder: Path, figure: list[Figure]) -> None:
    """A run that starts from the weights of another has no first ones."""
    outcome = OUTCOME | {"stages": {"stage_2": OUTCOME["stages"]["stage_2"]}}
    (table,) = (axes.tables[0] for axes in _draw(folder, outcome, figure).axes if axes.tables)
    assert table.get_celld()[0, 0].get_text().get_text() == "stage 2"


def test_without_labels_there_is_no_nmi(folder: Path, figure: list[Figure]) -> None:
    outcome = {key: value for key, value in OUTCOME.items() if key != "history"}
    drawn = _draw(folder, outcome, figure)
    titles = {axes.get_title() for axes in drawn.axes if axes.axison}
    assert titles == {"loss parts and pressure", ""}  # and the axis of the pressure
    assert any(axes.tables for axes in drawn.axes)


@pytest.mark.parametrize("missing", ["callback", "file"])
def test_without_traversals_the_rest_is_drawn(missing: str, folder: Path, figure: list[Figure]) -> None:
    outcome = OUTCOME
    if missing == "file":
        (folder / "figures" / "two.png").unlink()
    else:
        stages = {name: {"scores": stage["scores"]} for name, stage in OUTCOME["stages"].items()}
        outcome = OUTCOME | {"stages": stages}
    drawn = _draw(folder, outcome, figure)
    assert not any(axes.images for axes in drawn.axes)
    assert len(_lines(_titled(drawn, "loss parts and pressure"))) == 2


def test_without_scores_the_rest_is_drawn(folder: Path, figure: list[Figure]) -> None:
    stages = {name: {"pictures": stage["pictures"]} for name, stage in OUTCOME["stages"].items()}
    drawn = _draw(folder, OUTCOME | {"stages": stages}, figure)
    assert not any(axes.tables for axes in drawn.axes)
    assert any(axes.images for axes in drawn.axes)


def test_a_capacity_from_zero_is_drawn_on_a_linear_axis(folder: Path, figure: list[Figure]) -> None:
    (folder / "metrics.csv").write_text("step,capacity,train/kl\n0,0,\n4,10,3.5\n9,25,20\n")
    drawn = _draw(folder, OUTCOME | {"boundaries": [10]}, figure)
    (other,) = (axes for axes in drawn.axes if axes.get_ylabel() == "capacity")
    assert _lines(other)["capacity"] == [(0, 0), (4, 10), (9, 25)]
    assert other.get_yscale() == "linear"


@pytest.mark.parametrize(
    "overrides",
    [
        (*UNLABELLED, FEW_COLUMNS),
        ("~callbacks.traversals",),
        ("groups=single", "schedule=capacity", "objective=annealed_vae", "schedule.epochs=0.5", FEW_COLUMNS),
    ],
    ids=["unlabelled", "no_traversals", "capacity"],
)
def test_runs_of_every_kind_end_with_a_summary(overrides: tuple[str, ...], tmp_path: Path) -> None:
    short = ("schedule.epochs=[0.1,0.1,0.1,0.1]", "trainer.log_every_n_steps=1")
    run.train(*compose_run(tmp_path / "run", *short, *overrides))
    Image.open(tmp_path / "run" / "figures" / "summary.png").load()
