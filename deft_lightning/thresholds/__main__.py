"""`python -m deft_lightning.thresholds [factors | propose]`: information thresholds and what is built on them.

python -m deft_lightning.thresholds +experiment=dsprites schedule.beta_high=200 schedule.steps=10000
python -m deft_lightning.thresholds factors +experiment=dsprites repeats=50
python -m deft_lightning.thresholds propose +experiment=color_dsprites n=5
"""

from __future__ import annotations

import sys
from pathlib import Path

from omegaconf import DictConfig

from deft_lightning.launch.cli import run_task

# What follows is imported when it is needed: --help, --cfg and tab completion need no torch.


def _anneal(cfg: DictConfig, folder: Path) -> None:
    from deft_lightning.thresholds import screens  # noqa: PLC0415
    from deft_lightning.training import run  # noqa: PLC0415

    run.train(cfg, folder)
    screens.anneal(folder)


def _factors(cfg: DictConfig, folder: Path) -> None:
    from deft_lightning.thresholds import factors, screens  # noqa: PLC0415

    factors.measure(cfg, folder)
    screens.factors(folder)


def _propose(cfg: DictConfig, folder: Path) -> None:
    from deft_lightning.thresholds import propose, screens  # noqa: PLC0415

    propose.propose(cfg, folder)
    screens.proposal(folder)


COMMANDS = {"factors": (_factors, "thresholds_factors"), "propose": (_propose, "thresholds_propose")}


def main() -> None:
    """Run the anneal test, or the command that the first word of the command line names."""
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    if word in COMMANDS:
        del sys.argv[1]  # the rest is Hydra's
        run_task(*COMMANDS[word])
    elif word.isidentifier():
        sys.exit(f"error: there is no command {word!r}; there are {', '.join(COMMANDS)}, or none for the anneal test.")
    else:
        run_task(_anneal, "thresholds")


if __name__ == "__main__":
    main()
