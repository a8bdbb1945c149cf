"""Scores that are added to finished runs, computed from their checkpoints."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from omegaconf import OmegaConf

from deft_lightning.common import console, results, subnormals
from deft_lightning.common.errors import DeftError
from deft_lightning.common.results import Status
from deft_lightning.data.base import FactorDataset
from deft_lightning.data.datamodule import FactorDataModule
from deft_lightning.evaluation import scores as scoring
from deft_lightning.evaluation.codes import encode
from deft_lightning.evaluation.sources import sample_tables, score_model
from deft_lightning.metrics import udr
from deft_lightning.model.module import DEFT
from deft_lightning.training import build, config, own_code, run_folder
from deft_lightning.training.record import require_same_data


class Representation(NamedTuple):
    """Mean codes [N, D] of images that are the same for all runs, and the KL per latent [D] in nats."""

    codes: NDArray[Any]
    kl: NDArray[Any]


FIXED = ("num_points", "num_test", "bins")
"""Settings of the evaluation sample; new scores must use the run's own."""


def rescore_all(folders: Sequence[Path], settings: scoring.Settings, device: str, set_by_user: Sequence[str]) -> int:
    """Rescore runs one after another and add their UDR; returns how many could not be scored, each told in a sentence.

    Arguments are those of `rescore`.
    """
    representations: dict[Path, Representation] = {}
    datasets: dict[str, FactorDataset] = {}
    failed = 0
    with console.new_progress(unit="runs") as bar, subnormals.flushed():
        for folder in bar.track(folders, description="Scoring"):
            try:
                digest = results.digest(config.to_plain(run_folder.read_config(folder), "data"))
                outcome = rescore(folder, settings, device, datasets.get(digest), set_by_user)
            except DeftError as error:
                failed += 1
                console.print_error(error if str(folder) in str(error) else f"{folder}: {error}")
                continue
            datasets = {digest: outcome.dataset}  # one at a time: a data set takes hundreds of megabytes
            representations[folder] = outcome.representation
            print(f"{folder}: {', '.join(outcome.added) or 'nothing to add'}")
    for folder in add_udr(representations):
        print(f"{folder}: UDR {results.read(folder)['udr']['score']:.3f}")
    return failed


def rescore(
    folder: Path,
    settings: scoring.Settings,
    device: str = "cpu",
    dataset: FactorDataset | None = None,
    set_by_user: Sequence[str] = (),
) -> Rescored:
    """Add the scores that `settings` names and results.json of `folder` does not have, on the run's evaluation sample.

    `dataset` saves loading the data again. `set_by_user` are the fields of `settings` that the user has set; those of
    `FIXED` must have the values of the run. Raises `DeftError` when the folder holds no finished run, when its
    checkpoint is damaged, or when the images are not those it was trained on.
    """
    previous = results.read(folder)
    if previous.get("status") != Status.FINISHED:
        state = f"is {previous['status']}" if previous.get("status") else "holds no results.json"
        raise DeftError(f"{folder} {state}: only finished runs can be scored again.")
    stages = {name: stage for name, stage in previous.get("stages", {}).items() if "scores" in stage}
    if not stages:
        raise DeftError(f"{folder} has no scores of any stage to add to: it was trained without callbacks.scores.")
    cfg = run_folder.read_config(folder)
    settings = _with_recorded_sample(folder, settings, set_by_user, config.to_plain(cfg, "metrics"))
    settings = _with_recorded_estimator(folder, settings, set_by_user, stages[list(stages)[-1]])
    module, data = build.trained_module_and_data(cfg, run_folder.last_checkpoint(folder), dataset)
    require_same_data(folder, data.dataset)
    module.to(device)
    data.dataset.to(device)
    last = list(stages)[-1]
    stage = stages[last]
    missing = settings.missing(stage["scores"])
    if settings.bootstrap:
        missing += [name for name in settings.missing(stage.get("intervals", {})) if name not in missing]
    added: dict[str, Any] = {}
    if missing:
        encoding = encode(module, data, sample_tables(data, settings)[0])
        scored = score_model(missing, settings, encoding, module, data)
        added = _absent(scored.record(), stage)
        if recovered := [name for name in stage.get("failed_scores", {}) if name in set(missing) - set(scored.failed)]:
            added["failed_scores"] = added.get("failed_scores", {}) | dict.fromkeys(recovered)
        if sources := own_code.sources(OmegaConf.create({"metrics": {"at_end": _own_items(settings, missing)}})):
            added["own_code"] = sources
    if added:
        results.update(folder, stages={last: added})
    return Rescored(list(added.get("scores", {})), _common_points(module, data, settings), data.dataset)


def _own_items(settings: scoring.Settings, names: Sequence[str]) -> list[dict[str, str]]:
    """The user's own among the scores `names`, as a configuration has them."""
    return [{"name": name, "function": path} for name, path in settings.own.items() if name in names]


class Rescored(NamedTuple):
    """The outcome of `rescore`: names of the scores that were added, the representation for UDR, and the data set."""

    added: list[str]
    representation: Representation
    dataset: FactorDataset


def _common_points(module: DEFT, data: FactorDataModule, settings: scoring.Settings) -> Representation:
    """The codes of images that do not depend on the seed of the run."""
    count = min(settings.num_points, len(data.dataset))
    encoding = encode(module, data, data.sample_of_all(count, settings.seed), seed=settings.seed)
    return Representation(encoding.codes, encoding.kl)


def _with_recorded_sample(
    folder: Path, settings: scoring.Settings, set_by_user: Sequence[str], recorded: dict[str, Any]
) -> scoring.Settings:
    for field in FIXED:
        if field in set_by_user and getattr(settings, field) != recorded[field]:
            raise DeftError(
                f"metrics.{field} is {getattr(settings, field)}, and {folder} was scored with {recorded[field]}: leave "
                "it out, so that all scores of the run are computed in the same way."
            )
    return replace(settings, **{field: recorded[field] for field in FIXED})


def _with_recorded_estimator(
    folder: Path, settings: scoring.Settings, set_by_user: Sequence[str], stage: dict[str, Any]
) -> scoring.Settings:
    """`settings` with the estimator by which the DCI of `stage` was computed: an interval must be of the same one."""
    recorded = stage.get("dci_estimator", settings.dci_estimator)
    if recorded != settings.dci_estimator and "dci_estimator" in set_by_user:
        raise DeftError(
            f"{folder} has the DCI of metrics.dci_estimator={recorded}, and scores that are there are kept: leave the "
            "option out."
        )
    return replace(settings, dci_estimator=recorded)


def _absent(new: dict[str, Any], old: dict[str, Any]) -> dict[str, Any]:
    """The part of `new` that is not in `old`, to any depth."""
    part = {}
    for key, value in new.items():
        if isinstance(value, dict):
            inner = _absent(value, old.get(key, {}))
            if inner:
                part[key] = inner
        elif key not in old:
            part[key] = value
    return part


def add_udr(runs: dict[Path, Representation]) -> list[Path]:
    """Write the UDR (Duan et al. 2020) of every run among those that differ from it only in their seed.

    Of several runs of one seed, which would agree with each other by necessity, the one that was started last is taken.
    Returns the runs that got a UDR. It is a score of a run within a set of runs, so it replaces that of an earlier set.
    """
    peers: dict[str, dict[Any, Path]] = defaultdict(dict)
    recorded = {folder: results.read(folder) for folder in runs}
    for folder in sorted(runs, key=lambda folder: str(recorded[folder].get("started"))):
        peers[_but_for_the_seed(recorded[folder])][recorded[folder].get("seed")] = folder
    scored = []
    for members in peers.values():
        folders = [folder for folder in runs if folder in members.values()]
        if len(folders) < 2:
            continue
        try:
            agreement = udr([runs[folder].codes for folder in folders], [runs[folder].kl for folder in folders])
        except DeftError as error:  # codes that are not finite
            console.print_error(f"no UDR of {', '.join(map(str, folders))}: {error}")
            continue
        for folder, value in zip(folders, np.asarray(agreement.scores), strict=True):
            results.update(folder, udr={"score": float(value), "method": agreement.method, "runs": len(folders)})
            scored.append(folder)
    return scored


def _but_for_the_seed(content: dict[str, Any]) -> str:
    """A digest of the settings of a run, but for its seed, the run it starts from, and what it found in its images."""
    training = copy.deepcopy(content.get("training", {})) | {"seed": None}
    for name in ("init_from", "shared_stages.folder", *content.get("found", [])):
        part, _, field = name.rpartition(".")
        ((training.get(part) or {}) if part else training).pop(field, None)
    return results.digest(training)
