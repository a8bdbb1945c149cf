"""Measures over training: Fig. 2 (leakage), Fig. 5 (gamma), Fig. 10 right (first latent), Fig. 12 (parts of the KL)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from deft_lightning.common.checks import is_number
from deft_lightning.common.pictures import mark_stages
from deft_lightning.report import paper
from deft_lightning.report.figures._common import QUIET, WIDTH, Plate, file_name, row_of_axes, step_axis
from deft_lightning.report.loading import Record, numbers
from deft_lightning.report.study import Study

CMAP = "viridis"
DECOMPOSED = ("AnnealedVAE", "DEFT", "beta-VAE")
"""The method of the paper's Fig. 12, and two to compare it with."""
NMI_KEYS = ("max1_nmi", "max2_nmi")


def leakage(study: Study) -> list[Plate]:
    """Fig. 2: loss, MIG, max-1 and max-2 NMI over training, for one beta-VAE on every data set."""
    plates: list[Plate] = []
    for label, run in _first_per_data(study, "beta-VAE", lambda r: len(_nmi(r)) > 1).items():
        caption = f"{label}, {_which(run)}"
        plates.append(Plate(f"fig_02_{file_name(label)}", partial(_leakage, run), caption, secondary=bool(plates)))
    return plates


def first_latent(study: Study) -> list[Plate]:
    """Fig. 10, right: NMI of the first latent with every factor, under piecewise pressures with one encoder group."""
    chosen = _first_per_data(study, paper.NORMAL_ENCODER, lambda r: len(_nmi(r, "first_latent")) > 1)
    plates = []
    for label, run in chosen.items():
        draw = partial(_first_latent, run)
        plates.append(Plate(f"fig_10_first_latent_{file_name(label)}", draw, f"{label}, {_which(run)}"))
    return plates


def decomposition(study: Study) -> list[Plate]:
    """Fig. 12: MI, TC and DWKL over training, one run for each method."""
    logged: dict[str, dict[str, Record]] = defaultdict(dict)
    for run in sorted(study.runs, key=_first):
        if len(run.history("kl_decomposition")) > 1:
            logged[study.label(run)].setdefault(run.method.label, run)
    plates: list[Plate] = []
    for label in dict.fromkeys(study.labels.values()):
        if not (runs := logged.get(label)):
            continue
        methods = [m for m in DECOMPOSED if m in runs] or paper.method_order(set(runs))[:1]
        caption = f"{label}; " + "; ".join(f"{paper.shown(m)}: {_which(runs[m], False)}" for m in methods)
        plates.append(
            Plate(
                f"fig_12_{file_name(label)}",
                partial(_decomposition, {m: runs[m] for m in methods}),
                caption,
                bool(plates),
            )
        )
    return plates


def gamma(study: Study) -> list[Plate]:
    """Fig. 5: max-1 and max-2 NMI by gamma, of runs that share their first stage; the mean over the runs of a gamma."""
    groups: dict[str, dict[float, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for run in study.runs:
        value = run.value("training", "groups", "gamma")
        if run.finished and run.name == paper.GAMMA_STUDY and is_number(value) and run.stages:
            groups[study.label(run)][value].append(run)
    plates = []
    for label, by_gamma in groups.items():
        gammas = sorted(by_gamma)
        runs = [run for g in gammas for run in by_gamma[g]]
        names = _names(numbers(run.stages[-1].get("max1_nmi")) for run in runs)
        if not names:
            continue
        matrices = [[[_mean(by_gamma[g], key, name) for name in names] for g in gammas] for key in NMI_KEYS]
        draw = partial(_gamma, np.array(matrices), gammas, names)
        plates.append(Plate(f"fig_05_{file_name(label)}", draw, f"{label}, {len(runs)} runs"))
    return plates


def _leakage(run: Record) -> Figure:
    rows = _nmi(run)
    steps = [step for step, _ in rows]
    figure = Figure(figsize=(WIDTH, 3.1), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True, width_ratios=(1, 1.25))
    colour = paper.colours([run.method.label])[run.method.label]
    for ax, key, title in zip(axes[:, 0], ("loss", "mig"), ("Loss (nats)", "MIG"), strict=True):
        points = [(step, row[key]) for step, row in rows if is_number(row.get(key))]
        ax.plot([p[0] for p in points], [p[1] for p in points], color=colour, marker=".", markersize=4, clip_on=False)
        ax.set_title(title)
        _mark_stages(ax, run)
    edges = np.concatenate([[max(0, 2 * steps[0] - steps[1])], steps])
    for ax, key, title in zip(axes[:, 1], ("max1", "max2"), ("max-1 NMI", "max-2 NMI"), strict=True):
        maps = [numbers(row.get(key)) for _, row in rows]
        names = _names(maps)
        matrix = np.array([[m.get(name, np.nan) for m in maps] for name in names])  # [K, steps]
        if names:
            image = ax.pcolormesh(edges, np.arange(len(names) + 1), matrix, vmin=0, vmax=1, cmap=CMAP)
            figure.colorbar(image, ax=ax, pad=0.01, aspect=12).outline.set_visible(False)
        ax.set_yticks(np.arange(len(names)) + 0.5, names)
        ax.invert_yaxis()
        ax.grid(visible=False)
        ax.set_title(title)
    for ax in axes[1]:
        step_axis(ax)
    return figure


def _mark_stages(ax: Axes, run: Record) -> None:
    boundaries = run.value("boundaries")
    mark_stages(ax, boundaries if isinstance(boundaries, list) else [])


def _first_latent(run: Record) -> Figure:
    figure, (ax,) = row_of_axes(1, 2.5, width=4.8)
    rows = _nmi(run, "first_latent")
    _lines(ax, rows, [numbers(row["first_latent"]) for _, row in rows])
    _mark_stages(ax, run)
    ax.set(ylim=(0, 1), ylabel="$I_n(z_0; v_k)$")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _decomposition(runs: dict[str, Record]) -> Figure:
    figure, axes = row_of_axes(len(runs), 2.1, 3, sharey=True, width=WIDTH if len(runs) > 1 else 4.8)
    for ax, (method, run) in zip(axes, runs.items(), strict=True):
        rows = run.history("kl_decomposition")
        parts = [numbers(row) for _, row in rows]
        _lines(ax, rows, [{n: p[n.lower()] for n in ("MI", "TC", "DWKL", "KL") if n.lower() in p} for p in parts])
        _mark_stages(ax, run)
        ax.set_title(paper.shown(method))
    axes[0].set_ylabel("nats")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _gamma(matrices: NDArray[np.float64], gammas: list[float], factors: list[str]) -> Figure:
    """`matrices` [2, gammas, factors]: max-1 and max-2 NMI."""
    figure, axes = row_of_axes(2, 0.9 + 0.3 * len(gammas), sharey=True)
    for ax, matrix, title in zip(axes, matrices, ("max-1 NMI", "max-2 NMI"), strict=True):
        sns.heatmap(
            matrix, vmin=0, vmax=1, cmap=CMAP, annot=True, fmt=".2f", annot_kws={"fontsize": 7}, cbar=False,
            xticklabels=factors, yticklabels=[f"{g:g}" for g in gammas], linewidths=0.8, ax=ax,
        )  # fmt: skip
        ax.set_title(title)
        ax.tick_params(length=0, rotation=0)
    axes[0].set_ylabel(r"$\gamma$")
    return figure


def _lines(ax: Axes, rows: list[tuple[int, Any]], series: list[dict[str, float]]) -> None:
    """One labelled line for each name, over the steps of `rows`."""
    steps = np.array([step for step, _ in rows])
    names = _names(series)
    for name, colour in zip(names, sns.color_palette("colorblind", len(names)), strict=True):
        values: NDArray[np.float64] = np.array([s.get(name, np.nan) for s in series])
        total = name == "KL"
        ax.plot(steps, values, color=QUIET if total else colour, linestyle="--" if total else "-", label=name)
    step_axis(ax)


def _first_per_data(study: Study, method: str, usable: Callable[[Record], bool]) -> dict[str, Record]:
    """One run of a method for every data set: the first usable one in the order of `_first`."""
    chosen: dict[str, Record] = {}
    for run in sorted(study.runs, key=_first):
        if run.method.label == method and usable(run):
            chosen.setdefault(study.label(run), run)
    return {label: chosen[label] for label in dict.fromkeys(study.labels.values()) if label in chosen}


def _first(run: Record) -> tuple[bool, bool, bool, int, str]:
    """The order of preference for an example: finished, an experiment for a figure, beta 6, lowest seed."""
    for_figure, as_paper = run.name.startswith("fig"), run.value("training", "schedule", "pressure") == 6
    return not run.finished, not for_figure, not as_paper, run.seed or 0, str(run.folder)


def _nmi(run: Record, key: str = "max1") -> list[tuple[int, dict[str, Any]]]:
    return [(step, row) for step, row in run.history("nmi") if numbers(row.get(key))]


def _names(maps: Iterable[dict[str, float]]) -> list[str]:
    return list(dict.fromkeys(name for m in maps for name in m))


def _mean(runs: list[Record], key: str, factor: str) -> float:
    values = [numbers(run.stages[-1].get(key)).get(factor, np.nan) for run in runs]
    return float(np.nanmean(values)) if np.isfinite(values).any() else np.nan


def _which(run: Record, method: bool = True) -> str:
    """Which run is shown, for a caption."""
    pressure = run.value("training", "schedule", "pressure")
    parts = [paper.shown(run.method.label)] if method else []
    parts += [f"β = {pressure:g}"] if is_number(pressure) else []
    return ", ".join([*parts, f"seed {run.seed}", *([] if run.finished else [run.status])])
