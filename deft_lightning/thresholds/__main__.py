"""`python -m deft_lightning.thresholds [spectrum | factors | propose]`: information thresholds.

python -m deft_lightning.thresholds +experiment=dsprites schedule.steps=10000
python -m deft_lightning.thresholds spectrum +experiment=dsprites
python -m deft_lightning.thresholds factors +experiment=dsprites repeats=50
python -m deft_lightning.thresholds propose +experiment=color_dsprites n=5
"""

from __future__ import annotations

import sys
from pathlib import Path

from omegaconf import DictConfig

from deft_lightning.launch.cli import run_task

# The commands import what they need themselves: --help, --cfg and tab completion work without torch.


def _anneal(cfg: DictConfig, folder: Path) -> None:
    from deft_lightning.thresholds import summary  # noqa: PLC0415
    from deft_lightning.training import run  # noqa: PLC0415

    run.train(cfg, folder)
    summary.anneal(folder)


def _spectrum(cfg: DictConfig, folder: Path) -> None:
    from deft_lightning.thresholds import spectrum, summary  # noqa: PLC0415

    spectrum.measure(cfg, folder)
    summary.spectrum(folder)


def _factors(cfg: DictConfig, folder: Path) -> None:
    from deft_lightning.thresholds import factors, summary  # noqa: PLC0415

    factors.measure(cfg, folder)
    summary.factors(folder)


def _propose(cfg: DictConfig, folder: Path) -> None:
    from deft_lightning.thresholds import propose, summary  # noqa: PLC0415

    propose.propose(cfg, folder)
    summary.proposal(folder)


COMMANDS = {
    "spectrum": (_spectrum, "thresholds_spectrum"),
    "factors": (_factors, "thresholds_factors"),
    "propose": (_propose, "thresholds_propose"),
}


def main() -> None:
    """Run the command that the first argument names; without one, the anneal test."""
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    if word in COMMANDS:
        del sys.argv[1]  # the other arguments are for Hydra
        run_task(*COMMANDS[word])
    elif word.isidentifier():
        sys.exit(f"error: {word!r} is not a command: use {', '.join(COMMANDS)}, or none for the anneal test.")
    else:
        run_task(_anneal, "thresholds")


if __name__ == "__main__":
    main()
