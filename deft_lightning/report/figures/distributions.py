"""Distributions of scores, as violins with a point for every run: Figs. 1, 7, 8, 9, 10 (left), 11 and 13."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deft_lightning.common.checks import is_number
from deft_lightning.common.method import PAPER
from deft_lightning.report import paper
from deft_lightning.report.figures._common import QUIET, Plate, file_name, row_of_axes, title
from deft_lightning.report.figures._violins import SPREAD, jitter, violins
from deft_lightning.report.loading import Record, numbers
from deft_lightning.report.study import Study
from deft_lightning.report.swept import as_text

Cells = Mapping[tuple[str, str], pd.Series]


def baselines(study: Study) -> list[Plate]:
    """Fig. 1: MIG of every method except DEFT, at its best swept value."""
    cells = _without_ablations(study, "mig")
    return _plate("fig_01_baselines", {k: v for k, v in cells.items() if not study.methods[k[1]].is_deft}, "mig")


def scores(study: Study) -> list[Plate]:
    """Fig. 7: every score except the reconstruction error, per method and data set, at the best swept value."""
    plates = []
    for score in study.scores:
        if score == "reconstruction":
            continue
        for plate in _plate(f"fig_07_{file_name(score)}", _without_ablations(study, score), score):
            plate.caption, plate.secondary = paper.score_label(score), score not in paper.MAIN_SCORES
            plates.append(plate)
    return plates


def reconstruction(study: Study) -> list[Plate]:
    """Fig. 9: reconstruction error, one plate for each likelihood; every data set has a separate range."""
    cells = _without_ablations(study, "reconstruction")
    plates = []
    for likelihood in dict.fromkeys([PAPER, *sorted({study.methods[m].likelihood for _, m in cells})]):
        same = {(d, m): x for (d, m), x in cells.items() if study.methods[m].likelihood == likelihood}
        key = "fig_09_reconstruction" + ("" if likelihood == PAPER else f"_{file_name(likelihood)}")
        plates += _plate(key, same, "reconstruction")
    return plates


def variants(study: Study) -> list[Plate]:
    """Fig. 13: MIG of beta-VAE, DEFT and DEFT (TC), on data sets with runs of DEFT (TC)."""
    cells = study.cells("mig")
    shown = [d for d, m in cells if m == "DEFT (TC)"]
    three = ("beta-VAE", "DEFT", "DEFT (TC)")
    return _plate("fig_13_deft_tc", {(d, m): v for (d, m), v in cells.items() if d in shown and m in three}, "mig")


def constant_pressure(study: Study) -> list[Plate]:
    """Fig. 11: beta-VAE with one encoder group and with several, under the same constant pressure."""
    several = [
        label
        for label, method in study.methods.items()
        if method.is_ablation and method.objective == "beta-VAE" and method.stages == 1
    ]
    frame = study.compared
    if not several or "mig" not in frame:
        return []
    settings = {i: (frame.at[i, "data"], study.runs[i].mapping("training", "schedule")) for i in frame.index}
    rows = frame[frame["method"].isin(several)]
    used = [settings[i] for i in rows.index]
    single = frame[frame["method"] == "beta-VAE"]
    same = [i for i in single.index if settings[i] in used]
    both = pd.concat([single.loc[same], rows]).dropna(subset="mig")
    cells = dict(iter(both.groupby(["data", "method"])["mig"]))
    return _plate("fig_11_constant_pressure", cells, "mig")


def stages(study: Study) -> list[Plate]:
    """Fig. 8: MIG of DEFT at the end of every stage."""
    return _by_stage("fig_08_stages", study, "DEFT")


def normal_encoder(study: Study) -> list[Plate]:
    """Fig. 10, left: MIG at the end of every stage under piecewise pressures with one encoder group."""
    return _by_stage("fig_10_stages", study, paper.NORMAL_ENCODER)


def _without_ablations(study: Study, score: str) -> Cells:
    return {k: v for k, v in study.cells(score).items() if not study.methods[k[1]].is_ablation}


def _plate(key: str, cells: Cells, score: str) -> list[Plate]:
    """One violin for each method, one axes for each data set; no plate where there are no values."""
    if not cells:
        return []
    data = list(dict.fromkeys(d for d, _ in cells))
    methods = paper.method_order({m for _, m in cells})
    return [Plate(key, partial(_draw, cells, score, data, methods))]


def _draw(cells: Cells, score: str, data: Sequence[str], methods: Sequence[str]) -> Figure:
    in_nats = score in ("reconstruction", "kl", "total_correlation")  # the range depends on the images
    figure, axes = row_of_axes(
        len(data), 0.85 + 0.27 * len(methods), sharey=True, sharex=not in_nats, width=2.6 + 1.6 * min(len(data), 3)
    )
    for ax, label in zip(axes, data, strict=True):
        _violins(ax, {m: cells[label, m] for m in methods if (label, m) in cells}, methods)
        ax.set_title(title(label))
        ax.set_xlabel(paper.score_label(score))
        if score == "mig":
            ax.set_xlim(left=0)
            ax.axvline(paper.FAILED_BELOW, color=QUIET, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0.9)
    return figure


def _violins(ax: Axes, samples: Mapping[str, pd.Series], methods: Sequence[str]) -> None:
    colours = paper.colours(list(methods))
    rows = {y: (samples[m].to_numpy(), colours[m]) for y, m in enumerate(methods) if m in samples}
    violins(ax, {y: values for y, (values, _) in rows.items()}, [colour for _, colour in rows.values()])
    ax.set_yticks(range(len(methods)), [paper.shown(m) for m in methods])
    ax.set_ylim(len(methods) - 0.4, -0.6)
    ax.tick_params(axis="y", left=False)
    ax.grid(visible=False, axis="y")
    counts = {y: len(values) for y, (values, _) in rows.items()}
    small: dict[str, Any] = {"fontsize": 6, "color": QUIET}
    if len(set(counts.values())) == 1:  # one text for all: text takes most of the drawing time
        ax.text(1, 1.01, f"n = {next(iter(counts.values()))}", transform=ax.transAxes, ha="right", **small)
    else:
        for y, count in counts.items():
            ax.text(1.01, y, str(count), transform=ax.get_yaxis_transform(), va="center", **small)


def _by_stage(key: str, study: Study, method: str) -> list[Plate]:
    """MIG at the end of every stage, one axes for each data set; a line joins the stages of one run."""
    rows = study.compared
    runs: dict[str, list[Record]] = {}
    for i in rows.index[rows["method"] == method] if len(rows) else []:
        run = study.runs[i]
        if max(run.numbered_stages, default=0) > 1 and all("mig" in numbers(s.get("scores")) for s in run.stages):
            runs.setdefault(study.label(run), []).append(run)
    if not runs:
        return []
    return [Plate(key, partial(_draw_stages, {d: runs[d] for d in study.data if d in runs}, method))]


def _draw_stages(runs: Mapping[str, list[Record]], method: str) -> Figure:
    colour = paper.colours([method])[method]
    figure, axes = row_of_axes(len(runs), 2.4, sharey=True, width=1.0 + 1.6 * max(min(len(runs), 4), 2))
    for ax, (label, members) in zip(axes, runs.items(), strict=True):
        curves = [{n: numbers(s["scores"])["mig"] for n, s in run.numbered_stages.items()} for run in members]
        stages = sorted(set().union(*curves))
        there = {n: [i for i, curve in enumerate(curves) if n in curve] for n in stages}  # a run may begin later
        places = {n: dict(zip(there[n], n + SPREAD * jitter(len(there[n])), strict=True)) for n in stages}
        for i, curve in enumerate(curves):  # through the run's points
            ax.plot([places[n][i] for n in curve], list(curve.values()), color=colour, linewidth=0.5, alpha=0.35)
        samples = {n: np.array([curves[i][n] for i in there[n]]) for n in stages}
        violins(ax, samples, [colour] * len(stages), upright=True)
        ax.set_xticks(stages, [_pressures(members, n) for n in stages])
        ax.axhline(paper.FAILED_BELOW, color=QUIET, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0.9)
        ax.set_title(title(label))
        fewest, most = (extreme(map(len, there.values())) for extreme in (min, max))
        ax.set_xlabel(f"stage (pressure)   n = {fewest if fewest == most else f'{fewest} to {most}'}")
        ax.grid(visible=False, axis="x")
    axes[0].set_ylabel("MIG")
    return figure


def _pressures(runs: list[Record], stage: int) -> str:
    """The label of a stage, with its pressure where that is the same in all runs."""
    pressures = [run.numbered_stages[stage].get("pressure") for run in runs if stage in run.numbered_stages]
    same = len(set(map(as_text, pressures))) == 1 and is_number(pressures[0])
    return f"{stage}\n({pressures[0]:g})" if same else str(stage)
