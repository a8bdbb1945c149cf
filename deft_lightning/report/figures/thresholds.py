"""Information thresholds from thresholds.json: the anneal test (Fig. 3) and thresholds of factors (Fig. 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from deft_lightning.report import paper
from deft_lightning.report.figures._common import Plate, file_name, row_of_axes
from deft_lightning.report.figures._violins import Array, violins
from deft_lightning.report.loading import Run, is_number
from deft_lightning.report.study import Study

RED = "#b2182b"


def anneal_tests(study: Study) -> list[Plate]:
    """Fig. 3: pressure, KL and reconstruction error over the anneal test, the crossing marked."""
    plates: list[Plate] = []
    for record in study.thresholds:
        curve = _curve(record)
        if record.text("kind") == "anneal" and len(curve["step"]) > 1:
            label = study.label(record)
            same = sum(p.key.startswith(f"fig_03_{file_name(label)}") for p in plates)
            key = f"fig_03_{file_name(label)}{f'_{same + 1}' if same else ''}"
            threshold = _threshold(record)
            says = f"β = {threshold[1]:.3g} at iteration {threshold[0]:,.0f}" if threshold else "not crossed"
            plates.append(Plate(key, partial(_draw_anneal_test, curve, threshold), f"{label}, threshold {says}"))
    return plates


def factors(study: Study) -> list[Plate]:
    """Fig. 6: the distribution of thresholds of every factor, the pressures of Table 1 drawn in; one a measurement."""
    data = list(dict.fromkeys(study.labels.values()))
    records = [r for r in study.thresholds if r.text("kind") == "factors" and _by_factor(r) and study.label(r) in data]
    found: dict[str, Run] = {}
    for record in sorted(records, key=lambda r: data.index(study.label(r))):
        label = study.label(record)
        same = sum(name.split(" · ")[0] == label for name in found)  # measured again: with other settings, or a seed
        found[f"{label} · {same + 1}" if same else label] = record
    if not found:
        return []
    thresholds = {name: _by_factor(record) for name, record in found.items()}
    pressures = {name: _pressures(record) for name, record in found.items()}
    return [Plate("fig_06_factors", partial(_draw_factors, thresholds, pressures))]


def _draw_anneal_test(curve: Mapping[str, Array], threshold: tuple[float, float] | None) -> Figure:
    shown = {"beta": "β", "kl": "KL (nats)", "reconstruction": "Reconstruction (nats)"}
    figure, axes = row_of_axes(3, 2.1, most=3, sharex=True)
    for ax, (name, title), colour in zip(axes, shown.items(), ("#767676", "#0072b2", "#d55e00"), strict=True):
        length = min(len(curve["step"]), len(curve[name]))
        ax.plot(curve["step"][:length], curve[name][:length], color=colour)
        ax.set_title(title)
        ax.set_xlabel("iteration")
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
        if threshold:
            ax.axvline(threshold[0], color=RED, linewidth=1, linestyle=(0, (4, 3)))
    if threshold:
        axes[0].plot(*[[x] for x in threshold], "o", color=RED, markersize=4)
        axes[0].annotate(f"β = {threshold[1]:.3g}", threshold, (6, 6), textcoords="offset points", color=RED)
    return figure


def _draw_factors(
    thresholds: Mapping[str, Mapping[str, list[float]]], pressures: Mapping[str, Sequence[float]]
) -> Figure:
    most = max(map(len, thresholds.values()))
    figure, axes = row_of_axes(len(thresholds), 1.0 + 0.3 * most, most=2, width=3.8 * min(len(thresholds), 2))
    for ax, (label, by_factor) in zip(axes, thresholds.items(), strict=True):
        violins(ax, {y: np.array(xs) for y, xs in enumerate(by_factor.values())}, ["#0072b2"] * len(by_factor))
        _mark_pressures(ax, pressures[label])
        ax.set_yticks(range(len(by_factor)), list(by_factor))
        ax.set_ylim(len(by_factor) - 0.4, -0.6)
        ax.set_xlabel("information threshold (β)")
        ax.set_title(label, pad=18)
        ax.grid(visible=False, axis="y")
    return figure


def _mark_pressures(ax: Axes, pressures: Sequence[float]) -> None:
    """A red line with its number for each; numbers too near each other stand on different heights."""
    low, high = ax.get_xlim()
    last, level = -np.inf, 0
    for pressure in sorted(pressures):
        near = pressure - last < 0.05 * (max(high, *pressures) - low)
        last, level = pressure, (level + 1) % 2 if near else 0
        ax.axvline(pressure, color=RED, linewidth=1, zorder=0.9)
        ax.annotate(
            f"{pressure:g}", (pressure, 1), (0, 2 + 7 * level), xycoords=ax.get_xaxis_transform(), color=RED,
            textcoords="offset points", fontsize=7, ha="center",
        )  # fmt: skip


def _curve(record: Run) -> dict[str, Array]:
    """step, beta, kl and reconstruction of the first curve; what is no number in them is NaN."""
    curves = record.value("curves")
    first = curves[0] if isinstance(curves, list) and curves and isinstance(curves[0], dict) else {}
    columns = {}
    for name in ("step", "beta", "kl", "reconstruction"):
        values = first.get(name)
        columns[name] = np.array([x if is_number(x) else np.nan for x in values or []], float)
    return columns


def _threshold(record: Run) -> tuple[float, float] | None:
    """(step, pressure) of the crossing."""
    step, pressure = record.value("threshold", "step"), record.value("threshold", "pressure")
    return (step, pressure) if is_number(step) and is_number(pressure) else None


def _by_factor(record: Run) -> dict[str, list[float]]:
    """The thresholds that were crossed, by factor."""
    lists = {name: xs for name, xs in record.mapping("factors").items() if isinstance(xs, list)}
    kept = {name: [x for x in xs if is_number(x)] for name, xs in lists.items()}
    return {name: xs for name, xs in kept.items() if xs}


def _pressures(record: Run) -> list[float]:
    """Those of Table 1, or of the experiment for other data."""
    recorded = record.value("pressures")
    ours = [x for x in recorded if is_number(x)] if isinstance(recorded, list) else []
    return list(paper.SETTINGS[record.dataset][2]) if record.dataset in paper.SETTINGS else ours
