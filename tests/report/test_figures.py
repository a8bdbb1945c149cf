"""The figures show the numbers of all runs that belong in them, and of no others."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection, PolyCollection, QuadMesh
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from deft_lightning.report import paper
from deft_lightning.report.figures import FIGURES, Plate, distributions, failures, pictures, training
from deft_lightning.report.figures._common import DPI, save
from deft_lightning.report.loading import Record, load
from deft_lightning.report.study import Study
from tests.report import factory
from tests.report.conftest import GAMMAS
from tests.report.test_study import scored, study_of


def drawn(plate: Plate) -> Figure:
    """The figure of a plate."""
    assert not isinstance(plate.picture, Path)
    return plate.picture()


def only(part: Callable[[Study], list[Plate]], study: Study) -> Figure:
    """The figure of the only plate."""
    (plate,) = part(study)
    return drawn(plate)


def points(ax: Axes, upright: bool = False) -> list[float]:
    """The values that are drawn as points."""
    dots = [c for c in ax.collections if isinstance(c, PathCollection)]
    return sorted(float(v) for c in dots for v in np.asarray(c.get_offsets())[:, 1 if upright else 0])


def line(ax: Axes, label: str) -> Line2D:
    """The line with a label."""
    return next(artist for artist in ax.lines if artist.get_label() == label)


def titles(figure: Figure) -> list[str]:
    return [ax.get_title().replace("\n", " ") for ax in figure.axes if ax.get_title()]


def test_every_figure_of_the_paper_is_drawn(study: Study) -> None:
    assert [f.number for f in FIGURES if not [p for part in f.parts for p in part(study)]] == []
    numbers = {f.number for f in FIGURES}
    assert numbers >= {f"Fig. {n}" for n in (1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14)}


def test_a_method_has_one_colour_wherever_it_is() -> None:
    names = [*paper.METHODS, "beta-VAE, 2 groups", "beta-VAE, piecewise"]
    together = paper.colours(names)
    assert len(set(together.values())) == len(names)
    assert all(paper.colours([name])[name] == together[name] for name in names)
    assert paper.colours(["a new one", "another"])["another"] == paper.colours(["another"])["another"]


def test_a_study_of_nothing_draws_nothing(tmp_path: Path) -> None:
    study = study_of(tmp_path, scored(0.3, status="running"))
    assert [p for f in FIGURES for part in f.parts for p in part(study)] == []


def test_every_run_is_a_point_and_every_violin_spans_its_runs(study: Study) -> None:
    plate = next(p for p in distributions.scores(study) if p.key == "fig_07_mig")
    figure = drawn(plate)
    assert titles(figure) == ["dSprites", "Scream dSprites"]
    for ax, data in zip(figure.axes, study.data, strict=True):
        cells = {m: v for (d, m), v in study.cells("mig").items() if d == data and ", " not in m}
        assert points(ax) == pytest.approx(sorted(x for values in cells.values() for x in values))
        (violins,) = (c for c in ax.collections if isinstance(c, PolyCollection))
        spans = [(p.vertices[:, 0].min(), p.vertices[:, 0].max()) for p in violins.get_paths()]
        assert np.array(spans) == pytest.approx(np.array([(v.min(), v.max()) for v in cells.values()]))


def test_each_score_has_its_plate_the_five_of_the_field_first(study: Study) -> None:
    plates = distributions.scores(study)
    assert len(plates) == len(study.scores) - 1  # reconstruction is Fig. 9
    assert [p.caption for p in plates if not p.secondary] == [
        "MIG",
        "DCI disentanglement",
        "Modularity",
        "FactorVAE score",
        "SAP",
    ]


def test_the_reconstruction_error_has_a_plate_for_each_likelihood(tmp_path: Path) -> None:
    contents = [scored(0.1, seed=seed, config_digest=str(seed)) for seed in range(4)]
    for content in contents[2:]:
        content["method"]["likelihood"] = "Gaussian sigma 0.1"
        content["stages"]["stage_1"]["scores"]["reconstruction"] = -3000.0
    plates = distributions.reconstruction(study_of(tmp_path, *contents))
    assert [plate.key for plate in plates] == ["fig_09_reconstruction", "fig_09_reconstruction_gaussian_sigma_0_1"]
    assert [points(drawn(plate).axes[0]) for plate in plates] == [[50.0, 50.0], [-3000.0, -3000.0]]


def test_baselines_and_variants_take_their_methods(study: Study) -> None:
    def methods(figure: Figure) -> list[str]:
        return [label.get_text() for label in figure.axes[0].get_yticklabels()]

    assert methods(only(distributions.baselines, study)) == ["β-VAE", "AnnealedVAE"]
    assert methods(only(distributions.variants, study)) == ["DEFT", "DEFT (TC)", "β-VAE"]
    assert methods(only(distributions.constant_pressure, study)) == ["β-VAE", "β-VAE, 2 groups"]


def test_one_group_is_compared_at_the_pressure_of_several(study: Study) -> None:
    (ax,) = only(distributions.constant_pressure, study).axes
    rows = study.compared
    single = rows[(rows["method"] == "beta-VAE") & (rows["data"] == "dSprites") & (rows["value"] == "pressure 6")]
    several = rows[rows["method"] == "beta-VAE, 2 groups"]
    assert points(ax) == pytest.approx(sorted([*single["mig"], *several["mig"]]))


def test_stages_of_deft(study: Study) -> None:
    figure = only(distributions.stages, study)
    runs = [r for r in study.runs if r.method.label == "DEFT" and r.finished and r.name != "fig5_gamma"]
    for ax, data, pressures in zip(figure.axes, study.data, ([70, 30, 12, 1], [140, 1]), strict=True):
        migs = [stage["scores"]["mig"] for r in runs if study.label(r) == data for stage in r.stages]
        assert points(ax, upright=True) == pytest.approx(sorted(migs))
        dots = {
            tuple(dot) for c in ax.collections if isinstance(c, PathCollection) for dot in np.asarray(c.get_offsets())
        }
        corners = {tuple(xy) for artist in ax.lines if artist.get_linestyle() == "-" for xy in artist.get_xydata()}
        assert corners == dots  # a run's line goes through its points
        assert [t.get_text() for t in ax.get_xticklabels()] == [f"{j + 1}\n({p})" for j, p in enumerate(pressures)]


def test_stages_of_a_run_that_starts_from_another_keep_their_numbers(tmp_path: Path) -> None:
    whole, later = factory.result("DEFT", seed=0), factory.result("DEFT", seed=1)
    later["stages"] = {name: later["stages"][name] for name in ("stage_3", "stage_4")}
    (ax,) = only(distributions.stages, study_of(tmp_path, whole, later)).axes
    dots = [tuple(dot) for c in ax.collections if isinstance(c, PathCollection) for dot in np.asarray(c.get_offsets())]
    assert sorted(round(x) for x, _ in dots) == [1, 2, 3, 3, 4, 4]
    assert {tuple(xy) for artist in ax.lines if artist.get_linestyle() == "-" for xy in artist.get_xydata()} == set(
        dots
    )
    assert ax.get_xlabel() == "stage (pressure)   n = 1 to 2"
    assert [t.get_text() for t in ax.get_xticklabels()] == ["1\n(70)", "2\n(30)", "3\n(12)", "4\n(1)"]


def test_a_caption_says_where_a_run_has_not_finished(tmp_path: Path) -> None:
    for status in ("running", "diverged"):
        run = factory.result("beta-VAE", history=True, status=status)
        (plate,) = training.leakage(study_of(tmp_path / status, run))
        assert plate.caption == f"dSprites, β-VAE, β = 6, seed 0, {status}"


def test_leakage_is_the_history_of_one_run(study: Study) -> None:
    plates = training.leakage(study)
    assert [p.secondary for p in plates] == [False, True]
    assert plates[0].caption == "dSprites, β-VAE, β = 6, seed 0"
    run = next(r for r in study.runs if (r.method.label, r.dataset, r.seed, r.value("training", "schedule", "pressure"))
               == ("beta-VAE", "dsprites", 0, 6.0))  # fmt: skip
    rows = run.history("nmi")
    axes = {ax.get_title(): ax for ax in drawn(plates[0]).axes}
    assert axes["MIG"].lines[0].get_xydata() == pytest.approx(np.array([(step, row["mig"]) for step, row in rows]))
    assert axes["Loss (nats)"].lines[0].get_ydata() == pytest.approx(np.array([row["loss"] for _, row in rows]))
    for title, key in (("max-1 NMI", "max1"), ("max-2 NMI", "max2")):
        (mesh,) = (c for c in axes[title].collections if isinstance(c, QuadMesh))
        expected = np.array([[row[key][name] for _, row in rows] for name in factory.FACTORS])
        assert np.asarray(mesh.get_array()) == pytest.approx(expected)
        assert mesh.get_clim() == (0, 1)


def test_gamma_study_has_a_row_a_gamma(study: Study) -> None:
    first, second = only(training.gamma, study).axes
    by_gamma = {r.value("training", "groups", "gamma"): r for r in study.runs if r.name == "fig5_gamma"}
    for ax, key in ((first, "max1_nmi"), (second, "max2_nmi")):
        expected = [[by_gamma[g].stages[-1][key][name] for name in factory.FACTORS] for g in GAMMAS]
        assert np.asarray(ax.collections[0].get_array()).reshape(len(GAMMAS), -1) == pytest.approx(np.array(expected))
    assert [label.get_text() for label in first.get_yticklabels()] == ["0", "0.1", "1"]


def test_first_latent_and_stage_ends(study: Study) -> None:
    (ax,) = only(training.first_latent, study).axes
    run = next(r for r in study.runs if r.method.label == "beta-VAE, piecewise" and r.history("nmi"))
    expected = [row["first_latent"]["posX"] for _, row in run.history("nmi")]
    assert line(ax, "posX").get_ydata() == pytest.approx(np.array(expected))
    ends = [artist.get_xdata()[0] for artist in ax.lines if artist.get_label().startswith("_")]
    assert ends == [23_040, 46_080, 92_160]


def test_parts_of_the_kl(study: Study) -> None:
    figure = drawn(training.decomposition(study)[0])
    assert titles(figure) == ["AnnealedVAE", "DEFT", "β-VAE"]
    run = next(r for r in study.runs if r.method.label == "AnnealedVAE" and r.history("kl_decomposition"))
    for name in ("MI", "TC", "DWKL", "KL"):
        expected = [row[name.lower()] for _, row in run.history("kl_decomposition")]
        assert line(figure.axes[0], name).get_ydata() == pytest.approx(np.array(expected))


def test_failure_rates_are_drawn_with_the_papers(study: Study) -> None:
    ax = only(failures.failure_rates, study).axes[0]
    assert {47.7, 8.0, 61.7} <= {round(x, 6) for x in points(ax)}


def test_the_best_run_is_shown_and_it_is_of_deft(study: Study) -> None:
    plates = pictures.traversals(study)
    best = {}
    for run in study.runs:
        if run.method.label == "DEFT" and run.finished and run.name != "fig5_gamma":
            best.setdefault(study.label(run), []).append((run.scores["mig"], run.folder))
    for plate, data in zip(plates, study.data, strict=True):
        mig, folder = max(best[data])
        assert plate.picture == folder / "figures" / f"traversals_stage_{4 if data == 'dSprites' else 2}.png"
        assert f"MIG {mig:.3f}" in plate.caption


def test_a_missing_or_damaged_picture_is_reported(tmp_path: Path) -> None:
    start = b"\x89PNG\r\n\x1a\n"
    header = b"IHDR" + struct.pack(">IIBBBBB", 99_999, 99_999, 8, 2, 0, 0, 0)  # more pixels than Pillow opens
    huge = start + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    for number, damage in enumerate((None, start + b" cut short", huge)):
        study = study_of(tmp_path / str(number), factory.result())
        if damage is not None:
            (study.runs[0].folder / "figures").mkdir()
            (study.runs[0].folder / "figures" / "traversals_stage_4.png").write_bytes(damage)
        assert pictures.traversals(study) == []
        assert "traversals_stage_4.png" in study.problems[0]


def test_sources_have_axes_of_their_own(tmp_path: Path) -> None:
    runs = [scored(m, source=source, seed=s) for source, m in (("published", 0.1), ("rendered", 0.4)) for s in (0, 1)]
    plate = distributions.scores(study_of(tmp_path, *runs))[0]
    figure = drawn(plate)
    assert titles(figure) == ["dSprites (published)", "dSprites (rendered)"]
    assert [points(ax) for ax in figure.axes] == [[0.1, 0.1], [0.4, 0.4]]


@pytest.mark.parametrize("migs", [[0.2], [0.2, 0.2, 0.2], [0.1, 0.3]])
def test_few_or_equal_runs_can_be_drawn(tmp_path: Path, migs: list[float]) -> None:
    study = study_of(tmp_path, *(scored(m, seed=s) for s, m in enumerate(migs)))
    plate = distributions.scores(study)[0]
    save(plate, tmp_path)
    (ax,) = drawn(plate).axes
    assert points(ax) == migs


def test_plates_are_saved_the_same_every_time(study: Study, tmp_path: Path) -> None:
    plate = distributions.stages(study)[0]
    files = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        save(plate, tmp_path / name)
        files.append([(tmp_path / name / f"{plate.key}.{ending}").read_bytes() for ending in ("png", "pdf")])
    assert files[0] == files[1]
    with Image.open(tmp_path / "a" / f"{plate.key}.png") as image:
        assert image.info["dpi"] == pytest.approx((DPI, DPI), abs=1)


JUNK: list[Any] = [None, "x", -1, [], [None], {}, {"x": None}, float("nan")]


@pytest.mark.slow  # draws hundreds of figures
@pytest.mark.parametrize("junk", JUNK, ids=repr)
def test_no_junk_in_a_record_stops_the_plates(tmp_path: Path, junk: Any) -> None:
    """Every top-level field, and the fields of a stage and of the history, replaced in turn."""
    whole = factory.result("beta-VAE", history=True)
    records = [whole | {key: junk} for key in whole if key != "schema_version"]
    records += [
        whole | {"stages": {"stage_1": whole["stages"]["stage_1"] | {key: junk}}} for key in whole["stages"]["stage_1"]
    ]
    records += [whole | {"history": {kind: dict.fromkeys(rows, junk)}} for kind, rows in whole["history"].items()]
    runs = [Record(tmp_path, record | {"config_digest": str(i)}) for i, record in enumerate(records)]
    loaded = load([factory.write(tmp_path, whole)])
    loaded.runs += runs
    loaded.thresholds += [Record(tmp_path, make() | {key: junk}) for make in (factory.anneal, factory.factor_thresholds)
                         for key in make() if key != "kind"]  # fmt: skip
    study = Study(loaded)
    plates = [plate for figure in FIGURES for part in figure.parts for plate in part(study)]
    assert {plate.key for plate in plates} >= {"fig_07_mig", "fig_09_reconstruction"}
    for plate in plates:
        if not plate.secondary and not isinstance(plate.picture, Path):
            drawn(plate)
