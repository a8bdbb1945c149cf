"""Keeps status, speed and memory of a run in results.json."""

from __future__ import annotations

import sys
import time
from contextlib import suppress

import pytorch_lightning as pl
import torch

from deft_lightning.common import results
from deft_lightning.common.errors import DeftError, Incomplete
from deft_lightning.common.results import Status
from deft_lightning.training.callbacks.base import DEFTCallback, as_deft, data_of


class RunResults(DEFTCallback):
    """Writes how a fit proceeds: running, then how it ended, how fast it was and how much memory it took."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._first_step = 0
        self._seconds_before = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Mark the run as running; seconds of earlier sessions of the same run add up."""
        self._started, self._first_step = time.monotonic(), int(trainer.global_step)
        if not trainer.is_global_zero:
            return
        timings = results.read(trainer.default_root_dir).get("timings", {})
        self._seconds_before = timings.get("train_seconds", 0.0)
        results.update(
            trainer.default_root_dir,
            status=Status.RUNNING,
            reason=None,
            precision=str(trainer.precision),
            device=_device_name(pl_module.device),
            threads=torch.get_num_threads(),
        )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Mark the run as finished, or as interrupted where steps of the schedule are left."""
        if not trainer.is_global_zero:
            return
        self._measure(trainer)
        length = as_deft(pl_module).timeline.length
        if trainer.global_step < length:
            results.record_end(
                trainer.default_root_dir, Incomplete(f"stopped at step {trainer.global_step:,} of {length:,}.")
            )
        else:
            results.update(trainer.default_root_dir, status=Status.FINISHED, reason=None)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Write why the run ended."""
        if trainer.is_global_zero:
            self._measure(trainer)
            results.record_end(trainer.default_root_dir, exception)

    def _measure(self, trainer: pl.Trainer) -> None:
        seconds = time.monotonic() - self._started
        total = self._seconds_before + seconds
        steps = int(trainer.global_step) - self._first_step
        fields: dict[str, object] = {"steps": int(trainer.global_step), "peak_memory_mb": _peak_memory_mb()}
        timings = {"train_seconds": round(total, 1)}
        if steps and seconds:
            timings["steps_per_second"] = round(steps / seconds, 2)
        if trainer.global_step and total:
            with suppress(DeftError):  # other data, whose batches may differ in size
                images = int(trainer.global_step) * data_of(trainer).batch_size
                fields["images_per_second"] = round(images / total, 1)
        results.update(trainer.default_root_dir, timings=timings, **fields)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _peak_memory_mb() -> float | None:
    """The most memory that the process has had in MB; of the accelerator, where CUDA is used; None if not known."""
    if torch.cuda.is_initialized():
        return round(torch.cuda.max_memory_allocated() / 1e6, 1)
    try:
        import resource  # noqa: PLC0415  # not on Windows
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / 1e6 if sys.platform == "darwin" else peak / 1e3, 1)
