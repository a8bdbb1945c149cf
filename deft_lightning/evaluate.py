"""`python -m deft_lightning.evaluate <run folders> metrics=full`: add scores to finished runs, from their checkpoints.

Missing scores are added to the last stage; scores that results.json has already are kept. Runs that differ only in
their seed also get their UDR, a score for choosing a model without labels.

`python -m deft_lightning.evaluate codes.csv --factors labels.csv metrics=full`: score codes that any model computed,
and write a results.json that the report takes as a method of its own.
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
from deft_lightning.common.errors import DeftError, first_line

if TYPE_CHECKING:
    from deft_lightning.evaluation.scores import Settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status, 1 when a run could not be scored."""
    parser = argparse.ArgumentParser(
        prog="python -m deft_lightning.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = "run folder | codes.csv, .npz or .h5 | metrics=full | metrics.field=value"
    parser.add_argument("runs", nargs="+", metavar=what)
    parser.add_argument("--device", help="of torch, for runs (default: cuda where there is one, else cpu)")
    codes = parser.add_argument_group("for codes from a file")
    codes.add_argument("--factors", help="a .csv, .npz, .npy or .h5 file, or names of columns of the codes: a,b,c")
    codes.add_argument("--method", help="name in tables and figures (default: that of the file)")
    codes.add_argument("--data", default="codes", help="name of the data set (default: codes)")
    codes.add_argument("--seed", type=int, default=0, help="of the model (default: 0)")
    codes.add_argument("--out", type=Path, help="folder of results.json (default: outputs/codes/<name of the file>)")
    options = parser.parse_intermixed_args(arguments)
    overrides = [word for word in options.runs if re.match(r"metrics(\.\w+)?=", word)]
    patterns = [word for word in options.runs if word not in overrides]
    # Without --factors, files among several words are those beside run folders, as a shell expands <folder>/*.
    if options.factors or (len(patterns) == 1 and patterns[0].endswith((".csv", ".tsv", ".npz", ".h5"))):
        return run_command(lambda: _evaluate_codes(patterns, overrides, options))
    return run_command(lambda: _evaluate(patterns, overrides, options.device))


def _evaluate(patterns: list[str], overrides: list[str], device: str | None) -> int:
    # --help imports no torch
    from deft_lightning.common import devices  # noqa: PLC0415
    from deft_lightning.training import rescore  # noqa: PLC0415

    settings = _settings(overrides)
    set_by_user = [override.partition("=")[0].removeprefix("metrics.") for override in overrides]
    return int(rescore.rescore_all(_folders(patterns), settings, devices.choose(device), set_by_user) > 0)


def _evaluate_codes(words: list[str], overrides: list[str], options: argparse.Namespace) -> int:
    from deft_lightning.evaluation.external import score_file  # noqa: PLC0415

    if len(words) != 1:
        raise DeftError(f"--factors is given with {len(words)} files or folders: give one file of codes.")
    path = Path(words[0])
    if not options.factors:
        raise DeftError(f"--factors is missing: give a file of factors, or names of columns of {path}.")
    folder = options.out or Path("outputs", "codes", path.stem)
    about = {"method": options.method or path.stem, "data": options.data, "seed": options.seed}
    scored, notices = score_file(path, options.factors, _settings(overrides), folder, **about)
    for notice in notices:
        print(notice)
    for name, value in scored.scores.items():
        low, high = scored.intervals.get(name, (None, None))
        print(f"{name:24} {value:.3f}" + ("" if low is None else f"  [{low:.3f}, {high:.3f}]"))
    print(folder / results.FILE)
    return 0


def _settings(overrides: list[str]) -> Settings:
    """The `metrics` part of the configuration, metrics=full unless another is chosen."""
    from deft_lightning.evaluation.scores import Settings  # noqa: PLC0415
    from deft_lightning.training import config  # noqa: PLC0415

    chosen = any(override.startswith("metrics=") for override in overrides)
    try:
        with initialize_config_dir(str(config_folder()), version_base="1.3"):
            cfg = compose("config", overrides=[*([] if chosen else ["metrics=full"]), *overrides])
    except (HydraException, OmegaConfBaseException) as error:
        given = " ".join(overrides)
        raise DeftError(f"{given} cannot be used ({first_line(error)}): use metrics=fast, paper or full.") from error
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
