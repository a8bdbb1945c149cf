"""How fast a population of small anneal tests trains on this machine, compared with one test at a time.

    python benchmarks/thresholds_population.py [--device cpu] [--members 16] [--seconds 120] [--data dsprites]

For every size of subset (by default those of dSprites: 3 values of shape, 6 of scale, 32 of a position, 40 of
orientation) the same subsets are trained in five ways. A batch is the whole subset.

    population  as the command `factors` trains them: all members together, divided among the cores
    stacked     all members in one population on all cores
    vmap        stacked parameters through torch.func.vmap over the module: another way to train members together
    bare        one member, its module in a bare PyTorch loop
    trainer     one member through the Lightning trainer with the callbacks of an anneal test

The loops take turns, so that a machine that slows down slows all of them. Rates count the steps of every member. The
speed of a large matrix product is measured in the same turns: relative to what the trainer reaches, it bounds the gain
of any other way to run the same arithmetic (last column). Run nothing else at the same time.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.func import functional_call, vmap
from torch.utils.flop_counter import FlopCounterMode

from deft_lightning import DEFT, BetaVAE, FactorDataModule, Groups
from deft_lightning.common import console, memory
from deft_lightning.data import load
from deft_lightning.data.base import FactorDataset
from deft_lightning.model.schedules.anneal import Anneal
from deft_lightning.thresholds import AnnealRecorder
from deft_lightning.thresholds.population import Population
from deft_lightning.thresholds.populations import anneal, divide
from deft_lightning.thresholds.subsets import Subset, varying
from deft_lightning.training import callbacks
from deft_lightning.training.loggers import ResumableCSVLogger

LR, SCHEDULE = 5e-4, Anneal(200, 1_000_000)
STEPS = 10  # of a population in its turn


def modules(dataset: FactorDataset, members: int) -> list[DEFT]:
    """New beta-VAEs with seeds from 0 up."""
    return [
        DEFT(Groups([10]), SCHEDULE, BetaVAE(), image_shape=dataset.shape, lr=LR, seed=seed, steps_per_epoch=1)
        for seed in range(members)
    ]


def subsets(dataset: FactorDataset, factor: str, members: int) -> list[FactorDataModule]:
    """One subset for each member, in which `factor` varies, evenly spread over the data set."""
    assert dataset.space is not None
    data = []
    for seed in range(members):
        indices = varying(dataset.space, seed * len(dataset) // members, factor)
        data.append(FactorDataModule(Subset(dataset, indices), len(indices), seed))
    return data


def population_loop(dataset: FactorDataset, factor: str, members: int, device: str) -> Callable[[], int]:
    """Takes some steps of all members as the command does; returns their number, summed over members."""
    populations = divide(modules(dataset, members), subsets(dataset, factor, members), device)

    def steps() -> int:
        end = populations[0].step_count + STEPS
        anneal(populations, end, lambda _: None)
        return STEPS * members

    return steps


def stacked_loop(dataset: FactorDataset, factor: str, members: int, device: str) -> Callable[[], int]:
    """Takes one step of all members; returns their number."""
    population = Population(modules(dataset, members), subsets(dataset, factor, members), device)

    def step() -> int:
        population.step()
        return members

    return step


def matrix_loop(device: str) -> Callable[[], int]:
    """Multiplies two matrices; returns the number of floating-point operations."""
    a, b = torch.randn(2, 1536, 1536, device=device)

    def product() -> int:
        torch.mm(a, b)
        return 2 * 1536**3

    return product


def operations(dataset: FactorDataset, images: int) -> int:
    """Floating-point operations of one step of one member, forward and backward."""
    module = modules(dataset, 1)[0]
    with FlopCounterMode(display=False) as counter:
        noise = torch.randn(images, sum(module.groups.latents))
        module.compute_loss(torch.rand(images, *dataset.shape), noise, torch.tensor(1.0)).total.backward()
    return counter.get_total_flops()


def vmap_loop(dataset: FactorDataset, factor: str, members: int, device: str) -> Callable[[], int]:
    """Takes one step of all members with the forward of the module, vectorised by torch.func; returns their number."""
    population = Population(modules(dataset, members), subsets(dataset, factor, members), device)
    module = modules(dataset, 1)[0].to(device)

    def loss(parameters: dict[str, Tensor], images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        posterior, _, output = functional_call(module, parameters, (images, noise))
        return module.likelihood.nll(output, images), posterior.kl().mean(dim=0)

    def forward(images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        return vmap(loss)(population.stacked, images, noise)

    population.evaluate = forward  # type: ignore[method-assign,assignment]

    def step() -> int:
        population.step()
        return members

    return step


def bare_loop(dataset: FactorDataset, factor: str, device: str) -> Callable[[], int]:
    """Takes one step of one member; returns 1."""
    population = Population(modules(dataset, 1), subsets(dataset, factor, 1), device)
    module = modules(dataset, 1)[0].to(device)
    optimizer = torch.optim.Adam(module.parameters(), lr=LR, fused=device in ("cpu", "cuda"))

    def step() -> int:
        images, noise, pressure = population.draw()
        optimizer.zero_grad()
        shaped = images[0].contiguous(memory_format=torch.channels_last)
        module.compute_loss(shaped, noise[0], torch.tensor(pressure, device=device)).total.backward()
        optimizer.step()
        population.step_count += 1
        return 1

    return step


class Turns(pl.Callback):
    """Times the trainer in blocks of steps, and the other loops between two blocks."""

    BLOCK = 50

    def __init__(self, loops: dict[str, Callable[[], int]], seconds: float) -> None:
        self.loops, self._begin = loops, time.perf_counter()
        self.end = self._begin + seconds
        self.steps = dict.fromkeys(["trainer", *loops], 0)
        self.seconds = dict.fromkeys(["trainer", *loops], 0.0)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:  # type: ignore[no-untyped-def]
        """At the end of a block, time the other loops; the first block is a warm-up and not counted."""
        if trainer.global_step % self.BLOCK:
            return
        if trainer.global_step > self.BLOCK:
            self._count("trainer", self.BLOCK, time.perf_counter() - self._begin)
        for name, step in self.loops.items():
            begin, steps = time.perf_counter(), 0
            while time.perf_counter() - begin < 1.0:
                steps += step()
            if pl_module.device.type == "cuda":
                torch.cuda.synchronize()
            self._count(name, steps, time.perf_counter() - begin)
        trainer.should_stop = time.perf_counter() > self.end
        self._begin = time.perf_counter()

    def _count(self, name: str, steps: int, seconds: float) -> None:
        self.steps[name] += steps
        self.seconds[name] += seconds

    def rate(self, name: str) -> float:
        """Steps per second of one loop."""
        return self.steps[name] / self.seconds[name] if self.seconds[name] else float("nan")


def measure(dataset: FactorDataset, factor: str, accelerator: str, turns: Turns) -> None:
    """Train one subset as the anneal test does until the time is over."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "checkpoints").mkdir()
        trainer = pl.Trainer(
            accelerator=accelerator,
            devices=1,
            max_steps=SCHEDULE.length,
            max_epochs=-1,
            default_root_dir=folder,
            log_every_n_steps=10,
            logger=[ResumableCSVLogger(folder)],
            callbacks=[
                callbacks.FiniteLoss(),
                AnnealRecorder(),
                callbacks.RunResults(),
                callbacks.Checkpoints(),
                callbacks.RunProgress(),
                turns,
            ],
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(modules(dataset, 1)[0], subsets(dataset, factor, 1)[0])


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--members", type=int, default=16, help="subsets trained together")
    parser.add_argument("--seconds", type=float, default=120, help="time to measure, for all sizes together")
    parser.add_argument("--data", default="dsprites", help="a data set with a full grid of factors")
    parser.add_argument("--factors", nargs="*", help="the factors that vary (default: one of every size)")
    options = parser.parse_args()
    console.quieten()
    if options.device == "cpu":
        memory.retain_freed()  # as the commands do
    dataset = load(options.data)
    assert dataset.space is not None
    sizes = dict(zip(dataset.space.factor_sizes, dataset.space.factor_names, strict=True))  # a factor of every size
    factors = options.factors or [sizes[size] for size in sorted(sizes)]
    rows = []
    for factor in factors:
        loops = {
            "population": population_loop(dataset, factor, options.members, options.device),
            "stacked": stacked_loop(dataset, factor, options.members, options.device),
            "vmap": vmap_loop(dataset, factor, options.members, options.device),
            "bare": bare_loop(dataset, factor, options.device),
            "matrix": matrix_loop(options.device),
        }
        for step in loops.values():
            step()  # warm up
        turns = Turns(loops, options.seconds / len(factors))
        measure(dataset, factor, {"cuda": "gpu"}.get(options.device, options.device), turns)
        rows.append((factor, dataset.space.sizes[dataset.space.names.index(factor)], turns))
    ways = ("population", "stacked", "vmap", "bare", "trainer")
    print(f"\nanneal-test steps/s, {options.members} subsets together, {torch.get_num_threads()} threads")
    print(f"factor        images  {'  '.join(f'{way:>10s}' for way in ways)}  population/trainer  matrix/trainer")
    for factor, images, turns in rows:
        rates = "  ".join(f"{turns.rate(way):10.1f}" for way in ways)
        gain = turns.rate("population") / turns.rate("trainer")
        bound = turns.rate("matrix") / operations(dataset, images) / turns.rate("trainer")
        print(f"{factor:12s}  {images:6d}  {rates}  {gain:18.2f}  {bound:14.2f}")
    print("population/trainer should be at least 3, and cannot be much more than matrix/trainer")


if __name__ == "__main__":
    main()
