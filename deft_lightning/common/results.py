"""results.json: what a run was, how far it came, and its scores. Written atomically, readable at any time."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from deft_lightning.common.errors import DeftError

SCHEMA_VERSION = 1
FILE = "results.json"
LIBRARIES = ("torch", "pytorch-lightning", "hydra-core", "numpy", "scikit-learn", "torchmetrics", "wandb")


def read(run_folder: str | Path) -> dict[str, Any]:
    """The results of a run; empty where it has none yet. Raises `DeftError` when the file is damaged."""
    path = Path(run_folder) / FILE
    try:
        results = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DeftError(f"{path} cannot be read ({error}): restore it, or move the run folder away.") from error
    if not isinstance(results, dict):
        raise DeftError(f"{path} is not the results of a run: move the folder away.")
    return results


def update(run_folder: str | Path, **fields: Any) -> None:
    """Set `fields` in results.json; mappings are merged into what is there, to any depth."""
    path = Path(run_folder) / FILE
    results = {"schema_version": SCHEMA_VERSION}
    results.update(read(run_folder))
    write_text(path, json.dumps(_merge(results, fields), indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all: to a temporary file first, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


def digest(config: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal digits that two equal configurations share."""
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()[:16]


def versions() -> dict[str, str]:
    """Versions of Python, this package and the libraries that a score may depend on."""
    found = {"python": platform.python_version(), "deft_lightning": version("deft-lightning")}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found


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
