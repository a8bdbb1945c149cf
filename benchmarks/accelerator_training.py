"""The training that `accelerator.py` measures: DEFT on images like dSprites, in a bare loop and through the trainer."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import rich
import torch
from torch._dynamo.utils import counters

import deft_lightning as dl
from deft_lightning.common import memory
from deft_lightning.data.batches import BatchLoader
from deft_lightning.data.dsprites.dataset import DSprites, unpacking_table
from deft_lightning.model.compiling import plain_step
from deft_lightning.model.objectives import Objective, loss_function
from deft_lightning.training import callbacks, precision
from deft_lightning.training.loggers import ResumableCSVLogger

BATCH, EPOCHS, PRESSURES = 64, (2, 2, 4, 15), (70.0, 30.0, 12.0, 1.0)
"""DEFT on dSprites, as in Table 1."""
STEPS_PER_EPOCH = 737_280 // BATCH
PRECISIONS = {"fp32": "32-true", "tf32": "tf32", "bf16": "bf16-mixed"}
"""Of the measurements, and what `trainer.precision` calls them."""


class Options(argparse.Namespace):
    """The arguments of a part."""

    out: Path
    accelerator: str
    until: float

    @property
    def left(self) -> float:
        """Seconds until the part must have ended."""
        return self.until - time.time()

    @property
    def device(self) -> torch.device:
        return torch.device("cuda", 0) if self.cuda else torch.device("cpu")

    @property
    def cuda(self) -> bool:
        return self.accelerator == "cuda"

    @property
    def warm_up(self) -> int:
        """Steps of the trainer before the first that counts."""
        return 20 if self.cuda else 2


class Packed(DSprites):
    """Random bits of the size and layout of dSprites: made at once, and decoded as fast."""

    source = "rendered"

    def __init__(self, count: int = 65_536) -> None:
        self._packed = torch.randint(256, (count, 512), dtype=torch.uint8)
        self._unpacking = unpacking_table(1)


def deft(compiled: bool, objective: Objective | None = None) -> dl.DEFT:
    """DEFT on dSprites; with `compiled` as the package compiles it on the device."""
    schedule = dl.Piecewise(EPOCHS, PRESSURES)
    options: dict[str, Any] = {"image_shape": (1, 64, 64), "steps_per_epoch": STEPS_PER_EPOCH}
    return dl.DEFT(dl.Groups((3, 3, 2, 2)), schedule, objective or dl.BetaVAE(), compiled=compiled, **options)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def products(kind: str) -> Iterator[None]:
    """Take products of single precision in tf32, or not."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest" if kind == "fp32" else "high")
    torch.backends.cudnn.allow_tf32 = kind != "fp32"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def bare(
    device: torch.device,
    mode: str,
    kind: str,
    seconds: float,
    *,
    channels_last: bool = True,
    factor_vae: bool = False,
    profiled: bool = False,
) -> dict[str, Any]:
    """Images a second of the module in a bare loop, its batches from the loader and decoded on the device."""
    cuda = device.type == "cuda"
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = deft(compiled=mode == "graphs" and cuda, objective=dl.FactorVAE() if factor_vae else None)
    model.to(device).to(memory_format=layout)  # type: ignore[call-overload]
    model.objective.dataset_size = 737_280
    if mode != "eager" and model._compiled is False:
        backend = "inductor" if cuda else "aot_eager"
        step = plain_step(model, loss_function(model.likelihood, model.objective))
        model._step = torch.compile(step, dynamic=False, backend=backend)
    data = dl.FactorDataModule(Packed().to(device), BATCH)
    batches = endless(BatchLoader(len(data.dataset), BATCH, 0, device=device))
    optimizer: Any = model.configure_optimizers()
    random = torch.Generator(device)
    counters.clear()
    pressure, taken = torch.full((), PRESSURES[0], device=device), 0

    def steps(count: int) -> None:
        nonlocal taken
        for _ in range(count):
            batch = next(batches)
            images = data.on_after_batch_transfer(batch, 0).contiguous(memory_format=layout)
            noise = model._noise.at(taken, BATCH, device)
            with torch.autocast(device.type, torch.bfloat16, enabled=kind == "bf16"):
                loss = model.compute_loss(images, noise, pressure)
            optimizer.zero_grad()
            loss.total.backward()
            optimizer.step()
            if model.objective.learns:
                model.objective.update(model.sample, random)
            taken += 1

    with products(kind):
        row = timed(steps, device, seconds, BATCH, profiled)
    fault = fallen_back(model, mode == "graphs" and cuda)
    return row | {"note": "; ".join(filter(None, (fault.get("note"), row.get("note"))))}


def endless(loader: BatchLoader) -> Iterator[Any]:
    """The batches of one epoch after another."""
    while True:
        yield from loader


def whole(device: torch.device, kind: str, seconds: float) -> dict[str, Any]:
    """Images a second where decoding, loss, gradients and Adam of a step are one graph.

    The package has no such graph: it leaves Adam outside those of Inductor. What precedes a step is that of `bare`.
    """
    cuda = device.type == "cuda"
    model = deft(compiled=False).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    plain = plain_step(model, loss_function(model.likelihood, model.objective))
    loss_of = torch.compile(plain, dynamic=False, backend="inductor" if cuda else "aot_eager")
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-4, fused=True, capturable=cuda)
    dataset, random = Packed().to(device), torch.Generator(device)
    batches, taken = endless(BatchLoader(len(dataset), BATCH, 0, device=device)), 0
    indices = torch.zeros(BATCH, dtype=torch.long, device=device)
    noise, pressure = (
        torch.zeros(BATCH, sum(model.groups.latents), device=device),
        torch.full((), PRESSURES[0], device=device),
    )

    def step() -> None:
        images = dataset.images(indices, random)
        with torch.autocast(device.type, torch.bfloat16, enabled=kind == "bf16", cache_enabled=False):
            loss = loss_of(images, noise, pressure)[0].total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def steps(count: int) -> None:
        nonlocal taken
        for _ in range(count):
            indices.copy_(next(batches).indices)
            noise.copy_(model._noise.at(taken, BATCH, device))
            replay()
            taken += 1

    with products(kind):
        begin = time.perf_counter()
        replay = captured(step) if cuda else step
        compiled = time.perf_counter() - begin
        row = timed(steps, device, seconds, BATCH, profiled=False)
    return row | {"seconds": round(row["seconds"] + compiled, 1)}


def captured(step: Callable[[], None]) -> Callable[[], None]:
    """`step` as one CUDA graph, after three steps that compile it and make the state of the optimiser."""
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay  # type: ignore[no-any-return]


def timed(
    steps: Callable[[int], None], device: torch.device, seconds: float, images: int, profiled: bool
) -> dict[str, Any]:
    """Images a second of `steps`, which takes so many of them of `images` each.

    `seconds` in the row are those until the first steps were taken, compiling included. If `profiled`, the note says
    how long the kernels of a step take one after another, without the gaps between them.
    """
    cuda = device.type == "cuda"
    begin = time.perf_counter()
    steps(20 if cuda else 2)
    synchronize(device)
    warm, taken, at_once = time.perf_counter(), 0, 50 if cuda else 1
    while time.perf_counter() - warm < seconds:
        steps(at_once)
        synchronize(device)  # else the host runs ahead of the clock
        taken += at_once
    step = (time.perf_counter() - warm) / taken
    row: dict[str, Any] = {"images_per_second": round(images / step, 1), "seconds": round(warm - begin, 1)}
    if profiled:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            steps(at_once)
            synchronize(device)
        busy = sum(event.self_device_time_total for event in profile.key_averages()) / 1e6 / at_once
        row["note"] = f"kernels {1000 * busy:.3f} of {1000 * step:.3f} ms"
    return row


def fallen_back(model: dl.DEFT, wanted: bool) -> dict[str, Any]:
    """A note where the graphs that were `wanted` have not been made."""
    if wanted and model._step.__name__ != "graphed":  # type: ignore[union-attr]
        return {"note": "fell back to eager"}
    if wanted and model.objective.learns and model.objective._classify.__name__ != "graphed":
        return {"note": "the update of the objective fell back to eager"}
    return skipped()


def skipped() -> dict[str, Any]:
    """A note where Inductor has made no graph of what it compiled."""
    skips = counters["inductor"]["cudagraph_skips"]
    return {"note": f"Inductor has skipped {skips} graphs"} if skips else {}


class Turns(pl.Callback):
    """Lets the trainer take steps for so many seconds as `orders` says, again and again; None ends it."""

    def __init__(self, orders: Callable[[], float | None], answer: Callable[[int, float], None], warm_up: int) -> None:
        self._orders, self._answer, self._warm_up = orders, answer, warm_up
        self._begin = self._end = 0.0
        self._first = 0

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Answer at the end of a turn, and wait for the next."""
        step = int(trainer.global_step)
        if step < self._warm_up or time.perf_counter() < self._end:
            return
        synchronize(pl_module.device)
        if self._begin:
            self._answer(step - self._first, time.perf_counter() - self._begin)
        seconds = self._orders()
        if seconds is None:
            trainer.should_stop = True
            self._end = float("inf")
            return
        self._first, self._begin = step, time.perf_counter()
        self._end = self._begin + seconds


def through_trainer(device: torch.device, kind: str, turns: Turns) -> dict[str, Any]:
    """Train as a run does, with its logger and callbacks, until `turns` ends it; see `fallen_back`.

    "fp32" is what a run has, with convolutions in tf32 on CUDA.
    """
    cuda = device.type == "cuda"
    model = deft(compiled=cuda)
    counters.clear()
    memory.retain_freed()
    rich.reconfigure(file=open(os.devnull, "w"))  # noqa: SIM115  # the bar is drawn, and nobody sees it
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "checkpoints").mkdir()
        parts = [callbacks.FiniteLoss(), callbacks.StagePressure(), callbacks.RunResults(), callbacks.Checkpoints()]
        pl.Trainer(
            **precision.options(PRECISIONS[kind] if cuda else "32-true"),
            accelerator=device.type,
            devices=1,
            max_steps=10**7,
            max_epochs=-1,
            default_root_dir=folder,
            logger=[ResumableCSVLogger(folder)],
            callbacks=[*parts, callbacks.RunProgress(), turns],
            enable_model_summary=False,
            num_sanity_val_steps=0,
        ).fit(model, dl.FactorDataModule(Packed(), BATCH))
    return fallen_back(model, cuda)
