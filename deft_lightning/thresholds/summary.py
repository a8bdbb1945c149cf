"""What the commands print at their end: one table each, the notices, and where the files are."""

from __future__ import annotations

from pathlib import Path
from string import ascii_lowercase

import numpy as np
import rich
from rich.table import Table

from deft_lightning.common.console import new_table
from deft_lightning.thresholds import record, rule


def anneal(folder: Path) -> None:
    """The thresholds of one anneal test: of the total KL and of each latent."""
    test = record.read(folder, "anneal")
    table = new_table("KL of", f"stays above {test['settings']['limit']:g} nats below beta")
    total = test["threshold"]
    table.add_row("all latents", "never" if total is None else f"{total['pressure']:.1f}")
    latents = [(pressure, j) for j, pressure in enumerate(test["latent_thresholds"]) if pressure is not None]
    for pressure, j in sorted(latents, reverse=True):
        table.add_row(f"z{j}", f"{pressure:.1f}")
    if closed := len(test["latent_thresholds"]) - len(latents):
        table.add_row(f"{closed} other latents", "never")
    predicted = ", ".join(f"{value:.1f}" for value in test.get("eigenvalues", []) if value >= 1)
    lines = [f"Eigenvalues of the images, where a collapsed model opens: {predicted}"] if predicted else []
    _print("Information thresholds", table, [*lines, *test["notices"]])
    rich.get_console().print(f"\nCurves and thresholds: {folder / record.FILE}")


def spectrum(folder: Path) -> None:
    """The eigenvalues, those that are alike, and the beta_high that follows from them."""
    content = record.read(folder, "spectrum")
    group = {number: place for place, numbers in enumerate(content["alike"]) for number in numbers}
    table = new_table("latent", "opens below beta", "alike")
    for number, eigenvalue in enumerate(content["eigenvalues"], start=1):
        table.add_row(str(number), f"{eigenvalue:.1f}", ascii_lowercase[group[number]] if number in group else "")
    _print(f"Spectrum of {content['data']['name']}", table, content["notices"])
    picture = folder / "figures" / "spectrum.png"
    rich.get_console().print(f"\nEigenvalues: {folder / record.FILE}\nPicture:     {picture}")


def factors(folder: Path) -> None:
    """The distribution of the thresholds of every factor."""
    measured = record.read(folder, "factors")
    table = new_table("factor", "images", "subsets", "never", "lowest", "quartile", "median", "quartile", "highest")
    for name, thresholds in measured["factors"].items():
        crossed = [value for value in thresholds if value is not None]
        quantiles = [f"{value:.1f}" for value in np.quantile(crossed, [0, 0.25, 0.5, 0.75, 1])] if crossed else []
        counts = (measured["images"][name], len(thresholds), thresholds.count(None))
        table.add_row(name, *map(str, counts), *quantiles)
    pressures = ", ".join(f"{value:g}" for value in measured["pressures"] or ())
    lines = [f"Pressures of the experiment: {pressures}"] if pressures else []
    _print("Information thresholds (beta) of single factors", table, [*lines, *measured["notices"]])
    picture = folder / "figures" / "factors.png"
    rich.get_console().print(f"\nThresholds: {folder / record.FILE}\nPicture:    {picture}")


def proposal(folder: Path) -> None:
    """The proposed stages, the evidence for them, and the options that train under them."""
    content = record.read(folder, "proposal")
    proposed = content["proposal"]
    table = new_table("stage", "pressure", "epochs", "steps", "thresholds", "latents above, by seed", "stable")
    stages = proposed["stages"]
    lengths = zip(proposed["epochs"], proposed["steps"], strict=True)
    for index, (stage, (epochs, steps)) in enumerate(zip(stages, lengths, strict=True), start=1):
        above = ", ".join(map(str, stage["latents_above"]))
        stable = "" if index == len(stages) else "yes" if stage["stable"] else "no"
        table.add_row(
            str(index), f"{stage['pressure']:g}", f"{epochs:g}", f"{steps:,}", rule.spread(stage), above, stable
        )
    title = f"Proposed schedule for {content['data']['name']}, from {len(content['seeds'])} seeds"
    _print(title, table, content["notices"])
    latents = ",".join(map(str, rule.groups_for(len(content["latent_thresholds"][0]), len(stages))))
    path = folder / record.FILE
    options = f"schedule=auto schedule.path={path} groups.latents=[{latents}]"
    rich.get_console().print(f"\nThresholds: {path}\nTo train under it: {options}", markup=False)


def _print(title: str, table: Table, lines: list[str]) -> None:
    console = rich.get_console()
    console.print(f"\n[bold]{title}[/]")
    console.print(table)
    for line in lines:
        console.print(line)
