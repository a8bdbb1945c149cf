"""`python -m deft_lightning`: train one run, or with --multirun a sweep.

python -m deft_lightning +experiment=color_dsprites seed=1 scale=quick
"""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from deft_lightning.launch.cli import run_task


def _train(cfg: DictConfig, folder: Path) -> None:
    from deft_lightning.training import run  # noqa: PLC0415  # --help, --cfg and tab completion import no torch

    run.train(cfg, folder)


def main() -> None:
    """Train the run or the sweep that the command line describes."""
    run_task(_train)


if __name__ == "__main__":
    main()
