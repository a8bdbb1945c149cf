"""Information thresholds from thresholds.json: the anneal test (Fig. 3) and the thresholds of factors (Fig. 6)."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deft_lightning.common.checks import is_number
from deft_lightning.report import paper
from deft_lightning.report.figures._common import INK, QUIET, STYLE, Plate, file_name, row_of_axes, step_axis
from deft_lightning.report.figures._violins import violins
from deft_lightning.report.loading import THRESHOLDS, numbers
from deft_lightning.report.study import Study

RED, BLUE = "#b2182b", "#0072b2"
PANELS = {"beta": "β", "kl": "KL (nats)", "reconstruction": "Reconstruction (nats)"}
EIGENVALUES = "eigenvalues of the images"
LIMIT, WINDOW = 0.1, 100
"""Nats and steps, where a record has no settings."""


def anneal_tests(study: Study) -> list[Plate]:
    """Fig. 3: pressure, KL and reconstruction error during every anneal test."""
    plates: list[Plate] = []
    for record in study.thresholds:
        if record.text("kind") != "anneal":
            continue
        try:
            _curve(record.content)
        except ValueError as error:
            study.problems.append(f"{record.folder / THRESHOLDS} {error}: Fig. 3 leaves it out.")
            continue
        label = study.label(record)
        same = sum(plate.key.startswith(f"fig_03_{file_name(label)}") for plate in plates)
        key = f"fig_03_{file_name(label)}{f'_{same + 1}' if same else ''}"
        plates.append(Plate(key, partial(anneal_figure, record.content), f"{label}: {_outcome(record.content)}"))
    return plates


def factors(study: Study) -> list[Plate]:
    """Fig. 6: the thresholds of every factor, one axes for each measurement."""
    data = list(dict.fromkeys(study.labels.values()))
    records = [r for r in study.thresholds if r.text("kind") == "factors" and _by_factor(r.content)]
    named: dict[str, Mapping[str, Any]] = {}
    for record in sorted(records, key=lambda r: data.index(study.label(r))):
        label = study.label(record)
        same = sum(name.split(" · ")[0] == label for name in named)  # measured with other settings, or another seed
        named[f"{label} · {same + 1}" if same else label] = record.content
    return [Plate("fig_06_factors", partial(factors_figure, named))] if named else []


@mpl.rc_context(STYLE)
def anneal_figure(record: Mapping[str, Any], title: str = "") -> Figure:
    """Pressure, KL and reconstruction error of one anneal test over its steps, the crossing marked (Fig. 3).

    `record` is the content of a thresholds.json of kind "anneal". The KL is drawn in total, as recorded and smoothed,
    and smoothed for each latent; the eigenvalues of the images, where a collapsed model opens its latents, are lines at
    their pressures. `title` is followed by the threshold; without it there is no title. Raises
    `ValueError` when the record has no complete curve.
    """
    curve = _curve(record)
    limit, window = (_setting(record, name, default) for name, default in (("limit", LIMIT), ("window", WINDOW)))
    smooth = _smooth(curve, window)
    figure, axes = row_of_axes(3, 2.5 if title else 2.3, most=3, sharex=True)
    threshold = _threshold(record)
    for ax, (name, label) in zip(axes, PANELS.items(), strict=True):
        ax.plot(curve.index, curve[name], color="#c8c8c8", linewidth=0.8, label="as recorded")
        ax.set_title(label)
        step_axis(ax)
        if threshold:
            ax.axvline(threshold[0], color=RED, linewidth=1, linestyle=(0, (4, 3)), label="threshold")
    pressure, information, error = axes
    pressure.lines[0].set_color("#767676")
    information.plot(curve.index, smooth["kl"], color=INK, label="total", zorder=2.1)
    for latent in _latents(curve):
        information.plot(curve.index, smooth[latent], linewidth=0.7, alpha=0.8, label=None if latent else "each latent")
    information.axhline(limit, color=QUIET, linewidth=0.8, linestyle=":", label=f"limit, {limit:g} nats")
    for eigenvalue in _eigenvalues(record, float(curve["beta"].max())):
        pressure.axhline(eigenvalue, color=BLUE, linewidth=0.6, alpha=0.6, zorder=1.9, label=EIGENVALUES)
    information.set_yscale("symlog", linthresh=limit)  # linear up to the limit, logarithmic above
    information.set_ylim(bottom=0)
    handles, labels = information.get_legend_handles_labels()
    lines = [artist for artist in pressure.lines if artist.get_label() == EIGENVALUES][:1]
    figure.legend([*handles, *lines], [*labels, *[EIGENVALUES] * len(lines)], loc="outside lower center", ncols=6)
    error.plot(curve.index, smooth["reconstruction"], color="#d55e00")
    if threshold:
        pressure.plot(*[[x] for x in threshold], "o", color=RED, markersize=4)
        pressure.annotate(f"β = {threshold[1]:.3g}", threshold, (6, 6), textcoords="offset points", color=RED)
    if title:
        figure.suptitle(f"{title}: {_outcome(record)}", fontsize=9)
    return figure


@mpl.rc_context(STYLE)
def factors_figure(records: Mapping[str, Mapping[str, Any]]) -> Figure:
    """The distribution of thresholds of every factor, one axes for each of `records`, by title (Fig. 6).

    A record is the content of a thresholds.json of kind "factors". Each point is a subset; the subsets in which the KL
    never crossed the limit are counted on the right. Red lines are the pressures of Table 1, or for other data those
    of the record.
    """
    most = max(len(_by_factor(record)) for record in records.values())
    figure, axes = row_of_axes(len(records), 1.1 + 0.32 * most, most=2, width=7.4 if len(records) > 1 else 4.8)
    for ax, (title, record) in zip(axes, records.items(), strict=True):
        by_factor = _by_factor(record)
        crossed = {y: np.array([x for x in xs if is_number(x)], float) for y, xs in enumerate(by_factor.values())}
        samples = {y: values for y, values in crossed.items() if len(values)}
        violins(ax, samples, [BLUE] * len(samples))
        for y, xs in enumerate(by_factor.values()):
            if never := len(xs) - len(crossed[y]):
                ax.text(
                    1.01, y, f"{never} of {len(xs)}\nnever crossed", transform=ax.get_yaxis_transform(), va="center",
                    fontsize=6, color=QUIET,
                )  # fmt: skip
        ax.set_xlim(left=0)
        _mark_pressures(ax, _pressures(record))
        ax.set_yticks(range(len(by_factor)), list(by_factor))
        ax.set_ylim(len(by_factor) - 0.4, -0.6)
        ax.set_xlabel("information threshold (β)")
        ax.set_title(textwrap.fill(title, 48), pad=18)
        ax.grid(visible=False, axis="y")
    return figure


def _mark_pressures(ax: Axes, pressures: Sequence[float]) -> None:
    """A red line with its number for each pressure; numbers that are close together alternate in height."""
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


def _curve(record: Mapping[str, Any]) -> pd.DataFrame:
    """The first curve, by step: beta, reconstruction, kl, and the KL of each latent under its number.

    Raises `ValueError` when one of the first three is missing or of another length.
    """
    try:
        curve = record["curves"][0]
        frame = pd.DataFrame({name: np.array(curve[name], float) for name in ("step", *PANELS)})
        latents = np.array(curve.get("kl_per_latent", np.empty((len(frame), 0))), float)  # [n, D]
        frame = frame.join(pd.DataFrame(latents)).dropna(subset="step").sort_values("step").set_index("step")
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError("has no complete curve") from error
    if len(frame) < 2:
        raise ValueError("has a curve of fewer than two points")
    return frame


def _latents(curve: pd.DataFrame) -> list[Any]:
    return [column for column in curve.columns if column not in PANELS]


def _smooth(curve: pd.DataFrame, window: float) -> pd.DataFrame:
    """Averages over the points at most window / 2 steps before or after, as in the rule for thresholds."""
    steps = pd.to_timedelta(curve.index, unit="s")  # pandas has windows over an index only for times
    return curve.set_index(steps).rolling(pd.Timedelta(window, "s"), center=True, closed="both").mean()


def _eigenvalues(record: Mapping[str, Any], beta_high: float) -> list[float]:
    """The recorded eigenvalues that the test passes."""
    values = record.get("eigenvalues")
    return [x for x in values if is_number(x) and 1 <= x <= beta_high] if isinstance(values, list) else []


def _outcome(record: Mapping[str, Any]) -> str:
    threshold = _threshold(record)
    if threshold is None:
        return f"the KL never stays above {_setting(record, 'limit', LIMIT):g} nats, so there is no threshold"
    return f"threshold β = {threshold[1]:.3g} at step {threshold[0]:,.0f}"


def _setting(record: Mapping[str, Any], name: str, default: float) -> float:
    value = numbers(record.get("settings")).get(name, default)
    return value if value > 0 else default


def _threshold(record: Mapping[str, Any]) -> tuple[float, float] | None:
    """(step, pressure) of the crossing; None where there is none."""
    fields = numbers(record.get("threshold"))
    return (fields["step"], fields["pressure"]) if {"step", "pressure"} <= fields.keys() else None


def _by_factor(record: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Thresholds by factor; an entry that is not a number stands for a subset that never crossed the limit."""
    by_factor = record.get("factors")
    lists = by_factor.items() if isinstance(by_factor, Mapping) else ()
    return {name: thresholds for name, thresholds in lists if isinstance(thresholds, list) and thresholds}


def _pressures(record: Mapping[str, Any]) -> list[float]:
    """Those of Table 1; for other data those of the experiment."""
    data = record.get("data")
    published = paper.table_1().get(str(data.get("name")) if isinstance(data, Mapping) else "")
    pressures = published["pressures"] if published else record.get("pressures")
    return [x for x in pressures if is_number(x)] if isinstance(pressures, list) else []
