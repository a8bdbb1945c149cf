"""What the console says of thresholds: one table after each command."""

from __future__ import annotations

from pathlib import Path

import rich

from deft_lightning.screens import new_table
from deft_lightning.thresholds import file


def anneal(folder: Path) -> None:
    """The threshold of the whole data set and of every latent of one anneal test."""
    found = file.read(folder, "anneal")
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
    console.print(f"\nCurves and thresholds: {folder / file.FILE}")
