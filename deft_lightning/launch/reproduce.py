"""`make reproduce`: what every table and figure of the paper costs on this machine, and the runs of one of them.

python -m deft_lightning.launch.reproduce --row table2_dsprites --scale quick --seeds 3 --methods deft,beta_vae

A row is one sweep for each method, with equal numbers of steps and as many jobs at once as there are cores. Called
again with the same arguments it resumes them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import rich
import yaml

from deft_lightning.common.conf import config_folder
from deft_lightning.common.console import new_table, run_command
from deft_lightning.common.errors import DeftError
from deft_lightning.report.paper import table_1

BATCH = 64
STEPS_PER_EPOCH = {"dsprites": 11_520, "color_dsprites": 11_520, "scream_dsprites": 11_520, "smallnorb": 759}
CHANNELS = {"color_dsprites": 3, "scream_dsprites": 3}
METHODS = ("deft", "beta_vae", "annealed_vae", "factor_vae", "dip_vae_i", "dip_vae_ii", "beta_tcvae")
"""The methods of Table 2, by the names of their experiments."""
SECONDS = 20.0
"""How long the speed of this machine is measured."""


@dataclass(frozen=True)
class Row:
    """A table or figure of the paper.

    Attributes:
        shows: what it is.
        data: the data set.
        experiments: for each sweep, its experiment and further overrides; empty for the methods that the user chooses.
        runs_per_seed: of all experiments together.
        grouped: how many of these have several encoder groups, whose steps take longer.
        epochs: of a run, on average; those of Table 1 where it is None.
    """

    shows: str
    data: str
    experiments: tuple[tuple[str, ...], ...] = ()
    runs_per_seed: int = 1
    grouped: int = 0
    epochs: float | None = None

    @property
    def steps(self) -> int:
        """Steps of a run at paper scale."""
        epochs = sum(table_1()[self.data]["epochs"]) if self.epochs is None else self.epochs
        return round(epochs * STEPS_PER_EPOCH[self.data])


ROWS = {
    **{f"table2_{name.removesuffix('_dsprites')}": Row(f"Table 2, {name}", name) for name in STEPS_PER_EPOCH},
    "fig2": Row("leakage in a beta-VAE", "dsprites", (("fig2_leakage",),)),
    "fig5": Row(  # two epochs for each gamma, and two that they share
        "the effect of gamma", "dsprites", (("fig5_gamma",),), runs_per_seed=6, grouped=6, epochs=2 + 2 / 6
    ),
    "fig10": Row("DEFT's pressures, 1 encoder", "dsprites", (("fig10_normal_encoder",),)),
    "fig11": Row("constant pressure, groups", "dsprites", (("fig11_constant_pressure",),), runs_per_seed=2, grouped=1),
    "fig12": Row("AnnealedVAE's KL in parts", "dsprites", (("fig12_annealed_decomposition", "schedule.epochs=23"),)),
    "fig13": Row("DEFT (TC)", "dsprites", (("fig13_deft_tc",),), runs_per_seed=3, grouped=2),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status, 1 where a job did not finish."""
    parser = argparse.ArgumentParser(prog="python -m deft_lightning.launch.reproduce", description=__doc__)
    parser.add_argument("--row", default="table2_dsprites", help=", ".join(ROWS))
    parser.add_argument("--scale", default="quick", choices=("smoke", "quick", "paper"))
    parser.add_argument("--seeds", type=int, default=3, help="runs of each method")
    parser.add_argument("--methods", default="deft,beta_vae", help=f"of Table 2: all, or some of {', '.join(METHODS)}")
    parser.add_argument("--cost", action="store_true", help="print what the rows cost, run nothing")
    options = parser.parse_args(arguments)
    return run_command(lambda: _reproduce(options))


def _reproduce(options: argparse.Namespace) -> int:
    methods = METHODS if options.methods == "all" else tuple(options.methods.split(","))
    if options.row not in ROWS:
        raise DeftError(f"ROW is {options.row!r}: choose one of {', '.join(ROWS)}.")
    if options.seeds < 1:
        raise DeftError(f"SEEDS is {options.seeds}: give 1 or more.")
    if wrong := [method for method in methods if method not in METHODS]:
        raise DeftError(f"METHODS holds {wrong[0]!r}: give all, or some of {', '.join(METHODS)}.")
    fraction = yaml.safe_load((config_folder() / "scale" / f"{options.scale}.yaml").read_text())["fraction"]
    print(f"Measuring the speed of this machine for {SECONDS:.0f} s.", flush=True)
    rates = measure(SECONDS)
    table = new_table("row", "shows", "runs", "steps", "hours here")
    for name, row in ROWS.items():
        runs = options.seeds * (row.runs_per_seed if row.experiments else len(methods))
        steps = max(1, round(row.steps * fraction))
        cost = hours(row, methods, options.seeds, steps, rates)
        marked = "[bold]" if name == options.row else ""
        table.add_row(f"{marked}{name}", row.shows, str(runs), f"{steps:,}", f"{cost:,.1f}")
    screen = rich.get_console()
    screen.print(table)
    screen.print("Training alone; scores and the slower steps of some baselines add a tenth or more.")
    if options.cost:
        return 0
    failed = 0
    for command in commands(options.row, options.scale, options.seeds, methods):
        print(" ".join(command), flush=True)
        failed += subprocess.run([sys.executable, *command[1:]], check=False).returncode != 0
    print(f"make report RUNS=multirun_outputs puts the runs on one page; those of this row begin with {options.row}_.")
    return int(failed > 0)


def commands(row: str, scale: str, seeds: int, methods: Sequence[str]) -> list[list[str]]:
    """The command of every sweep of a row; one that was begun is resumed."""
    chosen = ROWS[row]
    sweeps = chosen.experiments
    if not sweeps:
        epochs = sum(table_1()[chosen.data]["epochs"])
        data = f"data={chosen.data}"
        # Baselines train for as many steps as DEFT.
        sweeps = tuple((m, data) if m == "deft" else (m, data, f"schedule.epochs={epochs}") for m in methods)
    result = []
    for experiment, *overrides in sweeps:
        name = f"{row}_{scale}_{experiment}_{seeds}"
        resume = Path("multirun_outputs", name, "multirun.yaml").exists()
        result.append(
            [
                *("python", "-m", "deft_lightning", "--multirun", f"+experiment={experiment}", *overrides),
                *(f"scale={scale}", f"seed=range({seeds})", "logger=csv"),
                *("hydra/launcher=processes", "hydra.launcher.n_jobs=auto"),
                *(f"sweep.name={name}", f"sweep.resume={str(resume).lower()}"),
            ]
        )
    return result


def hours(row: Row, methods: Sequence[str], seeds: int, steps: int, rates: dict[tuple[str, int], float]) -> float:
    """Hours of training for all runs of a row, from images per second by (kind of model, channels)."""
    channels = CHANNELS.get(row.data, 1)
    runs, grouped = (row.runs_per_seed, row.grouped) if row.experiments else (len(methods), methods.count("deft"))
    per_image = grouped / rates["groups", channels] + (runs - grouped) / rates["single", channels]
    return seeds * steps * BATCH * per_image / 3600


def measure(seconds: float) -> dict[tuple[str, int], float]:
    """Images per second of training steps here, by (groups or single, channels of the images)."""
    import torch  # noqa: PLC0415

    from deft_lightning import DEFT, BetaVAE, Constant, Groups  # noqa: PLC0415
    from deft_lightning.common import memory, subnormals  # noqa: PLC0415

    device = "cuda" if torch.cuda.is_available() else "cpu"
    memory.retain_freed()
    rates = {}
    with subnormals.flushed():
        for channels in (1, 3):
            images = (torch.rand(BATCH, channels, 64, 64, device=device) < 0.05).float()
            images = images.contiguous(memory_format=torch.channels_last)
            for kind, latents in (("groups", (3, 3, 2, 2)), ("single", (10,))):
                shape = (channels, 64, 64)
                model = DEFT(Groups(latents), Constant(pressure=6, steps=1), BetaVAE(), image_shape=shape).to(device)
                optimizer = model.configure_optimizers()
                pressure = torch.tensor(6.0, device=device)
                taken, begin = -3, time.perf_counter()
                while taken <= 0 or time.perf_counter() - begin < seconds / 4:
                    noise = torch.randn(BATCH, 10, device=device)
                    optimizer.zero_grad()
                    model.compute_loss(images, noise, pressure).total.backward()
                    optimizer.step()
                    taken += 1
                    if taken == 0:  # the first steps are slower
                        begin = time.perf_counter()
                if device == "cuda":
                    torch.cuda.synchronize()
                rates[kind, channels] = taken * BATCH / (time.perf_counter() - begin)
    return rates


if __name__ == "__main__":
    sys.exit(main())
