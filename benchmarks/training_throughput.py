"""How fast DEFT trains on this machine, as ratios measured in one run.

    python benchmarks/training_throughput.py [--device cpu] [--seconds 120] [--objectives]

Loops over the same batches of Color dSprites (64 images of 3 x 64 x 64, four groups, Adam):

    trainer   the module through the Lightning trainer, CSV logging and all callbacks of a run on
    bare      a bare PyTorch loop over the same module
    eager     a plain implementation, kept here as the baseline: one Conv2d stack a group, contiguous tensors,
              Adam as it comes, nothing compiled
    fetch     fetching and colouring the batches alone

and with --objectives the bare loop under every other objective, each compiled first, which takes some minutes.

After every 100 steps of the trainer the other loops take a turn, so that a machine that slows down slows all
of them; rates are images over all of a loop's time. Keep the machine quiet meanwhile.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deft_lightning import (
    DEFT,
    DEFTTC,
    DIPVAE1,
    DIPVAE2,
    AnnealedVAE,
    BetaTCVAE,
    BetaVAE,
    Capacity,
    FactorDataModule,
    FactorVAE,
    Groups,
    Piecewise,
)
from deft_lightning.common import console
from deft_lightning.data import load
from deft_lightning.model.objectives import Objective
from deft_lightning.training import callbacks
from deft_lightning.training.loggers import ResumableCSVLogger

BATCH, LATENTS, GAMMA, LR = 64, (3, 3, 2, 2), 0.1, 5e-4
PRESSURES, EPOCHS = (160, 105, 30, 1), (2, 2, 4, 15)


class PlainVAE(nn.Module):
    """DEFT as one would first write it: layer after layer, group after group."""

    def __init__(self) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(self._encoder(latents) for latents in LATENTS)
        self.decoder = nn.Sequential(
            nn.Linear(sum(LATENTS), 256),
            nn.ReLU(),
            nn.Linear(256, 512),
            nn.ReLU(),
            nn.Unflatten(1, (32, 4, 4)),
            *(layer for _ in range(3) for layer in (nn.ConvTranspose2d(32, 32, 4, 2, 1), nn.ReLU())),
            nn.ConvTranspose2d(32, 3, 4, 2, 1),
        )

    @staticmethod
    def _encoder(latents: int) -> nn.Sequential:
        channels = 32 // len(LATENTS)
        inputs = (3, channels, channels, channels)
        return nn.Sequential(
            *(layer for c in inputs for layer in (nn.Conv2d(c, channels, 4, 2, 1), nn.ReLU())),
            nn.Flatten(),
            nn.Linear(channels * 16, 256),
            nn.ReLU(),
            nn.Linear(256, 2 * latents),
        )

    def loss(self, images: Tensor, pressure: float) -> Tensor:
        """R + beta KL of one batch."""
        halves = [encoder(images).chunk(2, dim=1) for encoder in self.encoders]
        mean, log_variance = (torch.cat(parts, dim=1) for parts in zip(*halves, strict=True))
        sample = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        error = F.binary_cross_entropy_with_logits(self.decoder(sample), images, reduction="sum") / len(images)
        kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(dim=1).mean()
        return error + pressure * kl


def batches(data: FactorDataModule, device: torch.device) -> Iterator[Tensor]:
    """Endless batches of images."""
    while True:
        for batch in data.train_dataloader():
            moved = batch._replace(indices=batch.indices.to(device))
            yield data.on_after_batch_transfer(moved, 0)


def eager_loop(data: FactorDataModule, device: torch.device) -> Callable[[int], None]:
    """The plain implementation as a function that takes n steps."""
    model, images = PlainVAE().to(device), batches(data, device)
    groups: list[dict[str, Any]] = [
        {"params": e.parameters(), "lr": LR * (1 if i == 0 else GAMMA)} for i, e in enumerate(model.encoders)
    ]
    groups.append({"params": model.decoder.parameters(), "lr": LR})
    optimizer = torch.optim.Adam(groups)

    def steps(count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            model.loss(next(images).contiguous(), PRESSURES[0]).backward()
            optimizer.step()

    return steps


def bare_loop(data: FactorDataModule, device: torch.device, module: DEFT) -> Callable[[int], None]:
    """The shipped module without Lightning around it."""
    module.to(device)
    objective = module.objective
    objective.dataset_size = len(data.dataset)
    optimizer, images = module.configure_optimizers(), batches(data, device)
    random = torch.Generator(device).manual_seed(0)
    pressure = torch.tensor(float(PRESSURES[0]), device=device)

    def steps(count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            noise = torch.randn(BATCH, sum(LATENTS), generator=random, device=device)
            loss = module.compute_loss(next(images).contiguous(memory_format=torch.channels_last), noise, pressure)
            loss.total.backward()
            optimizer.step()
            if objective.learns:
                objective.update(module.sample, random)

    return steps


class Turns(pl.Callback):
    """Times the trainer in blocks of `BLOCK` steps; between two of them every other loop takes its turn, timed too."""

    BLOCK = 100

    def __init__(self, loops: dict[str, tuple[Callable[[int], None], int]], seconds: float) -> None:
        self.loops, self._begin = loops, time.perf_counter()
        self.end = self._begin + seconds
        self.images = dict.fromkeys(["trainer", *loops], 0)
        self.seconds = dict.fromkeys(["trainer", *loops], 0.0)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:  # type: ignore[no-untyped-def]
        """Stop the clock at the end of a block, and give the turn to the others; the first block is a warm-up."""
        if trainer.global_step % self.BLOCK:
            return
        if trainer.global_step > self.BLOCK:
            self._count("trainer", self.BLOCK, time.perf_counter() - self._begin)
        for name, (steps, count) in self.loops.items():
            begin = time.perf_counter()
            steps(count)
            self._count(name, count, time.perf_counter() - begin)
        trainer.should_stop = time.perf_counter() > self.end
        self._begin = time.perf_counter()

    def _count(self, name: str, steps: int, seconds: float) -> None:
        self.images[name] += steps * BATCH
        self.seconds[name] += seconds

    def rate(self, name: str) -> float:
        """Images a second of one loop."""
        return self.images[name] / self.seconds[name]


def measure(data: FactorDataModule, accelerator: str, turns: Turns) -> None:
    """Train as `scale=quick` does, with the logger and the callbacks of a run, until the turns are over."""
    module = deft()
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            accelerator=accelerator,
            devices=1,
            max_steps=module.boundaries[-1],
            max_epochs=-1,
            min_epochs=0,
            default_root_dir=folder,
            logger=[ResumableCSVLogger(folder)],
            callbacks=[
                callbacks.FiniteLoss(),
                callbacks.StagePressure(),
                callbacks.NMIMatrix(),
                callbacks.KLDecomposition(),
                callbacks.Scores(),
                callbacks.Traversals(),
                callbacks.RunResults(),
                callbacks.Checkpoints(),
                callbacks.RunProgress(),
                turns,
            ],
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        Path(folder, "checkpoints").mkdir()
        trainer.fit(module, data)


def deft(objective: Objective | None = None) -> DEFT:
    """The module of `+experiment=color_dsprites scale=quick`, with another objective where one is given."""
    annealed = isinstance(objective, AnnealedVAE)
    return DEFT(
        Groups(LATENTS, GAMMA),
        Capacity(c_max=25, increase_steps=100_000, steps=300_000)
        if annealed
        else Piecewise(EPOCHS, PRESSURES, fraction=0.06),
        objective or BetaVAE(),
        lr=LR,
        steps_per_epoch=737_280 // BATCH,
        compiled=True,
    )


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or mps")
    parser.add_argument("--seconds", type=float, default=120, help="how long to measure")
    parser.add_argument("--objectives", action="store_true", help="measure every other objective as well")
    options = parser.parse_args()
    console.quieten()
    device = torch.device(options.device)
    dataset = load("color_dsprites")

    def fresh() -> FactorDataModule:
        return FactorDataModule(dataset, BATCH)

    images = batches(fresh(), device)

    def fetch(count: int) -> None:
        for _ in range(count):
            next(images)

    def finished(steps: Callable[[int], None]) -> Callable[[int], None]:
        def call(count: int) -> None:
            steps(count)
            if device.type == "cuda":
                torch.cuda.synchronize()

        return call

    loops = {"bare": bare_loop(fresh(), device, deft()), "eager": eager_loop(fresh(), device), "fetch": fetch}
    others = [AnnealedVAE(), FactorVAE(), DIPVAE1(), DIPVAE2(), BetaTCVAE(), DEFTTC()] if options.objectives else []
    loops |= {objective.label: bare_loop(fresh(), device, deft(objective)) for objective in others}
    for steps in loops.values():
        steps(10)  # warm up, and compile
    counts = {"bare": 50, "eager": 30, "fetch": 200} | {objective.label: 30 for objective in others}
    turns = Turns({name: (finished(steps), counts[name]) for name, steps in loops.items()}, options.seconds)
    measure(fresh(), {"cuda": "gpu"}.get(options.device, options.device), turns)
    print()
    for name in ("eager", "bare", "trainer", "fetch"):
        print(f"{name:8s} {turns.rate(name):10,.0f} images/s")
    print(f"trainer / bare  {turns.rate('trainer') / turns.rate('bare'):.2f}   (at least 0.9)")
    print(f"bare / eager    {turns.rate('bare') / turns.rate('eager'):.2f}   (at least 1.6)")
    print(f"fetch / step    {turns.rate('bare') / turns.rate('fetch'):.3f}  (at most 0.05)")
    for objective in others:
        limit = "" if objective.learns else "   (at most 1.25)"
        print(f"{objective.label} / beta-VAE step  {turns.rate('bare') / turns.rate(objective.label):.2f}{limit}")


if __name__ == "__main__":
    main()
