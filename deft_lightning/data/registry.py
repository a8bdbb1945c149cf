"""Data sets by name, for notebooks and the command line; Hydra names the classes themselves."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from inspect import signature
from typing import Any

from deft_lightning.common.errors import DeftError
from deft_lightning.data.base import FactorDataset

DATASETS = {
    "dsprites": "deft_lightning.data.dsprites.dataset:DSprites",
    "color_dsprites": "deft_lightning.data.dsprites.dataset:ColorDSprites",
    "noisy_dsprites": "deft_lightning.data.dsprites.dataset:NoisyDSprites",
    "scream_dsprites": "deft_lightning.data.dsprites.scream:ScreamDSprites",
    "smallnorb": "deft_lightning.data.smallnorb.dataset:SmallNORB",
    "custom": "deft_lightning.data.custom.dataset:CustomImages",
}
"""Name of a data set: module and class, imported when first asked for."""

CLASSES = {place.partition(":")[2]: place for place in DATASETS.values()}
"""Class of a data set, as Hydra's `_target_` names it: where it is."""

DOWNLOADS = {
    "dsprites": "deft_lightning.data.dsprites.published:prepare",
    "scream": "deft_lightning.data.dsprites.scream:prepare",
    "smallnorb": "deft_lightning.data.smallnorb.dataset:prepare_smallnorb",
}
"""What can be downloaded: module and function of the data folder, which returns a sentence for the user."""


def load(name: str, **options: Any) -> FactorDataset:
    """The data set called `name`, built with `options`; preparing it the first time may take a minute.

    Raises DeftError for an unknown name, or an option that the data set does not have.
    """
    if name not in DATASETS:
        raise DeftError(f"there is no data set {name!r}; there are {', '.join(DATASETS)}")
    build = find(DATASETS[name])
    try:
        signature(build).bind(**options)
    except TypeError as error:
        raise DeftError(f"data set {name}: {error}") from error
    return build(**options)


def prepare(name: str, root: str | os.PathLike[str] | None = None) -> str:
    """Download what is called `name` into the data folder, check it and convert it; says where it is.

    Raises DeftError for an unknown name, and when the download cannot be had or is not what was published.
    """
    if name not in DOWNLOADS:
        raise DeftError(f"{name!r} is not a download; there are {', '.join(DOWNLOADS)}")
    return find(DOWNLOADS[name])(root)


def find(place: str) -> Callable[..., Any]:
    """Import "module:name"."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
