"""How fast DEFT trains on this machine, as ratios measured in one run, and as shares of what the processor can do.

    python benchmarks/training_throughput.py [--seconds 240] [--checkpoint last.ckpt] [--objectives]

Each loop takes steps of Adam on batches of 64 images of Color dSprites, in a process of its own, and the loops take
turns, so that a machine that slows down slows all of them. Keep the machine quiet meanwhile.

    plain      a VAE as one would first write it, kept here: Conv2d and ConvTranspose2d layer after layer, group after
               group, Adam as it comes, nothing compiled, subnormal numbers not flushed
    loader     the same, fed by a DataLoader with two workers, as most public code has it
    bare       the package's module in a bare PyTorch loop, in fp32 and, where the processor has it, in bf16
    trainer    the package's module through the Lightning trainer, with CSV logging and all callbacks of a run

for three models: DEFT's four groups, and one encoder with the narrow and with the wide networks. Weights are fresh, or
saturated: the last bias is -88, so that the gradients of background pixels are subnormal, as they become in training;
with --checkpoint those of a trained run of Color dSprites are measured as well.

The limit is the rate of a matrix product of 2048 x 2048 here; a step's arithmetic, forward and backward, is counted
from the shapes of its layers. --objectives adds the bare loop under every other objective, as multiples of beta-VAE's.
"""

from __future__ import annotations

import argparse
import multiprocessing as mp
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import cycle, pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import rich
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import deft_lightning as dl
from deft_lightning.common import console, memory, subnormals
from deft_lightning.data import load
from deft_lightning.model.checkpoint import read_checkpoint
from deft_lightning.training import callbacks
from deft_lightning.training.loggers import ResumableCSVLogger

BATCH, LR, PRESSURE = 64, 5e-4, 160.0
MODELS = {"deft": ((3, 3, 2, 2), dl.Burgess), "narrow": ((10,), dl.Burgess), "wide": ((10,), dl.Locatello)}
OBJECTIVES = ("AnnealedVAE", "FactorVAE", "DIPVAE1", "DIPVAE2", "BetaTCVAE", "DEFTTC")
SATURATED = -88.0

Steps = Callable[[int], None]


class PlainVAE(nn.Module):
    """The same networks as one would first write them."""

    def __init__(self, latents: tuple[int, ...], networks: Any) -> None:
        super().__init__()
        encoder, decoder = networks.encoder_channels, networks.decoder_channels
        self.encoders = nn.ModuleList(self._encoder([c // len(latents) for c in encoder], n) for n in latents)
        self.decoder = nn.Sequential(
            nn.Linear(sum(latents), 256),
            nn.ReLU(),
            nn.Linear(256, decoder[0] * 16),
            nn.ReLU(),
            nn.Unflatten(1, (decoder[0], 4, 4)),
            *(layer for a, b in pairwise(decoder) for layer in (nn.ConvTranspose2d(a, b, 4, 2, 1), nn.ReLU())),
            nn.ConvTranspose2d(decoder[-1], 3, 4, 2, 1),
        )

    @staticmethod
    def _encoder(channels: list[int], latents: int) -> nn.Sequential:
        return nn.Sequential(
            *(layer for a, b in pairwise([3, *channels]) for layer in (nn.Conv2d(a, b, 4, 2, 1), nn.ReLU())),
            nn.Flatten(),
            nn.Linear(channels[-1] * 16, 256),
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


@dataclass
class Loop:
    """One loop in a process of its own, and what it has taken so far."""

    name: str
    model: str
    precision: str = "fp32"
    objective: str = "BetaVAE"
    images: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def start(self, batches: Path, checkpoint: Path | None) -> None:
        """Start the process, which makes the model and warms it up."""
        context = mp.get_context("spawn")
        self._pipe, there = context.Pipe()
        fields = (self.name, self.model, self.precision, self.objective)
        context.Process(target=serve, args=(there, fields, batches, checkpoint)).start()
        there.close()  # or a process that dies would not be noticed
        self._pipe.recv()

    def turn(self, weights: str, steps: int) -> None:
        """Take `steps` with the given weights."""
        self._pipe.send((weights, steps))
        self.seconds[weights] = self.seconds.get(weights, 0.0) + self._pipe.recv()
        self.images[weights] = self.images.get(weights, 0) + steps * BATCH

    def stop(self) -> None:
        """End the process."""
        self._pipe.send(None)

    def rate(self, weights: str = "fresh") -> float:
        """Images a second."""
        return self.images[weights] / self.seconds[weights]


def serve(pipe: Connection, fields: tuple[str, ...], batches: Path, checkpoint: Path | None) -> None:
    """The process of a loop: takes steps when it is told to, and answers with the seconds they took."""
    name, model, precision, objective = fields
    console.quieten()
    images = torch.load(batches)  # [n, 64, 3, 64, 64]
    if name == "trainer":
        memory.retain_freed()  # as a run from the command line does
        train(pipe)
        return
    network: nn.Module
    if name == "bare":
        memory.retain_freed()
        subnormals.flush(True)
        network = module(model, objective)
        steps = bare_steps(network, cycle(images), precision)
    else:
        latents, networks = MODELS[model]
        network = PlainVAE(latents, networks())
        steps = plain_steps(network, loader(images) if name == "loader" else cycle(images), latents)
    steps(10)  # warm up, and compile
    states = {"fresh": {key: value.clone() for key, value in network.state_dict().items()}}
    states["saturated"] = saturated(states["fresh"])
    if checkpoint is not None and name == "bare" and model == "deft":
        states["trained"] = read_checkpoint(checkpoint)["state_dict"]
    pipe.send(None)
    while (order := pipe.recv()) is not None:
        weights, count = order
        network.load_state_dict(states[weights])
        steps(2)
        begin = time.perf_counter()
        steps(count)
        pipe.send(time.perf_counter() - begin)


def saturated(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights with the bias of the last layer so low that gradients of pixels become subnormal."""
    last = [name for name in state if name.startswith("decoder") and name.endswith("bias")][-1]
    return state | {last: torch.full_like(state[last], SATURATED)}


def module(model: str, objective: str = "BetaVAE") -> dl.DEFT:
    """The package's module, with the schedule of `+experiment=color_dsprites scale=quick`."""
    latents, networks = MODELS[model]
    schedule: Any = dl.Piecewise((2, 2, 4, 15), (160, 105, 30, 1), fraction=0.06)
    if objective == "AnnealedVAE":
        schedule = dl.Capacity(c_max=25, increase_steps=100_000, steps=300_000)
    elif len(latents) == 1:
        schedule = dl.Constant(pressure=PRESSURE, steps=300_000)
    options: dict[str, Any] = {"lr": LR, "steps_per_epoch": 737_280 // BATCH, "compiled": True}
    return dl.DEFT(dl.Groups(latents), schedule, getattr(dl, objective)(), networks(), **options)


def bare_steps(deft: dl.DEFT, images: Iterator[Tensor], precision: str) -> Steps:
    """The package's module without Lightning around it."""
    objective = deft.objective
    objective.dataset_size = 737_280
    optimizer: Any = deft.configure_optimizers()
    random = torch.Generator().manual_seed(0)
    pressure = torch.tensor(PRESSURE)

    def steps(count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            noise = torch.randn(BATCH, sum(deft.groups.latents), generator=random)
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                loss = deft.compute_loss(next(images).contiguous(memory_format=torch.channels_last), noise, pressure)
            loss.total.backward()
            optimizer.step()
            if objective.learns:
                objective.update(deft.sample, random)

    return steps


def plain_steps(network: PlainVAE, images: Iterator[Tensor], latents: tuple[int, ...]) -> Steps:
    """The plain implementation, its groups at the rates of the first stage."""
    groups: list[dict[str, Any]] = [
        {"params": e.parameters(), "lr": LR * (1 if i == 0 else 0.1)} for i, e in enumerate(network.encoders)
    ]
    optimizer = torch.optim.Adam([*groups, {"params": network.decoder.parameters(), "lr": LR}])

    def steps(count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            network.loss(next(images).contiguous(), PRESSURE).backward()
            optimizer.step()

    return steps


def loader(images: Tensor) -> Iterator[Tensor]:
    """The images through a DataLoader that decodes and collates them one by one in two workers."""
    dataset = TensorDataset((images.flatten(0, 1) * 255).byte())

    while True:
        yield from DataLoader(dataset, BATCH, shuffle=True, num_workers=2, drop_last=True, collate_fn=_collate)


def _collate(rows: list[tuple[Tensor]]) -> Tensor:
    return torch.stack([row.float() / 255 for (row,) in rows])


class InTurns(pl.Callback):
    """Lets the trainer take so many steps as the pipe says, again and again."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._left, self._begin = pipe, 50, 0.0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:  # type: ignore[no-untyped-def]
        """Wait for the next turn at the end of one; the first is a warm-up."""
        self._left -= 1
        if self._left:
            return
        self._pipe.send(time.perf_counter() - self._begin if self._begin else None)
        order = self._pipe.recv()
        trainer.should_stop = order is None
        self._left = 1 if order is None else order[1]
        self._begin = time.perf_counter()


def train(pipe: Connection) -> None:
    """Train as `+experiment=color_dsprites scale=quick` does, with the logger and the callbacks of a run."""
    data = dl.FactorDataModule("color_dsprites", BATCH)
    parts = [callbacks.NMIMatrix(), callbacks.KLDecomposition(), callbacks.Scores(), callbacks.Traversals()]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "checkpoints").mkdir()
        trainer = pl.Trainer(
            accelerator="cpu",
            devices=1,
            max_steps=10**6,
            max_epochs=-1,
            default_root_dir=folder,
            logger=[ResumableCSVLogger(folder)],
            callbacks=[
                callbacks.FiniteLoss(),
                callbacks.StagePressure(),
                callbacks.Evaluation(parts),
                callbacks.RunResults(),
                callbacks.Checkpoints(),
                callbacks.RunProgress(),
                InTurns(pipe),
            ],
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        with open("/dev/null", "w") as nowhere:
            rich.reconfigure(file=nowhere)
            trainer.fit(module("deft"), data)


def operations(model: str) -> float:
    """Floating-point operations of a training step for one image, forward and backward, of all layers."""
    latents, networks = MODELS[model]
    counts: list[float] = []
    first = True
    deft = dl.DEFT(dl.Groups(latents), dl.Constant(pressure=1, steps=1), dl.BetaVAE(), networks())
    plain = PlainVAE(latents, deft.networks)

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal first
        weight: Any = layer.weight
        pixels = output if isinstance(layer, nn.Conv2d) else inputs[0]
        positions = pixels[0, 0].numel() if pixels.dim() == 4 else 1
        forward = 2.0 * weight.numel() * positions
        is_first = isinstance(layer, nn.Conv2d) and weight.shape[1] == 3
        counts.append(forward * (2 if is_first else 3))  # no gradient of the images is needed

    for layer in plain.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            layer.register_forward_hook(count)
    plain.loss(torch.rand(1, 3, 64, 64), 1.0)
    return sum(counts)


def matrix_product_rate(dtype: torch.dtype, seconds: float = 4) -> float:
    """Operations a second of a matrix product of 2048 x 2048."""
    a = torch.randn(2048, 2048).to(dtype)
    a @ a
    count, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        a @ a
        count += 1
    return 2 * 2048**3 * count / (time.perf_counter() - begin)


def has_bf16() -> bool:
    """Whether this processor multiplies bf16 numbers."""
    capabilities = torch.backends.cpu.get_cpu_capability() if hasattr(torch.backends.cpu, "get_cpu_capability") else ""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() or "AMX" in capabilities


def fetch_rate(data: dl.FactorDataModule) -> float:
    """Batches a second that the data module delivers."""
    batches = iter(data.train_dataloader())
    begin = time.perf_counter()
    for _ in range(300):
        data.on_after_batch_transfer(next(batches), 0)
    return 300 / (time.perf_counter() - begin)


def main() -> None:
    """Measure and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=240, help="how long to measure")
    parser.add_argument("--checkpoint", type=Path, help="last.ckpt of a trained run of Color dSprites")
    parser.add_argument("--objectives", action="store_true", help="measure every other objective as well")
    options = parser.parse_args()
    precisions = ["fp32", "bf16"] if has_bf16() else ["fp32"]
    limits = {"fp32": matrix_product_rate(torch.float32), "bf16": matrix_product_rate(torch.bfloat16)}
    data = dl.FactorDataModule(load("color_dsprites"), BATCH)
    fetch = fetch_rate(data)
    loops = {
        (name, model, precision): Loop(name, model, precision)
        for model in MODELS
        for name, precision in (("plain", "fp32"), *(("bare", p) for p in precisions))
    }
    loops["loader", "narrow", "fp32"] = Loop("loader", "narrow")
    loops["trainer", "deft", "fp32"] = Loop("trainer", "deft")
    others = {name: Loop("bare", "deft", objective=name) for name in OBJECTIVES} if options.objectives else {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "batches.pt")
        images = data.evaluation_images(data.sample(40 * BATCH), batch_size=BATCH)
        torch.save(torch.stack(list(images)), path)
        del data
        for loop in [*loops.values(), *others.values()]:
            loop.start(path, options.checkpoint)
        end = time.monotonic() + options.seconds
        while time.monotonic() < end:
            for (name, model, _), loop in loops.items():
                trained = options.checkpoint is not None and name == "bare" and model == "deft"
                single = name in ("trainer", "loader")
                for weights in ["fresh"] if single else ["fresh", "saturated", *(["trained"] if trained else [])]:
                    loop.turn(weights, 20)
            for loop in others.values():
                loop.turn("fresh", 20)
        for loop in [*loops.values(), *others.values()]:
            loop.stop()
    report(loops, others, limits, fetch)


def report(
    loops: dict[tuple[str, str, str], Loop], others: dict[str, Loop], limits: dict[str, float], fetch: float
) -> None:
    """Print what was measured."""
    table = console.new_table("model", "loop", "weights", "images/s", "x plain", "share of the limit")
    for (name, model, precision), loop in loops.items():
        for weights in loop.images:
            base = loops["plain", model, "fp32"].rate("saturated" if weights == "saturated" else "fresh")
            share = loop.rate(weights) * operations(model) / limits[precision]
            table.add_row(
                model,
                f"{name} {precision}",
                weights,
                f"{loop.rate(weights):,.0f}",
                f"{loop.rate(weights) / base:.2f}",
                f"{share:.0%}",
            )
    screen = rich.get_console()
    rates = ", ".join(f"{key} {rate / 1e9:,.0f} GFLOP/s" for key, rate in limits.items())
    screen.print(f"A matrix product of 2048 x 2048 here: {rates}")
    screen.print(", ".join(f"{model} {operations(model) / 1e6:.0f} MFLOP an image" for model in MODELS))
    screen.print(table)
    bare = loops["bare", "deft", "fp32"]
    for weights in [weights for weights in bare.images if weights != "fresh"]:
        screen.print(f"bare fp32, {weights} / fresh  {bare.rate(weights) / bare.rate():.2f}")
    screen.print(f"trainer / bare  {loops['trainer', 'deft', 'fp32'].rate() / bare.rate():.2f}")
    screen.print(f"fetch / step    {bare.rate() / BATCH / fetch:.3f}")
    for name, loop in others.items():
        screen.print(f"{name} / beta-VAE step  {bare.rate() / loop.rate():.2f}")


if __name__ == "__main__":
    main()
