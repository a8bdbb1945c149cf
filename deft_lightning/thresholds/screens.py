"""What the console says of thresholds: one table after each command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rich

from deft_lightning.common.console import new_table
from deft_lightning.thresholds import record, rule


def anneal(folder: Path) -> None:
    """The threshold of the whole data set and of every latent of one anneal test."""
    found = record.read(folder, "anneal")
    rows = new_table("KL of", f"stays above {found['settings']['limit']:g} nats below beta")
    total = found["threshold"]
    rows.add_row("all latents", "never" if total is None else f"{total['pressure']:.1f}")
    latents = [(pressure, j) for j, pressure in enumerate(found["latent_thresholds"]) if pressure is not None]
    for pressure, j in sorted(latents, reverse=True):
        rows.add_row(f"z{j}", f"{pressure:.1f}")
    if closed := len(found["latent_thresholds"]) - len(latents):
        rows.add_row(f"{closed} other latents", "never")
    console = rich.get_console()
    console.print("\n[bold]Information thresholds[/]")
    console.print(rows)
    for notice in found["notices"]:
        console.print(notice)
    console.print(f"\nCurves and thresholds: {folder / record.FILE}")


def factors(folder: Path) -> None:
    """The distribution of the thresholds of every factor."""
    found = record.read(folder, "factors")
    rows = new_table("factor", "images", "subsets", "never", "lowest", "quartile", "median", "quartile", "highest")
    for name, values in found["factors"].items():
        known = [value for value in values if value is not None]
        quantiles = [f"{value:.1f}" for value in np.quantile(known, [0, 0.25, 0.5, 0.75, 1])] if known else []
        rows.add_row(name, str(found["images"][name]), str(len(values)), str(values.count(None)), *quantiles)
    console = rich.get_console()
    console.print("\n[bold]Information thresholds (beta) of single factors[/]")
    console.print(rows)
    if found["pressures"]:
        console.print(f"Pressures of the experiment: {', '.join(f'{value:g}' for value in found['pressures'])}")
    for notice in found["notices"]:
        console.print(notice)
    console.print(f"\nThresholds: {folder / record.FILE}\nPicture:    {folder / 'figures' / 'factors.png'}")


def proposal(folder: Path) -> None:
    """The proposed stages, what speaks for them, and the command that runs them."""
    found = record.read(folder, "proposal")
    stages = found["proposal"]["stages"]
    rows = new_table("stage", "pressure", "epochs", "steps", "thresholds", "latents above, by seed", "stable")
    for index, (stage, epochs, steps) in enumerate(
        zip(stages, found["proposal"]["epochs"], found["proposal"]["steps"], strict=True), start=1
    ):
        above = ", ".join(map(str, stage["latents_above"]))
        stable = "" if index == len(stages) else "yes" if stage["stable"] else "no"
        rows.add_row(
            str(index), f"{stage['pressure']:g}", f"{epochs:g}", f"{steps:,}", rule.spread(stage), above, stable
        )
    console = rich.get_console()
    console.print(f"\n[bold]Proposed schedule for {found['data']['name']}, from {len(found['seeds'])} seeds[/]")
    console.print(rows)
    for notice in found["notices"]:
        console.print(notice)
    latents = rule.groups_for(len(found["latent_thresholds"][0]), len(stages))
    console.print(
        f"\nThresholds: {folder / record.FILE}\nTo train under it: schedule=auto schedule.path={folder / record.FILE} "
        f"groups.latents={latents}".replace("'", "").replace(", ", ","),
        markup=False,
    )
