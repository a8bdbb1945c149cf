"""Shared by the commands that Hydra configures: compose the configuration, run the task, report errors in one line."""

from __future__ import annotations

import argparse
import os
import re
import sys
from difflib import get_close_matches
from pathlib import Path

import hydra
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from deft_lightning.common.conf import config_folder
from deft_lightning.common.console import (
    file_error,
    look_in_current_folder,
    print_error,
    read_arguments,
    survive_closed_output,
)
from deft_lightning.common.errors import DeftError
from deft_lightning.launch.job import Job, Task
from deft_lightning.launch.sweep import SweepFolder, report
from deft_lightning.training import run_folder

EXTRAS = {"hydra_joblib_launcher": "sweeps", "hydra_submitit_launcher": "sweeps", "hydra_ray_launcher": "ray"}
"""The extra of this package that installs a Hydra plugin."""


def run_task(task: Task, config_name: str = "config") -> None:
    """Compose conf/<config_name>.yaml with the command line, and call `task` with it and the run folder.

    An error of the user is printed as one line, with exit status 1. A sweep ends with a table of its jobs; its exit
    status is 1 unless all of them have finished.
    """
    survive_closed_output()
    read_arguments()
    look_in_current_folder()
    SweepFolder.current = None
    try:
        _run(task, config_name)
    except DeftError as error:
        print_error(error)
        sys.exit(1)
    finally:
        complete = SweepFolder.current is None or report(SweepFolder.current, SweepFolder.planned)
    if not complete:
        sys.exit(1)


def _run(task: Task, config_name: str) -> None:
    """Let Hydra compose the configuration and call the job or jobs; raises `DeftError` with one sentence."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises its errors instead of printing them
    job = Job(task)
    try:
        hydra.main(version_base="1.3", config_path=str(config_folder()), config_name=config_name)(job)()
    except DeftError:
        raise
    except (HydraException, OmegaConfBaseException) as error:
        raise DeftError(one_line(error)) from error
    except OSError as error:
        if job.folder is not None:
            sentence = file_error(error)
        else:  # Hydra makes the run folder
            file = error.filename or "a file"
            sentence = f"{file} cannot be written ({error.strerror or error}): choose another folder."
        if sentence is None:
            raise
        raise DeftError(sentence) from error
    except KeyboardInterrupt as error:
        single = SweepFolder.current is None
        if single and (job.folder is None or not run_folder.last_checkpoint(job.folder).is_file()):
            raise DeftError("interrupted before the first checkpoint: start it again.") from error
        option = "resume=true" if single else "sweep.resume=true"
        raise DeftError(f"interrupted: {option} continues from the last checkpoint.") from error
    except Exception as error:
        if SweepFolder.current is None:
            raise
        # Jobs handle their own errors: a process died, or the cluster refused the jobs.
        plugin = re.match(r"Unknown plugin class : 'hydra_plugins\.(\w+)", str(error))
        if plugin and plugin.group(1) in EXTRAS:
            extra = EXTRAS[plugin.group(1)]
            raise DeftError(f"{plugin.group(1)} is not installed: pip install 'deft-lightning[{extra}]'.") from error
        reason = next(iter(str(error).strip().splitlines()), "")
        raise DeftError(f"the launcher failed ({type(error).__name__}: {reason}).") from error


def one_line(error: Exception) -> str:
    """Hydra's message as one sentence; a mistyped name comes with the nearest valid one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[:1])
    if isinstance(error, OverrideParseException):
        return (
            f"the override {error.override!r} cannot be read ({text}): check its quotes and brackets; a value "
            f"with spaces needs quotes of its own, as in \"data.path='my images.npz'\"."
        )
    missing = re.search(r"(?:Could not find|Could not load) '?([\w/\-.]+)'?", str(error))
    wrong_key = re.search(r"Could not override '([\w.]+)'", str(error))
    if missing:
        group, _, name = missing.group(1).rpartition("/")
        names = sorted({path.stem for root in _roots() for path in (root / group).glob("[!_]*.yaml")})
        return f"there is no {missing.group(1)!r}: choose one of {', '.join(names)}.{_suggestion(name, names)}"
    if wrong_key:
        return _wrong_key(wrong_key.group(1))
    return text


def _roots() -> list[Path]:
    """conf/ and the folder of --config-dir, where one is given."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config-dir", "-cd", type=Path)
    given = parser.parse_known_args(sys.argv[1:])[0].config_dir
    return [config_folder(), *([given] if given else [])]


def _wrong_key(key: str) -> str:
    """One sentence for an override of a field that the composed configuration does not have."""
    if (config_folder() / key).is_dir():
        return f"{key} is not chosen by default: write +{key}=<name>."
    fields = sorted(_field_names())
    if key in fields:
        return f"{key!r} is not a field of the {key.partition('.')[0]} that is chosen: --cfg job shows its fields."
    suggestion = _suggestion(key, fields) or " --cfg job shows the fields."
    return f"{key!r} is not a field of the configuration.{suggestion}"


def _suggestion(name: str, names: list[str]) -> str:
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def _field_names() -> set[str]:
    """Dotted names of every field in conf/, for suggestions."""
    fields: set[str] = set()
    for path in config_folder().glob("*/*.yaml"):
        if path.parent.name in ("experiment", "hydra"):
            continue
        content = OmegaConf.load(path)
        if isinstance(content, DictConfig):
            fields |= {f"{path.parent.name}.{key!s}" for key in content if key not in ("_target_", "defaults")}
    top = OmegaConf.load(config_folder() / "config.yaml")
    return fields | {str(key) for key in top if key != "defaults"}  # type: ignore[union-attr]
