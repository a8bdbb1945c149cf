"""results.json of a run folder: what a run is, how far it came, and its scores. Written whole, readable at any time.

    schema_version   2
    status           see `Status`
    reason           why the run ended, where it is not finished; else null
    name             of the experiment
    method           {objective, groups, stages, variants, likelihood, name}, see `common.method`
    seed, run_id
    command, started, git_commit, versions {library: version}   when the run began
    sessions         a list of these four: the first session, and one for each time that the run was resumed
    sweep            {name, overrides} of a job of a sweep; else null
    own_code         {module: {file, digest}} of code from outside this package that the run uses
    training         the settings that decide the weights; a run is resumed only with the same:
                     data, objective, schedule, networks, likelihood, optimizer {name, fields ...},
                     groups {fields}, trainer, scale, seed, batch_size, lr, init_from, shared_stages.
                     `name` is that of the file in conf/, or module:name for code from outside this package.
    config_digest    of `training`
    found            settings that were null and were found from the images; their numbers are in `training`
    data             name, source, digest, images, held_out, shape, factors, factor_sizes, notices; held_out is the
                     number of images that are not trained on, where there are any
    boundaries       the step at which each stage ends
    pressures        [[step, pressure]] from that step on, where the schedule finds them while training
    steps            optimiser steps taken
    precision        of the arithmetic, such as "32-true"
    device           "cpu", or the name of the accelerator
    threads          of torch on the CPU
    peak_memory_mb   of the main process since it started, or of CUDA during the run where that is used
    images_per_second   over the whole training, evaluation included
    timings          {train_seconds, train_steps, steps_per_second, evaluation_seconds}, over all sessions
    stages           {stage_1: {step, pressure, scored_on ("all images" or "held-out images"), scores, intervals,
                     validation {part of the loss: nats}, kl_per_latent, nmi, max1_nmi, max2_nmi, pictures,
                     dci_estimator, failed_scores {name: reason, null once it is computed},
                     own_code of scores that were added later}}
    history          {nmi: {step: {...}}, kl_decomposition: {step: {...}}, validation: {step: {...}}}
    udr, thresholds  where they were computed

A run has no field before it is known. Readers take an absent setting for the default of conf/.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import subprocess
from collections.abc import Mapping
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from deft_lightning.common import files
from deft_lightning.common.errors import DeftError, Diverged, Incomplete
from deft_lightning.common.signals import CONTINUE

SCHEMA_VERSION = 2
FILE = "results.json"
SHARED_STAGES = "_shared_stages"
"""How the name of a run ends that trains only the stages which other runs share."""
LIBRARIES = ("torch", "pytorch-lightning", "hydra-core", "numpy", "scikit-learn", "torchmetrics", "wandb")


class Status(StrEnum):
    """How far a run has come."""

    STARTING = "starting"
    """The folder is made; no step has been taken in this session."""
    RUNNING = "running"
    FINISHED = "finished"
    """Every step of the schedule was taken and the last stage was evaluated."""
    INTERRUPTED = "interrupted"
    """It ended before its last step, by a signal or a limit, and can be resumed."""
    FAILED = "failed"
    """An error ended it; once that is fixed it can be resumed."""
    DIVERGED = "diverged"
    """The loss or the weights were no longer finite: final, since resuming would end the same way."""

    @property
    def final(self) -> bool:
        """Whether there is nothing left to train."""
        return self in (Status.FINISHED, Status.DIVERGED)


def read(run_folder: str | Path) -> dict[str, Any]:
    """The results of a run; empty where it has none yet. Raises `DeftError` when the file is damaged."""
    path = Path(run_folder) / FILE
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise DeftError(f"{path} cannot be read ({error}): restore it, or move the run folder away.") from error
    if not isinstance(content, dict):
        raise DeftError(f"{path} does not hold the results of a run: move the folder away.")
    return content


def status(run_folder: str | Path) -> Status | None:
    """The status of the run in `run_folder`; None where there is no run, or its file cannot be read."""
    try:
        return Status(read(run_folder)["status"])
    except (DeftError, KeyError, ValueError):
        return None


def update(run_folder: str | Path, **fields: Any) -> None:
    """Set `fields` in results.json; mappings are merged into what is there, to any depth."""
    content = {"schema_version": SCHEMA_VERSION}
    content.update(read(run_folder))
    files.write_text(Path(run_folder) / FILE, json.dumps(_merge(content, fields), indent=2) + "\n")


def record_end(run_folder: str | Path, error: BaseException | str, **fields: Any) -> None:
    """Write why a run ended before it was finished: its status and, as `reason`, one sentence.

    `error` is the exception that ended it, or the reason of one that failed. `fields` are written with it.
    """
    membership = fields.get("sweep") or read(run_folder).get("sweep")
    update(run_folder, status=_status_after(error), reason=reason_of(error, membership), **fields)


def reason_of(error: BaseException | str, sweep: Mapping[str, Any] | None = None) -> str:
    """One sentence for an exception: its own where it is a `DeftError`, else with its type.

    It tells the user of a single run how to resume; for a job, whose `sweep` is given, how to resume that.
    """
    if isinstance(error, KeyboardInterrupt):
        error = f"{str(error) or 'interrupted by Ctrl-C'}: {CONTINUE}"
    if isinstance(error, str | DeftError):
        sentence = str(error)
        return re.sub(r"(?<![\w.])resume=true", "sweep.resume=true", sentence) if sweep else sentence
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _status_after(error: BaseException | str) -> Status:
    if isinstance(error, Incomplete | KeyboardInterrupt | SystemExit):
        return Status.INTERRUPTED
    return Status.DIVERGED if isinstance(error, Diverged) else Status.FAILED


def stage_of(record: Mapping[str, Any], stage: int | None) -> dict[str, Any]:
    """What results.json says of a stage, numbered from 1, by default the latest; empty where it says nothing.

    A run that starts from the weights of another has no record of the stages before.
    """
    stages: dict[str, Any] = record.get("stages", {})
    name = next(reversed(stages), "") if stage is None else f"stage_{stage}"
    return dict(stages.get(name, {}))


def digest(config: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal digits, the same for equal configurations."""
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()[:16]


def versions() -> dict[str, str]:
    """Versions of Python, this package and the libraries that a score may depend on."""
    installed = {"python": platform.python_version(), "deft_lightning": version("deft-lightning")}
    for library in LIBRARIES:
        try:
            installed[library] = version(library)
        except PackageNotFoundError:
            continue
    return installed


def git_commit() -> str | None:
    """The commit of the checkout that this package runs from; None when it is installed from a wheel."""
    folder = Path(__file__).resolve().parent
    try:
        answer = subprocess.run(
            ["git", "ls-files", "--error-unmatch", Path(__file__).name],
            cwd=folder,
            capture_output=True,
            check=True,
            timeout=5,
        )
        answer = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, check=True, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.decode().strip()


def _merge(old: dict[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(old)
    for key, value in new.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged
