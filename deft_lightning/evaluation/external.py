"""Scores of codes that any program computed, written as the results of a run that the report can compare."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

import torch

from deft_lightning.common import console, results
from deft_lightning.common.errors import DeftError
from deft_lightning.common.method import Method
from deft_lightning.common.results import Status
from deft_lightning.evaluation import tables
from deft_lightning.evaluation.scores import Scored, Settings
from deft_lightning.evaluation.sources import sample_rows, score_codes
from deft_lightning.metrics import max_nmi, nmi
from deft_lightning.model.networks import Posterior

STAGE = "stage_1"


def score_file(
    path: Path, factors: str, settings: Settings, folder: Path, *, method: str, data: str, seed: int
) -> tuple[Scored, list[str]]:
    """Score the codes in `path`, write results.json to `folder`, and return the scores and sentences for the user.

    Args:
        path: the codes, see `tables.read`.
        factors: a file, or names of columns of the codes, see `tables.read`.
        settings: of the metrics.
        folder: where results.json is written; it may hold earlier scores of the same codes.
        method: its name in tables and figures.
        data: name of the data set.
        seed: of the model.

    Raises:
        DeftError: as `tables.read` does, and when `folder` holds other results.
    """
    table = tables.read(path, factors)
    digest = results.digest(
        {
            "codes": hashlib.sha256(path.read_bytes()).hexdigest(),
            "factors": hashlib.sha256(table.factors.tobytes()).hexdigest(),
            "names": list(table.factor_names),
            "metrics": {name: getattr(settings, name) for name in ("num_points", "num_test", "bins", "seed")},
            "method": method,
            "data": data,
            "seed": seed,
        }
    )
    previous = results.read(folder)
    if previous and previous.get("config_digest") != digest:
        raise DeftError(
            f"{folder} holds the results of other codes, factors or settings, or of a run: choose another folder "
            "with --out."
        )
    scored = score_codes(settings.names, settings, table.codes, table.factors)
    stage = _stage(table, settings, scored)
    folder.mkdir(parents=True, exist_ok=True)
    results.update(
        folder,
        status=Status.FINISHED,
        reason=None,
        name=method,
        method=Method(method, name=method).record(),
        seed=seed,
        config_digest=digest,
        command=console.command_line(),
        started=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        versions=results.versions(),
        data=_description(table, data),
        stages={STAGE: stage},
    )
    without = "reconstruction" if table.log_variance is not None else "reconstruction and kl"
    return scored, [*table.notices, f"Without the model there is no score of {without}."]


def _stage(table: tables.Table, settings: Settings, scored: Scored) -> dict[str, Any]:
    """What results.json holds of a stage, from the rows that are scored.

    The KL is added to the scores where the log variances are known.
    """
    rows, _ = sample_rows(len(table.codes), settings)
    names, matrix = table.factor_names, nmi(table.codes[rows], table.factors[rows], settings.bins)  # [D, K]
    record: dict[str, Any] = {
        "step": 0,
        "nmi": matrix.tolist(),
        "max1_nmi": dict(zip(names, max_nmi(matrix, 1).tolist(), strict=True)),
        "max2_nmi": dict(zip(names, max_nmi(matrix, 2).tolist(), strict=True)),
    }
    if table.log_variance is not None:
        means, log_variances = (torch.as_tensor(part[rows]) for part in (table.codes, table.log_variance))
        kl = Posterior(means, log_variances).kl().numpy()  # [N, D]
        scored.add_means(settings, kl=kl.sum(axis=1))
        record["kl_per_latent"] = kl.mean(axis=0).tolist()
    return record | scored.record()


def _description(table: tables.Table, data: str) -> dict[str, Any]:
    """What results.json holds of the data."""
    return {
        "name": data,
        "source": "codes",
        "images": len(table.codes),
        "factors": list(table.factor_names),
        "factor_sizes": [int(size) + 1 for size in table.factors.max(axis=0)],
        "notices": list(table.notices),
    }
