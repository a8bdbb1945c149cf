"""What a run prints: its settings before the training, its scores and the path of its summary picture after it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import rich
from omegaconf import DictConfig
from rich.table import Table

from deft_lightning.common.console import new_table
from deft_lightning.data.datamodule import FactorDataModule
from deft_lightning.model.module import DEFT
from deft_lightning.training import summary_picture


def start(
    cfg: DictConfig,
    module: DEFT,
    data: FactorDataModule,
    trainer: pl.Trainer,
    folder: Path,
    first_step: int,
) -> None:
    """Print what will run: data, groups, stages with their pressures and steps, device, run folder."""
    if not trainer.is_global_zero:
        return
    groups, dataset = module.groups, data.dataset
    held_out = "" if data.split is None else f", {len(data.split.held_out):,} held out"
    provenance = ", ".join(f"{key} {value}" for key, value in dataset.provenance.items())
    table = Table.grid(padding=(0, 2))
    table.add_row("run", f"[bold]{cfg.name}[/], seed {cfg.seed}, scale {cfg.scale.name}")
    images = f"{len(dataset):,} images {'x'.join(map(str, dataset.shape))}{held_out}"
    table.add_row("data", f"{dataset.name} ({provenance}): {images}")
    table.add_row("factors", ", ".join(dataset.factor_names) or "no labels")
    table.add_row("groups", f"{len(groups)}, latents {list(groups.latents)}, gamma {groups.gamma:g}")
    table.add_row("objective", module.objective.label)
    table.add_row("learning", f"{type(module.optimizer).__name__}, lr {module.lr:g}, batch {cfg.batch_size}")
    table.add_row("device", f"{trainer.strategy.root_device}, {trainer.world_size} process(es)")
    table.add_row("folder", str(folder))
    if first_step:
        table.add_row("continues", f"at step {first_step:,} of {module.timeline.boundaries[-1]:,}")
    stages = new_table("stage", module.schedule.quantity, "steps", "ends at", "active group")
    begin = 0
    for index, end in enumerate(module.timeline.boundaries):
        pressure = ("at most " if module.schedule.falls else "") + f"{module.timeline.at(begin).pressure:g}"
        active = groups.active(index) + 1
        stages.add_row(str(index + 1), pressure, f"{end - begin:,}", f"{end:,}", str(active))
        begin = end
    console = rich.get_console()
    console.print(table)
    console.print(stages)


def end(outcome: dict[str, Any], folder: Path) -> None:
    """Print the scores of every stage and where the pictures are; draw the summary picture, whose path comes last."""
    stages = {name: stage for name, stage in outcome.get("stages", {}).items() if "scores" in stage}
    names = list(dict.fromkeys(name for stage in stages.values() for name in stage["scores"]))
    factors = outcome.get("data", {}).get("factors", [])
    scores = new_table("stage", "pressure", "step", *names)
    gaps = new_table("stage", *factors)
    for key, stage in stages.items():
        number = key.removeprefix("stage_")  # a run that starts from another has no first ones
        values = [f"{stage['scores'][name]:.3f}" if name in stage["scores"] else "" for name in names]
        scores.add_row(number, f"{stage['pressure']:g}", f"{stage['step']:,}", *values)
        if "max1_nmi" in stage:
            gaps.add_row(number, *(f"{stage['max1_nmi'][f] - stage['max2_nmi'][f]:.2f}" for f in factors))
    console = rich.get_console()
    if scores.row_count:
        held_out = any(stage.get("scored_on") == "held-out images" for stage in stages.values())
        console.print(f"\n[bold]Scores at the end of every stage{', of held-out images' if held_out else ''}[/]")
        console.print(scores)
    if gaps.row_count:
        console.print("\n[bold]Max-1 minus max-2 NMI of every factor[/]")
        console.print(gaps)
    console.print(f"\nPictures: {folder / 'figures'}\nNumbers:  {folder / 'results.json'}, {folder / 'metrics.csv'}")
    console.print(f"Summary:  {summary_picture.draw(folder, outcome)}")
