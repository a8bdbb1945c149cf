"""The GPUs of a sweep: which there are, how many jobs they have room for, and which of them a job sees.

nvidia-smi is asked, in a process of its own: a CUDA context in the launcher would take memory from the jobs.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from omegaconf import DictConfig, OmegaConf

QUERY = ("nvidia-smi", "--query-gpu=index,uuid,memory.free", "--format=csv,noheader,nounits")

MPS_CLIENTS = 48
"""Processes that may share a GPU under MPS, from compute capability 7.0 on (manual page of nvidia-cuda-mps-control)."""


@dataclass(frozen=True)
class Gpu:
    """A GPU: its name for CUDA_VISIBLE_DEVICES, and its free memory in MiB, None where that is not known."""

    name: str
    free: int | None


def visible() -> list[Gpu]:
    """The GPUs that a process sees which is started here; none where nvidia-smi is missing or fails.

    CUDA_VISIBLE_DEVICES is read as CUDA does: indices (here those of nvidia-smi), UUIDs or their beginnings, up to the
    first that names no GPU. Names are UUIDs, because indices change their meaning under MPS.
    """
    try:
        answer = subprocess.run(QUERY, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[field.strip() for field in line.split(",")] for line in answer.stdout.splitlines()]
    present = {row[0]: Gpu(row[1], int(row[2]) if row[2].isdecimal() else None) for row in rows if len(row) == 3}
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return list(present.values())
    found: list[Gpu] = []
    for word in (part.strip() for part in chosen.split(",")):
        if word.startswith("MIG-"):  # a part of a GPU, whose memory nvidia-smi does not list here
            found.append(Gpu(word, None))
            continue
        matches = [present[word]] if word in present else []
        if word.startswith("GPU-"):
            matches = [gpu for gpu in present.values() if gpu.name.startswith(word)]
        if len(matches) != 1:
            break
        found += matches
    return found


def uses_cuda(cfg: DictConfig) -> bool:
    """Whether a run with the configuration `cfg` trains on CUDA where there is a GPU."""
    return OmegaConf.select(cfg, "trainer.accelerator") in ("auto", "gpu", "cuda")


def needed(cfg: DictConfig) -> int | None:
    """How many GPUs a run trains on; None where `trainer.devices` is not a number, as in "auto"."""
    devices = OmegaConf.select(cfg, "trainer.devices")
    return devices if isinstance(devices, int) and devices >= 1 else None


def rooms(gpus: Iterable[Gpu], gigabytes: float) -> dict[str, int]:
    """How many jobs of so many GiB each GPU has room for, by its name; one where its free memory is not known."""
    return {gpu.name: 1 if gpu.free is None else min(int(gpu.free / (1024 * gigabytes)), MPS_CLIENTS) for gpu in gpus}


class Dealer:
    """Deals GPUs to jobs: to each those on which the fewest jobs run, in the order of `names` where that is equal.

    A GPU that has no `room` left is dealt only when none has.
    """

    def __init__(self, names: Sequence[str], room: Mapping[str, int] | None = None) -> None:
        self._running = dict.fromkeys(names, 0)
        self._room = room

    def take(self, count: int | None) -> list[str]:
        """The GPUs of a job that trains on `count`: all of them for None, or where there are not so many."""
        names = sorted(self._running, key=lambda name: (self._full(name), self._running[name]))[:count]
        for name in names:
            self._running[name] += 1
        return names

    def give_back(self, names: Iterable[str]) -> None:
        """Count a job as ended that has had the GPUs `names`."""
        for name in names:
            self._running[name] -= 1

    def _full(self, name: str) -> bool:
        return self._room is not None and self._running[name] >= self._room[name]
