"""What results.json says of the machine that a run used: device, threads, memory and speed."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import torch

from deft_lightning.common import results


class Measures:
    """Measures a session of the run in `folder`; what earlier sessions have measured adds up."""

    def __init__(self, folder: Path | str, first_step: int = 0, batch_size: int | None = None) -> None:
        self._folder, self._first_step, self._batch_size = Path(folder), first_step, batch_size
        self._begin = time.monotonic()
        content = results.read(folder)
        timings = content.get("timings", {})
        self._seconds, self._steps = timings.get("train_seconds", 0.0), timings.get("train_steps", 0)
        self._peak = content.get("peak_memory_mb") or 0.0
        if torch.cuda.is_initialized():
            torch.cuda.reset_peak_memory_stats()

    def write(self, step: int | None = None) -> None:
        """Write what has been measured so far; `step` is the number of steps that the run has taken."""
        seconds = self._seconds + time.monotonic() - self._begin
        fields: dict[str, Any] = {"threads": torch.get_num_threads(), "peak_memory_mb": max(self._peak, _peak_mb())}
        timings: dict[str, Any] = {"train_seconds": round(seconds, 1)}
        if step is not None:
            steps = self._steps + step - self._first_step
            fields["steps"] = step
            timings |= {"train_steps": steps, "steps_per_second": round(steps / seconds, 2)}
            if self._batch_size is not None:
                fields["images_per_second"] = round(steps * self._batch_size / seconds, 1)
        results.update(self._folder, timings=timings, **fields)


def device_name(device: torch.device) -> str:
    """ "cpu", "mps" or the name of the CUDA device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _peak_mb() -> float:
    """The most memory that the process has had in MB, of CUDA where it is used; 0 where it is not known."""
    if torch.cuda.is_initialized():
        return round(torch.cuda.max_memory_allocated() / 1e6, 1)
    try:
        import resource  # noqa: PLC0415  # not on Windows
    except ImportError:
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / 1e6 if sys.platform == "darwin" else peak / 1e3, 1)
