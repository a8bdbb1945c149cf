"""Pictures of thresholds, from arrays: the anneal test (Fig. 3) and the thresholds of factors (Fig. 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from deft_lightning.thresholds.crossing import Curve, smooth

MARK = "tab:red"


def anneal_figure(curve: Curve, limit: float, window: int, title: str) -> Figure:
    """Reconstruction, KL and beta of one anneal test over its steps, the crossing marked (Fig. 3)."""
    figure = Figure(figsize=(7, 6.5), layout="constrained")
    error, information, pressure = figure.subplots(3, 1, sharex=True)
    total = curve.crossing(limit, window)
    error.plot(curve.step, curve.reconstruction, color="0.8", lw=0.7)
    error.plot(curve.step, smooth(curve.reconstruction, curve.step, window), color="tab:blue")
    error.set_ylabel("reconstruction (nats)")
    for column in curve.kl_per_latent.T:
        information.plot(curve.step, smooth(column, curve.step, window), lw=0.8, alpha=0.7)
    information.plot(curve.step, smooth(curve.kl, curve.step, window), color="k", label="total")
    information.axhline(limit, color="0.5", ls=":", lw=0.8)
    information.set_yscale("symlog", linthresh=limit)  # the limit stands at the end of the linear part
    information.set_ylim(bottom=0)
    information.set_ylabel("KL (nats), total in black")
    pressure.plot(curve.step, curve.beta, color="tab:green")
    pressure.set_ylabel("beta")
    pressure.set_xlabel("iteration")
    for axes in (error, information, pressure):
        if total is not None:
            axes.axvline(curve.step[total], color=MARK, ls="--", lw=1)
    if total is None:
        found = f"KL never stays above {limit:g} nats"
    else:
        found = f"threshold beta = {curve.beta[total]:.3g} at iteration {curve.step[total]:,}"
        pressure.plot(curve.step[total], curve.beta[total], "o", color=MARK)
    error.set_title(f"Anneal test, {title}: {found}", fontsize=10)
    return figure


def factors_figure(
    factors: Mapping[str, Sequence[float | None]], pressures: Sequence[float] | None, title: str
) -> Figure:
    """A distribution of thresholds for each factor, with the pressures that should separate them (Fig. 6).

    `factors` holds one threshold for each subset; subsets in which KL never crossed are counted below the name.
    """
    figure = Figure(figsize=(1.8 + 1.3 * len(factors), 4.5), layout="constrained")
    axes = figure.add_subplot()
    labels = []
    for place, (name, values) in enumerate(factors.items(), start=1):
        found = np.array([value for value in values if value is not None])
        missing = len(values) - len(found)
        labels.append(f"{name}\n{missing} of {len(values)} never" if missing else name)
        if len(set(found)) > 1:  # a density needs two different values
            violin = axes.violinplot(found, [place], widths=0.8, showextrema=False)
            for body in violin["bodies"]:  # type: ignore[attr-defined]
                body.set_facecolor("tab:blue")
        spread = np.linspace(-0.12, 0.12, len(found)) if len(found) > 1 else np.zeros(len(found))
        axes.plot(place + spread, found, "o", color="tab:blue", ms=2.5, alpha=0.6)
        if len(found):
            axes.hlines(np.median(found), place - 0.3, place + 0.3, color="k", lw=1)
    for pressure in pressures or ():
        axes.axhline(pressure, color=MARK, lw=1)
        axes.annotate(f"{pressure:g}", (1.005, pressure), xycoords=("axes fraction", "data"), color=MARK, va="center")
    axes.set_xticks(range(1, len(factors) + 1), labels)
    axes.set_xlim(0.4, len(factors) + 0.6)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("information threshold (beta)")
    axes.set_title(title, fontsize=10)
    return figure
