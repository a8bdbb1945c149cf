"""Fig. 3 and Fig. 6 show the numbers of thresholds.json."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deft_lightning.report.figures import thresholds
from deft_lightning.report.figures.spectrum import spectrum_figure
from deft_lightning.report.loading import load
from deft_lightning.report.study import Study
from deft_lightning.thresholds import crossing
from tests.report import factory
from tests.report.test_figures import drawn, line, only, points


def test_anneal_test_marks_its_threshold(study: Study) -> None:
    (plate,) = thresholds.anneal_tests(study)
    assert "β = 52 at step 7,400" in plate.caption
    figure = drawn(plate)
    beta, kl, _ = figure.axes
    assert [text.get_text() for text in beta.texts] == ["β = 52"]
    assert kl.lines[0].get_ydata() == pytest.approx(np.array(factory.anneal()["curves"][0]["kl"]))
    assert [line(ax, "threshold").get_xdata()[0] for ax in figure.axes] == [7400] * 3


def test_anneal_test_shows_the_kl_that_is_compared_with_the_limit() -> None:
    """Total and latents are averaged as the rule for thresholds does; the axis is linear up to the limit."""
    record = factory.anneal()
    curve, settings = record["curves"][0], record["settings"]
    kl = thresholds.anneal_figure(record, "dsprites, seed 0").axes[1]
    latents = np.array(curve["kl_per_latent"])
    step = np.array(curve["step"])
    expected = [crossing.smooth(column, step, settings["window"]) for column in latents.T]
    curves = [artist.get_ydata() for artist in kl.lines if len(artist.get_ydata()) == len(step)]
    assert np.array(curves[2:]) == pytest.approx(np.array(expected))
    assert line(kl, "total").get_ydata() == pytest.approx(crossing.smooth(latents.sum(1), step, settings["window"]))
    assert list(line(kl, "limit, 0.1 nats").get_ydata()) == [0.1, 0.1]
    assert (kl.get_yscale(), kl.yaxis.get_transform().linthresh) == ("symlog", 0.1)


def test_anneal_test_shows_the_eigenvalues_that_it_passes() -> None:
    """As lines at their pressures; one above beta_high, or below the last beta, is outside the axes."""
    record = factory.anneal() | {"eigenvalues": [250.0, 120.0, 40.0, 0.5]}
    figure = thresholds.anneal_figure(record, "dsprites, seed 0")
    drawn_at = [artist.get_ydata()[0] for artist in figure.axes[0].lines if artist.get_color() == thresholds.BLUE]
    assert drawn_at == [120, 40]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names.count("eigenvalues of the images") == 1
    assert names.count("threshold") == 1
    assert "eigenvalues of the images" not in [
        text.get_text() for text in thresholds.anneal_figure(factory.anneal()).legends[0].get_texts()
    ]


@pytest.mark.parametrize("channels", [1, 3])
def test_the_spectrum_shows_every_eigenvalue_with_its_direction(channels: int) -> None:
    directions = np.zeros((7, channels, 8, 8), np.float32)
    directions[:, 0, 2, 5] = [1, -2, 3, 4, 5, 6, 7]
    record = {"eigenvalues": [50.0, 49, 30, 20, 10, 5, 1], "alike": [[1, 2]]}
    bars, *pictures = spectrum_figure(record, directions, "tiny").axes
    assert [patch.get_height() for patch in bars.patches] == record["eigenvalues"]
    colours = [patch.get_facecolor() for patch in bars.patches]
    assert colours[0] == colours[1] != colours[2]
    assert [ax.get_title() for ax in pictures][:2] == ["1: 50", "2: 49"]
    shown = np.array(pictures[1].images[0].get_array())
    if channels == 3:
        assert shown[2, 5].tolist() == [0, 0.5, 0.5]  # darker in red
        assert shown[0, 0].tolist() == [0.5] * 3
    else:
        assert (shown[2, 5], pictures[1].images[0].get_clim()) == (-2, (-2, 2))


def test_a_title_says_the_threshold() -> None:
    figure = thresholds.anneal_figure(factory.anneal(), "dsprites, seed 0")
    assert figure.get_suptitle() == "dsprites, seed 0: threshold β = 52 at step 7,400"


def test_a_limit_that_is_never_crossed_is_stated(tmp_path: Path) -> None:
    factory.write(tmp_path, factory.anneal() | {"threshold": None}, name="thresholds.json")
    (plate,) = thresholds.anneal_tests(Study(load([tmp_path])))
    assert "never stays above 0.1 nats" in plate.caption
    assert len(drawn(plate).axes[0].texts) == 0


def test_an_anneal_test_without_a_complete_curve_is_reported(tmp_path: Path) -> None:
    record = factory.anneal()
    del record["curves"][0]["kl"]
    factory.write(tmp_path, record, name="thresholds.json")
    study = Study(load([tmp_path]))
    assert thresholds.anneal_tests(study) == []
    (problem,) = study.problems
    assert "thresholds.json has no complete curve" in problem


def test_factor_thresholds_and_the_pressures_of_table_1(study: Study) -> None:
    (ax,) = only(thresholds.factors, study).axes
    recorded = factory.factor_thresholds()["factors"].values()
    assert points(ax) == pytest.approx(sorted(x for xs in recorded for x in xs if x is not None))
    red = [artist.get_xdata()[0] for artist in ax.lines if artist.get_color() == thresholds.RED]
    assert red == [1, 12, 30, 70]


def test_subsets_that_never_crossed_are_counted() -> None:
    record = factory.factor_thresholds()
    record["factors"]["posY"] = [None] * 20
    record["factors"]["shape"] = [10.0, 11.0, 12.0]
    (ax,) = thresholds.factors_figure({"dSprites": record}).axes
    counts = [text for text in ax.texts if "never" in text.get_text()]
    never = {text.get_position()[1]: text.get_text().split("\n")[0] for text in counts}
    assert never == {1: "1 of 50", 2: "1 of 50", 3: "1 of 50", 4: "20 of 20"}
    assert [label.get_text() for label in ax.get_yticklabels()] == list(factory.FACTORS)


def test_factors_measured_twice_are_drawn_twice(tmp_path: Path) -> None:
    for seed in ("0", "1"):
        factory.write(tmp_path / seed, factory.factor_thresholds(), name="thresholds.json")
    (plate,) = thresholds.factors(Study(load([tmp_path])))
    first, second = drawn(plate).axes
    assert points(first) == points(second)
    assert second.get_title() == f"{first.get_title()} · 2"
