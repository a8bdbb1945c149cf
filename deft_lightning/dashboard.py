"""`python -m deft_lightning.dashboard --entity E --project P`: a W&B workspace with the panels of the study.

Runs are grouped by data set, scale and method, so that every panel shows a group's mean and spread. Each call makes a
new workspace, and changes none that is there.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import requests

from deft_lightning.common.errors import DeftError
from deft_lightning.training import loggers
from deft_lightning.training.logged_keys import KEYS, LoggedKey

NAME = "DEFT study"
STEP = "trainer/global_step"
GROUPED_BY = ("data_set", "scale.name", "method")
"""Fields of the W&B configuration."""


class Section(NamedTuple):
    """A section takes the keys that begin with one of `prefixes`; `bars` show the last value instead of all steps."""

    name: str
    prefixes: tuple[str, ...]
    bars: bool = False
    is_open: bool = False
    columns: int = 3


SECTIONS = (
    Section("Scores by method", ("score/",), bars=True, is_open=True),
    Section("NMI of latents and factors", ("nmi/",), is_open=True),
    Section("Traversals", ("traversals", "reconstructions"), is_open=True, columns=1),
    Section("Loss parts", ("train/",), is_open=True),
    Section("KL decomposition", ("kl_decomposition/",)),
    Section("Schedule", ("stage", "pressure", "capacity", "active_group", "learning_rate/")),
    Section("Information thresholds", ("thresholds/",), columns=1),
    Section("Scores by stage", ("score/",)),
)

WITHOUT_PANEL = ("step", STEP, "epoch", "nmi/latent_<latent>/<factor>")
"""Axes, and lines in such numbers that the heat map has to show them."""


def workspace(entity: str, project: str) -> Any:
    """The `wandb_workspaces` workspace of the study, which `save` sends; needs the extra `dashboard` and no server."""
    import wandb_workspaces.workspaces as ws  # noqa: PLC0415  # optional, and slow to import

    sections = []
    for section in SECTIONS:
        keys = [key for key in KEYS if key.pattern.startswith(section.prefixes) and key.pattern not in WITHOUT_PANEL]
        layout = ws.SectionLayoutSettings(columns=section.columns, rows=math.ceil(len(keys) / section.columns))
        panels = [_panel(key, section.bars) for key in keys]
        sections.append(ws.Section(name=section.name, panels=panels, is_open=section.is_open, layout_settings=layout))
    return ws.Workspace(
        entity=entity,
        project=project,
        name=NAME,
        sections=sections,
        settings=ws.WorkspaceSettings(x_axis=STEP, max_runs=100),
        runset_settings=ws.RunsetSettings(groupby=[ws.Config(field) for field in GROUPED_BY]),
    )


def _panel(key: LoggedKey, bar: bool) -> Any:
    import wandb_workspaces.reports.v2 as wr  # noqa: PLC0415  # optional, and slow to import

    if key.is_image:
        return wr.MediaBrowser(title=key.pattern, media_keys=[key.pattern], grid_x_axis="step", grid_y_axis="run")
    spread: dict[str, Any] = {"groupby_aggfunc": "mean", "groupby_rangefunc": "stddev"}
    if bar:
        return wr.BarPlot(title=key.pattern, metrics=[key.pattern], title_x=key.unit, **spread)
    of_key: dict[str, Any] = {"metric_regex": key.regex} if key.is_family else {"y": [key.pattern]}
    return wr.LinePlot(title=key.pattern, x=STEP, title_y=key.unit, **of_key, **spread)


def create(entity: str, project: str) -> str:
    """Send the workspace to the W&B server; returns its address.

    Raises `DeftError` when the extra is not installed, no API key is configured, the server cannot be reached, or it
    refuses.
    """
    if importlib.util.find_spec("wandb_workspaces") is None:
        raise DeftError("the dashboard needs wandb-workspaces: pip install 'deft-lightning[dashboard]'.")
    if not loggers.has_api_key():
        raise DeftError("no W&B API key is configured: run wandb login, or set WANDB_API_KEY.")
    server = loggers.wandb_server()
    try:
        requests.get(server, timeout=10)  # wandb itself tries for minutes, and does not say what was wrong
    except requests.RequestException as error:
        raise DeftError(
            f"the W&B server {server} cannot be reached ({type(error).__name__}): check the network, or WANDB_BASE_URL."
        ) from error
    study = workspace(entity, project)
    try:
        return study.save().url
    except Exception as error:  # wandb's own errors, and others from the process that speaks for it
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise DeftError(
            f"{server} did not take the workspace ({reason}): check the API key, and that {entity}/{project} is a "
            "project it may write to."
        ) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status, 1 with one sentence on stderr for a mistake of the user's."""
    parser = argparse.ArgumentParser(prog="python -m deft_lightning.dashboard", description=__doc__)
    parser.add_argument("--entity", required=True, help="the W&B user or team that owns the project")
    parser.add_argument("--project", required=True, help="the W&B project that the runs are in (logger.wandb.project)")
    given = parser.parse_args(arguments)
    os.environ.setdefault("WANDB_SILENT", "true")
    try:
        print(create(given.entity, given.project))
    except DeftError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
