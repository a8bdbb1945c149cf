"""`python -m deft_lightning`: compose the configuration, then `run.train`.

python -m deft_lightning +experiment=color_dsprites seed=1 scale=quick
"""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from deft_lightning.launch.cli import run_task


def _train(cfg: DictConfig, folder: Path) -> None:
    from deft_lightning.training import run  # noqa: PLC0415  # slow to import, and not needed to look at a configuration

    run.train(cfg, folder)


def main() -> None:
    """Train what the command line says."""
    run_task(_train)


if __name__ == "__main__":
    main()
