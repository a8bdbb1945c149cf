"""`python -m deft_lightning.dashboard --entity E --project P`: create a W&B workspace with the panels of the study.

Runs are grouped by data set, scale and method; every panel shows the mean and spread of a group. Each call creates a
new workspace and leaves existing ones as they are.
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

from deft_lightning.common.console import run_command
from deft_lightning.common.errors import DeftError, first_line
from deft_lightning.training import wandb_server
from deft_lightning.training.logged_keys import KEYS, LoggedKey

NAME = "DEFT study"
STEP = "trainer/global_step"
GROUPED_BY = ("data_set", "scale.name", "method")
"""Fields of the W&B configuration of a run."""


class Section(NamedTuple):
    """A section of panels, one for each logged key that starts with one of `prefixes`.

    With `bars` a panel shows the last value as a bar; otherwise it shows the value over steps as a line.
    """

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
    Section("Loss parts on held-out images", ("validation/",)),
    Section("KL decomposition", ("kl_decomposition/",)),
    Section("Schedule", ("stage", "pressure", "capacity", "active_group", "learning_rate/")),
    Section("Information thresholds", ("thresholds/",), columns=1),
    Section("Scores by stage", ("score/",)),
)

WITHOUT_PANEL = ("step", STEP, "epoch", "nmi/latent_<latent>/<factor>")
"""Keys that are axes, or so many that the heat map shows them instead of lines."""


def workspace(entity: str, project: str) -> Any:
    """The workspace of the study, whose `save` sends it to the server; needs the extra `dashboard`."""
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

    Raises `DeftError` if the extra is not installed, no API key is configured, or the server cannot be reached or
    refuses.
    """
    if importlib.util.find_spec("wandb_workspaces") is None:
        raise DeftError("wandb-workspaces is not installed: pip install 'deft-lightning[dashboard]'.")
    if not wandb_server.has_api_key():
        raise DeftError("no W&B API key is configured: run wandb login, or set WANDB_API_KEY.")
    server = wandb_server.server()
    try:
        requests.get(server, timeout=10)  # wandb itself retries for minutes and does not say why
    except requests.RequestException as error:
        raise DeftError(
            f"the W&B server {server} cannot be reached ({type(error).__name__}): check the network, or WANDB_BASE_URL."
        ) from error
    study = workspace(entity, project)
    try:
        return study.save().url
    except Exception as error:  # errors of wandb, or of its background process
        raise DeftError(
            f"{server} refused the workspace ({first_line(error)}): check the API key, and that it may write to the "
            f"project {entity}/{project}."
        ) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m deft_lightning.dashboard", description=__doc__)
    parser.add_argument("--entity", required=True, help="the W&B user or team that owns the project")
    parser.add_argument("--project", required=True, help="the W&B project of the runs (logger.wandb.project)")
    options = parser.parse_args(arguments)
    os.environ.setdefault("WANDB_SILENT", "true")
    return run_command(lambda: print(create(options.entity, options.project)))


if __name__ == "__main__":
    sys.exit(main())
