"""thresholds.json: the results of anneal tests. Written whole or not at all.

    schema_version  1
    kind            "anneal" (one test), "spectrum" (no test), "factors" (Fig. 6) or "proposal" (pressures without
                    labels)
    finished        false while "factors" is being measured
    data            as in results.json: name, images, shape, source, factors, ...
    settings        beta_high, steps, batch_size, lr, limit (nats), window (steps), likelihood;
                    for "anneal" also seed
    notices         sentences for the user

"anneal"
    threshold          {pressure, step} of the total KL; null where it never stays above the limit
    latent_thresholds  a pressure or null for each latent
    curves             a list of one curve, at most 500 of its steps: {step, beta, reconstruction, kl: lists of n;
                       kl_per_latent: n lists of D}

    eigenvalues        as for "spectrum"; empty where there are none

"spectrum", whose settings are seed, images (of the sample), pixels (that are not left out) and likelihood
    eigenvalues     of the images, descending: the pressures below which a collapsed model opens its latents
    alike           groups of eigenvalues that are nearly the same, as numbers from 1
    beta_high       1.25 times the first, see `Anneal`

"factors"
    factors            {name: one threshold for each subset, null where the KL never stays above the limit}
    images             {name: number of images in a subset}
    repeats            subsets for each factor
    pressures          those of the experiment's schedule, or null

"proposal"
    seeds              one for each test
    threshold, latent_thresholds, curves
                       as for "anneal", one entry for each seed
    proposal           {epochs, pressures, steps, stable, stages: [{pressure, thresholds, ...}]}, see
                       `deft_lightning.thresholds.rule`
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from deft_lightning.common import files
from deft_lightning.common.errors import DeftError, first_line

SCHEMA_VERSION = 1
FILE = "thresholds.json"
KINDS = ("anneal", "spectrum", "factors", "proposal")


def write(folder: Path, content: dict[str, Any]) -> Path:
    """Write thresholds.json into a run folder; raises `DeftError` when it cannot be written."""
    path = folder / FILE
    try:
        files.write_text(path, json.dumps({"schema_version": SCHEMA_VERSION, **content}, indent=1) + "\n")
    except OSError as error:
        raise DeftError(f"{path} cannot be written ({error}): make room, then resume.") from error
    return path


def read(path: str | Path, kind: str, finished: bool = True) -> dict[str, Any]:
    """The content of a thresholds.json of one kind; `path` is the file or its folder.

    Raises `DeftError` when the file is missing, damaged, of another schema or kind, or (with `finished`) unfinished.
    """
    path = Path(path).expanduser()
    path = path / FILE if path.is_dir() else path
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise DeftError(
            f"there is no {path}: give a thresholds.json that python -m deft_lightning.thresholds has written."
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise DeftError(f"{path} is damaged ({first_line(error)}): measure the thresholds again.") from error
    if not isinstance(content, dict) or content.get("kind") not in KINDS or not isinstance(content.get("data"), dict):
        raise DeftError(f"{path} is not a thresholds.json of deft_lightning: give one that it has written.")
    if content.get("schema_version") != SCHEMA_VERSION:
        raise DeftError(
            f"{path} has schema {content.get('schema_version')!r}, and this version reads {SCHEMA_VERSION}: "
            "measure the thresholds again."
        )
    if content["kind"] != kind:
        raise DeftError(f"{path} is of kind {content['kind']}: give a file of kind {kind}.")
    if finished and not content.get("finished"):
        raise DeftError(f"{path} is not finished: continue its measurement with resume={path.parent}.")
    return content
