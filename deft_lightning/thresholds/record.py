"""thresholds.json: what anneal tests found, written whole or not at all.

    kind          "anneal" (one test), "factors" (Fig. 6) or "proposal" (pressures without labels)
    schema_version, finished (false while a longer measurement is under way)
    data          as in results.json: name, images, shape, source, factors, ...
    settings      beta_high, steps, batch_size, lr, limit (nats), window (steps), and seed (anneal)
    notices       sentences the user must see

"anneal" has `threshold`, {pressure, step} or null where KL never stays above the limit; `latent_thresholds`, a
pressure or null for each latent; and `curves`, a list of one: step, beta, reconstruction, kl and kl_per_latent
(a list of D for each step), thinned to at most 500 points.

"factors" has `factors`, {name: one threshold for each subset, null where never crossed}; `images`, {name: images in
a subset}; `repeats`; `pressures`, those of the experiment's schedule, to be drawn beside them, or null.

"proposal" has `seeds`; `threshold` and `latent_thresholds`, both a list over seeds of what "anneal" has; `curves`,
one for each seed; and `proposal`, {epochs, pressures, steps, stable, stages: [{pressure, thresholds, ...}]}, see
`deft_lightning.thresholds.rule`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from deft_lightning.common import files
from deft_lightning.common.errors import DeftError

SCHEMA_VERSION = 1
FILE = "thresholds.json"
KINDS = ("anneal", "factors", "proposal")


def write(folder: Path, content: dict[str, Any]) -> Path:
    """Write thresholds.json of a run folder; raises `DeftError` where that cannot be."""
    path = folder / FILE
    try:
        files.write_text(path, json.dumps({"schema_version": SCHEMA_VERSION, **content}, indent=1) + "\n")
    except OSError as error:
        raise DeftError(f"{path} cannot be written ({error}): make room, then resume.") from error
    return path


def read(path: str | Path, kind: str, finished: bool = True) -> dict[str, Any]:
    """The content of a thresholds.json of one kind; `path` may be the folder that holds it.

    Raises `DeftError` when it is not there, is damaged, of another schema or of another kind, or not finished
    although it should be.
    """
    path = Path(path).expanduser()
    path = path / FILE if path.is_dir() else path
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise DeftError(
            f"there is no {path}: give the thresholds.json that python -m deft_lightning.thresholds wrote."
        ) from error
    except (OSError, ValueError) as error:
        raise DeftError(f"{path} is damaged ({str(error).splitlines()[0]}): measure the thresholds again.") from error
    if not isinstance(content, dict) or content.get("kind") not in KINDS or not isinstance(content.get("data"), dict):
        raise DeftError(f"{path} is not a thresholds.json of deft_lightning: give one that it wrote.")
    if content.get("schema_version") != SCHEMA_VERSION:
        raise DeftError(
            f"{path} has schema {content.get('schema_version')!r} and this version reads {SCHEMA_VERSION}: "
            "measure the thresholds again."
        )
    if content["kind"] != kind:
        raise DeftError(f"{path} holds {content['kind']} thresholds, and a file of kind {kind} is needed here.")
    if finished and not content.get("finished"):
        raise DeftError(f"{path} is not finished: go on with that measurement by resume={path.parent}.")
    return content
