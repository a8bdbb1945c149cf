"""`python -m deft_lightning.evaluate <run folders> metrics=full`: add scores to finished runs, from their checkpoints.

Missing scores are added to the last stage; scores that results.json has already are kept. Runs that differ only in
their seed also get their UDR, a score for choosing a model without labels.
"""

from __future__ import annotations

import argparse
import glob
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from deft_lightning.common import results
from deft_lightning.common.conf import config_folder
from deft_lightning.common.console import run_command
from deft_lightning.common.errors import DeftError

if TYPE_CHECKING:
    from deft_lightning.evaluation.scores import Settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status, 1 when a run could not be scored."""
    parser = argparse.ArgumentParser(prog="python -m deft_lightning.evaluate", description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="run folder | metrics=full | metrics.field=value")
    parser.add_argument("--device", help="of torch (default: cuda where there is one, else cpu)")
    options = parser.parse_args(arguments)
    overrides = [word for word in options.runs if re.match(r"metrics(\.\w+)?=", word)]
    patterns = [word for word in options.runs if word not in overrides]
    return run_command(lambda: _evaluate(patterns, overrides, options.device))


def _evaluate(patterns: list[str], overrides: list[str], device: str | None) -> int:
    import torch  # noqa: PLC0415  # --help imports no torch

    from deft_lightning.training import rescore  # noqa: PLC0415

    settings = _settings(overrides)
    set_by_user = [override.partition("=")[0].removeprefix("metrics.") for override in overrides]
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return int(rescore.rescore_all(_folders(patterns), settings, device, set_by_user) > 0)


def _settings(overrides: list[str]) -> Settings:
    """The `metrics` part of the configuration, metrics=full unless another is chosen."""
    from deft_lightning.evaluation.scores import Settings  # noqa: PLC0415
    from deft_lightning.training import config  # noqa: PLC0415

    chosen = any(override.startswith("metrics=") for override in overrides)
    try:
        with initialize_config_dir(str(config_folder()), version_base="1.3"):
            cfg = compose("config", overrides=[*([] if chosen else ["metrics=full"]), *overrides])
    except (HydraException, OmegaConfBaseException) as error:
        reason = str(error).splitlines()[0]
        raise DeftError(f"{' '.join(overrides)} cannot be used ({reason}): use metrics=fast, paper or full.") from error
    config.check_metrics(cfg)
    return Settings(**config.to_plain(cfg, "metrics"))


def _folders(patterns: list[str]) -> list[Path]:
    """Run folders that match a pattern or lie inside a folder that does; files, such as multirun.yaml, are skipped."""
    folders: dict[Path, None] = {}
    for pattern in patterns:
        matches = [Path(match) for match in sorted(glob.glob(pattern))]  # Path.glob takes no absolute patterns
        within = [path.parent for match in matches for path in sorted(match.rglob(results.FILE))]
        if not within and not any(match.is_file() for match in matches):
            raise DeftError(f"there is no run in {pattern}: give run folders, or the folder of a sweep.")
        folders |= dict.fromkeys(within)
    if not folders:
        given = f"there is no run in {' '.join(patterns)}" if patterns else "no run folder is given"
        raise DeftError(f"{given}: name some, as in outputs/color_dsprites/*.")
    return list(folders)


if __name__ == "__main__":
    sys.exit(main())
