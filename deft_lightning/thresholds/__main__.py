"""`python -m deft_lightning.thresholds [factors | propose]`: information thresholds and what is built on them.

python -m deft_lightning.thresholds +experiment=dsprites schedule.beta_high=200 schedule.steps=10000
"""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from deft_lightning.cli import run_task


def _anneal(cfg: DictConfig, folder: Path) -> None:
    from deft_lightning import run  # noqa: PLC0415  # slow to import, and not needed to look at a configuration
    from deft_lightning.thresholds import screens  # noqa: PLC0415

    run.train(cfg, folder)
    screens.anneal(folder)


def main() -> None:
    """Run the anneal test, or the command that the first word of the command line names."""
    run_task(_anneal, "thresholds")


if __name__ == "__main__":
    main()
