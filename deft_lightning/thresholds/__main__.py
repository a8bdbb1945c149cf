"""`python -m deft_lightning.thresholds [spectrum | factors | propose | later]`: information thresholds.

python -m deft_lightning.thresholds +experiment=dsprites schedule.steps=10000
python -m deft_lightning.thresholds spectrum +experiment=dsprites
python -m deft_lightning.thresholds factors +experiment=dsprites repeats=50
python -m deft_lightning.thresholds propose +experiment=color_dsprites n=5
python -m deft_lightning.thresholds later <run folder> --fall 3000
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from deft_lightning.common.console import run_command
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


def _later(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m deft_lightning.thresholds later",
        description="Where the next latent opens after each stage of a run, from what its model leaves unexplained.",
    )
    parser.add_argument("run", type=lambda text: Path(text).expanduser(), help="the run folder")
    parser.add_argument(
        "--fall",
        type=int,
        metavar="STEPS",
        help="also go on training after each stage while the pressure falls to 1 in so many steps, and look",
    )
    parser.add_argument("--trust", action="store_true", help="import what the run uses from outside this package")
    options = parser.parse_args(arguments)

    def command() -> None:
        from deft_lightning.thresholds import later  # noqa: PLC0415

        later.run(options.run, options.fall, options.trust)

    return run_command(command)


def main() -> None:
    """Run the command that the first argument names; without one, the anneal test."""
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    if word == "later":
        sys.exit(_later(sys.argv[2:]))
    if word in COMMANDS:
        del sys.argv[1]  # the other arguments are for Hydra
        run_task(*COMMANDS[word])
    elif word.isidentifier():
        sys.exit(f"error: {word!r} is not a command: use {', '.join(COMMANDS)}, later, or none for the anneal test.")
    else:
        run_task(_anneal, "thresholds")


if __name__ == "__main__":
    main()
