"""What the entry points share: Hydra composes, the task runs, and every mistake a user can mend is one line."""

from __future__ import annotations

import os
import re
import sys
from difflib import get_close_matches

import hydra
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from deft_lightning.common.conf import config_folder
from deft_lightning.launch.job import Job, Task
from deft_lightning.launch.sweep import SweepFolder, report

EXTRAS = {"hydra_joblib_launcher": "sweeps", "hydra_submitit_launcher": "sweeps", "hydra_ray_launcher": "ray"}
"""The extra of this package that installs a plugin of Hydra's."""


def run_task(task: Task, config_name: str = "config") -> None:
    """Compose conf/<config_name>.yaml with the command line and give it, with the run folder, to `task`.

    A mistake ends in one line and exit status 1. After a sweep there is a table of its jobs, and status 1 unless all
    of them have finished.
    """
    SweepFolder.current = None
    try:
        _run(task, config_name)
    finally:
        complete = SweepFolder.current is None or report(SweepFolder.current)
    if not complete:
        sys.exit(1)


def _run(task: Task, config_name: str) -> None:
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises instead of printing, so that the sentence is ours
    try:
        hydra.main(version_base="1.3", config_path=str(config_folder()), config_name=config_name)(Job(task))()
    except (HydraException, OmegaConfBaseException) as error:
        sys.exit(f"error: {one_line(error)}")
    except BrokenPipeError:  # the reader, such as head, has seen enough
        sys.exit(1)
    except OSError as error:  # Hydra makes the run folder
        sys.exit(f"error: {error.filename or 'a file'} cannot be written ({error.strerror}): choose another folder.")
    except KeyboardInterrupt:
        sys.exit("error: stopped; what was saved is kept, and resume=true goes on from there.")
    except Exception as error:  # jobs keep their failures to themselves: a process died, or a cluster refused
        if SweepFolder.current is None:
            raise
        plugin = re.match(r"Unknown plugin class : 'hydra_plugins\.(\w+)", str(error))
        if plugin and plugin.group(1) in EXTRAS:
            sys.exit(f"error: {plugin.group(1)} is missing: pip install 'deft-lightning[{EXTRAS[plugin.group(1)]}]'.")
        reason = next(iter(str(error).strip().splitlines()), "")
        sys.exit(f"error: the launcher has given up ({type(error).__name__}: {reason}).")


def one_line(error: Exception) -> str:
    """Hydra's message as one sentence, with the nearest name where one was mistyped."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[:1])
    if isinstance(error, OverrideParseException):
        return f"the override {error.override!r} cannot be read ({text}): see the quotes and brackets in it."
    missing = re.search(r"(?:Could not find|Could not load) '?([\w/\-.]+)'?", str(error))
    wrong_key = re.search(r"Could not override '([\w.]+)'", str(error))
    if missing:
        group, _, name = missing.group(1).rpartition("/")
        names = sorted(path.stem for path in (config_folder() / group).glob("*.yaml"))
        where = f"{group}: there are" if group else "there are"
        return f"there is no {missing.group(1)!r}; {where} {', '.join(names)}.{_suggest(name, names)}"
    if wrong_key and (config_folder() / wrong_key.group(1)).is_dir():
        return f"{wrong_key.group(1)} is chosen with a plus sign: write +{wrong_key.group(1)}=<name>."
    if wrong_key:
        fields = list(_field_names())
        if wrong_key.group(1) in fields:
            group = wrong_key.group(1).partition(".")[0]
            return f"{wrong_key.group(1)!r} is a field of another {group} than the one chosen: see --cfg job."
        return f"{wrong_key.group(1)!r} is not a field of the configuration.{_suggest(wrong_key.group(1), fields)}"
    return text


def _suggest(name: str, names: list[str]) -> str:
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else " See them with --cfg job."


def _field_names() -> set[str]:
    """Dotted names of every field in conf/, for suggestions."""
    fields: set[str] = set()
    for path in config_folder().glob("*/*.yaml"):
        if path.parent.name in ("experiment", "hydra"):
            continue
        content = OmegaConf.load(path)
        if isinstance(content, DictConfig):
            fields |= {f"{path.parent.name}.{key!s}" for key in content}
    top = OmegaConf.load(config_folder() / "config.yaml")
    return fields | {str(key) for key in top if key != "defaults"}  # type: ignore[union-attr]
