"""The runs that the page offers, and their models and data, loaded when they are first looked at."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from deft_lightning.common import results
from deft_lightning.common.errors import DeftError
from deft_lightning.data.base import FactorDataset
from deft_lightning.data.custom.pixels import Colour
from deft_lightning.data.datamodule import FactorDataModule
from deft_lightning.evaluation.codes import encode
from deft_lightning.model.module import DEFT
from deft_lightning.training import config, run_folder
from deft_lightning.training.encoding import background
from deft_lightning.training.load import load_data, load_model

KL_IMAGES = 256
"""Images over which the KL of a latent is averaged."""
MODELS = 6
"""Models that stay in memory."""


@dataclass(frozen=True)
class Run:
    """A run folder, and the stages whose weights it keeps, from 1."""

    folder: Path
    stages: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Subject:
    """A model to look at.

    Attributes:
        model: in eval mode, on the CPU.
        data: that it was trained on, or None where they cannot be had; `problem` is the sentence that says why.
        background: what transparent pictures are composed over.
        kl: per latent, averaged over images, [D] in nats; infinite where it was never measured.
    """

    model: DEFT
    data: FactorDataModule | None
    problem: str
    background: Colour
    kl: NDArray[np.float64]


def find_runs(paths: Sequence[Path]) -> dict[str, Run]:
    """All runs with a checkpoint at `paths` or in folders there, by their path below the folder they share.

    Raises `DeftError` where there are none.
    """
    files = sorted({file for path in paths for file in path.rglob(results.FILE)})
    runs = [
        Run(file.parent, _stages(file.parent)) for file in files if run_folder.last_checkpoint(file.parent).exists()
    ]
    if not runs:
        raise DeftError(
            f"there is no run with a checkpoint in {', '.join(map(str, paths))}: give run folders, or a folder of runs."
        )
    shared = os.path.commonpath([run.folder.resolve() for run in runs])
    names = [run.folder.resolve().relative_to(shared).as_posix() for run in runs]
    return {run.folder.resolve().name if name == "." else name: run for run, name in zip(runs, names, strict=True)}


def _stages(folder: Path) -> tuple[int, ...]:
    numbers = (file.stem.removeprefix("stage_") for file in (folder / "checkpoints").glob("stage_*.ckpt"))
    return tuple(sorted(int(number) for number in numbers if number.isdecimal()))


class Library:
    """Gives the models of `runs`, a dictionary from names; the last `MODELS`, on two data sets, stay in memory."""

    def __init__(self, runs: Mapping[str, Run], trust: bool = False) -> None:
        self.runs, self._trust, self._lock = runs, trust, Lock()
        self._datasets: dict[str, FactorDataset] = {}
        self._subjects: dict[tuple[str, int | None], Subject] = {}

    def subject(self, name: str, stage: int | None) -> Subject:
        """The model of a run at the end of a stage, by default the latest. Raises `DeftError` as `load_model` does."""
        with self._lock:  # the page asks from several threads
            subject = self._subjects.pop((name, stage), None) or self._subject(name, stage)
            kept = {id(dataset) for dataset in self._datasets.values()}
            others = [(k, s) for k, s in self._subjects.items() if s.data is None or id(s.data.dataset) in kept]
            self._subjects = dict([*others[1 - MODELS :], ((name, stage), subject)])
            return subject

    def _subject(self, name: str, stage: int | None) -> Subject:
        folder = self.runs[name].folder
        record = results.read(folder)
        model = load_model(folder, stage, self._trust).cpu()
        try:
            data, problem = self._data(folder), ""
        except DeftError as error:
            data, problem = None, str(error)
        if data is not None:
            kl = encode(model, data, data.sample(min(KL_IMAGES, data.scored_size))).kl
        else:
            measured = results.stage_of(record, stage).get("kl_per_latent")
            kl = np.full(len(model.latent_names), np.inf) if measured is None else np.array(measured)
        return Subject(model, data, problem, background(record), kl)

    def _data(self, folder: Path) -> FactorDataModule:
        """The data of a run; two runs on the same images share them."""
        key = results.digest(config.to_plain(run_folder.read_config(folder), "data"))
        data = load_data(folder, self._trust, self._datasets.pop(key, None))
        others = list(self._datasets.items())[-1:]  # one besides: a data set takes hundreds of megabytes
        self._datasets = dict([*others, (key, data.dataset)])
        return data
