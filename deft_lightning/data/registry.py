"""Data sets and downloads by name, for notebooks and the command line."""

from __future__ import annotations

import os
from collections.abc import Callable
from inspect import signature
from typing import Any

from deft_lightning.common import checks
from deft_lightning.common.errors import DeftError
from deft_lightning.data import cars3d, mpi3d, shapes3d
from deft_lightning.data.base import FactorDataset
from deft_lightning.data.custom.dataset import CustomImages
from deft_lightning.data.dsprites import published as published_dsprites
from deft_lightning.data.dsprites import scream
from deft_lightning.data.dsprites.dataset import ColorDSprites, DSprites, NoisyDSprites
from deft_lightning.data.smallnorb import published as published_smallnorb
from deft_lightning.data.smallnorb.dataset import SmallNORB

DATASETS: dict[str, Callable[..., FactorDataset]] = {
    dataset.name: dataset
    for dataset in (
        DSprites,
        ColorDSprites,
        NoisyDSprites,
        scream.ScreamDSprites,
        SmallNORB,
        shapes3d.Shapes3D,
        cars3d.Cars3D,
        mpi3d.MPI3D,
        CustomImages,
    )
}
"""The class of every data set by its name; conf/data has a file of the same name for each."""

DOWNLOADS: dict[str, Callable[[str | os.PathLike[str] | None], str]] = {
    "dsprites": published_dsprites.prepare,
    "scream": scream.prepare,
    "smallnorb": published_smallnorb.prepare,
    "shapes3d": shapes3d.prepare,
    "cars3d": cars3d.prepare,
    "mpi3d": mpi3d.prepare,
}
"""The functions that download and convert published files: data folder in, one sentence for the user out."""


def load(name: str, **options: Any) -> FactorDataset:
    """The data set called `name`, built with `options`; the first time this may take a minute.

    Raises `DeftError` for an unknown name or option, and as the data set does.
    """
    build = DATASETS[checks.choice("the data set", name, DATASETS)]
    try:
        signature(build).bind(**options)
    except TypeError as error:
        fields = ", ".join(signature(build).parameters)
        raise DeftError(f"the options of the data set {name} are wrong ({error}): it takes {fields}.") from error
    return build(**options)


def prepare(name: str, root: str | os.PathLike[str] | None = None) -> str:
    """Download, check and convert the files called `name`; returns a sentence that says where they are.

    Raises `DeftError` for an unknown name, and when a file cannot be downloaded or is not the published one.
    """
    return DOWNLOADS[checks.choice("the download", name, DOWNLOADS)](root)
