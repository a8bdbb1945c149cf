"""How fast DEFT trains on this machine, as ratios measured in one run.

    python benchmarks/training_throughput.py [--device cpu] [--seconds 20]

Four loops over the same batches of Color dSprites (64 images of 3 x 64 x 64, four groups, Adam), in turns,
several rounds each, the best round of each counted:

    eager     a plain implementation, kept here as the baseline: one Conv2d stack a group, contiguous tensors,
              Adam as it comes, nothing compiled
    bare      a bare PyTorch loop over the DEFT module as it is shipped
    trainer   the same module through the Lightning trainer, CSV logging and all callbacks of a run on
    fetch     fetching and colouring the batches alone

Keep the machine quiet meanwhile.
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

from deft_lightning import DEFT, BetaVAE, FactorDataModule, Groups, Piecewise, callbacks, run
from deft_lightning.data import load
from deft_lightning.loggers import ResumableCSVLogger

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

    return steps


class Clock(pl.Callback):
    """Stops a fit after `seconds` of training, and knows how many steps that was; the first 30 do not count."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.steps, self.elapsed = seconds, 0, 0.0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:  # type: ignore[no-untyped-def]
        """Start the clock after the warm-up, stop when the time is over."""
        if trainer.global_step == 30:
            self.begin = time.perf_counter()
        if trainer.global_step > 30:
            self.steps, self.elapsed = trainer.global_step - 30, time.perf_counter() - self.begin
            trainer.should_stop = self.elapsed > self.seconds


def trainer_rate(data: FactorDataModule, accelerator: str, module: DEFT, seconds: float) -> float:
    """Images a second through the trainer, with the logger and the callbacks of a run at quick scale."""
    clock = Clock(seconds)
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
                callbacks.StagePressure(),
                callbacks.NMIMatrix(),
                callbacks.Scores(),
                callbacks.Traversals(),
                callbacks.RunResults(),
                callbacks.Checkpoints(),
                callbacks.RunProgress(),
                clock,
            ],
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        Path(folder, "checkpoints").mkdir()
        trainer.fit(module, data)
    return clock.steps * BATCH / clock.elapsed


def deft(compiled: bool) -> DEFT:
    """The module of `+experiment=color_dsprites scale=quick`."""
    return DEFT(
        Groups(LATENTS, GAMMA),
        Piecewise(EPOCHS, PRESSURES, fraction=0.1),
        BetaVAE(),
        lr=LR,
        steps_per_epoch=737_280 // BATCH,
        compiled=compiled,
    )


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or mps")
    parser.add_argument("--seconds", type=float, default=60, help="length of the run through the trainer")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    run.quieten()
    device = torch.device(options.device)
    dataset = load("color_dsprites")

    def fresh() -> FactorDataModule:
        return FactorDataModule(dataset, BATCH)

    loops = {"eager": eager_loop(fresh(), device), "bare": bare_loop(fresh(), device, deft(compiled=True))}
    images = batches(fresh(), device)

    def fetch(count: int) -> None:
        for _ in range(count):
            next(images)

    loops["fetch"] = fetch
    counts = {"eager": 30, "bare": 30, "fetch": 300}
    best = dict.fromkeys(loops, 0.0)
    for name, steps in loops.items():
        steps(10 if name != "bare" else 20)  # warm up, and compile
    for _ in range(options.rounds):
        for name, steps in loops.items():
            begin = time.perf_counter()
            steps(counts[name])
            if device.type == "cuda":
                torch.cuda.synchronize()
            best[name] = max(best[name], counts[name] * BATCH / (time.perf_counter() - begin))
    accelerator = {"cuda": "gpu"}.get(options.device, options.device)
    best["trainer"] = trainer_rate(fresh(), accelerator, deft(compiled=True), options.seconds)
    for name in ("eager", "bare", "trainer", "fetch"):
        print(f"{name:8s} {best[name]:10,.0f} images/s")
    print(f"trainer / bare  {best['trainer'] / best['bare']:.2f}   (at least 0.9)")
    print(f"bare / eager    {best['bare'] / best['eager']:.2f}   (at least 1.6)")
    print(f"fetch / step    {best['bare'] / best['fetch']:.3f}  (at most 0.05)")


if __name__ == "__main__":
    main()
