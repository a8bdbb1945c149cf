"""Commands that run in this process and in the working folder, and the small runs they train."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any
from unittest import mock

import pytorch_lightning as pl
from omegaconf import OmegaConf

from deft_lightning import __main__
from deft_lightning.launch.sweep import SweepFolder, jobs
from tests.helpers import PLAIN, TINY

REPOSITORY = Path(__file__).parents[2]
QUICK = (*TINY, *PLAIN, "~callbacks.kl_decomposition", "schedule.epochs=[0.1,0.1,0.1,0.1]")
"""Overrides of a run of five steps."""
Main = Callable[[], None]


def run_main(main: Main, *arguments: str) -> tuple[int, str, str]:
    """Call `main` with a command line; returns the exit status, stdout and stderr."""
    OmegaConf.clear_cache(OmegaConf.create())
    out, err, argv = StringIO(), StringIO(), ["deft_lightning", *arguments]
    with redirect_stdout(out), redirect_stderr(err), mock.patch.object(sys, "argv", argv):
        status: Any = 0
        try:
            main()
        except SystemExit as stop:
            status = stop.code
    return status, out.getvalue(), err.getvalue()


def command(*arguments: str) -> tuple[int, str]:
    """Run `python -m deft_lightning`; returns the exit status and its lines that begin with "error:"."""
    status, _, err = run_main(__main__.main, *arguments)
    return status, "\n".join(line for line in err.splitlines() if line.startswith("error:"))


def sweep(*arguments: str, main: Main = __main__.main) -> tuple[int, str, dict[str, dict]]:
    """Run `python -m deft_lightning --multirun`; returns the exit status, what it printed, and the jobs by folder."""
    status, out, err = run_main(main, "--multirun", *arguments)
    folder = SweepFolder.current
    return status, out + err, {} if folder is None else jobs(folder)


class Fault(pl.Callback):
    """Raises an error or sends a signal at a step, as long as the working folder holds a file `trouble`."""

    def __init__(self, step: int, how: str) -> None:
        self.step, self.how = step, how

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.global_step == self.step and Path("trouble").exists():
            if self.how == "raise":
                raise RuntimeError("a cosmic ray")
            os.kill(os.getpid(), getattr(signal, self.how))


def fault(step: int, how: str) -> tuple[str, ...]:
    """Overrides that add a `Fault`."""
    return ("+callbacks.fault._target_=tests.launch.running.Fault", f"+callbacks.fault.step={step}",
            f"+callbacks.fault.how={how}")  # fmt: skip
