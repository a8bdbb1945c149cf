"""Data-parallel training with `trainer=ddp`: the process of the run starts and watches the training processes."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rich
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities.rank_zero import rank_zero_only
from rich.logging import RichHandler
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure, record
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from deft_lightning.common import console, results
from deft_lightning.common.errors import DeftError, Diverged, Incomplete, Interrupted
from deft_lightning.common.signals import stop_signals

Fit = Callable[..., None]

ENDS = (Interrupted, Incomplete, Diverged, DeftError)
"""Exceptions that may end a process, in order of precedence: the first that occurs is the reason of the run."""


def processes(cfg: DictConfig) -> int:
    """How many processes train the run: `trainer.devices` if `trainer.strategy` is set, else one.

    Raises `DeftError` when `trainer.devices` is not a number, or does not divide the batch size.
    """
    devices = OmegaConf.select(cfg, "trainer.devices")
    if OmegaConf.select(cfg, "trainer.strategy") is None:
        if devices not in (1, None):
            raise DeftError(f"trainer.devices is {devices!r}: for one run on several, use trainer=ddp with the number.")
        return 1
    if not isinstance(devices, int) or isinstance(devices, bool) or devices < 1:
        raise DeftError(f"trainer.devices is {devices!r}: give the number of processes that train the run.")
    if cfg.batch_size % devices:
        raise DeftError(f"batch_size is {cfg.batch_size}: give a multiple of trainer.devices, which is {devices}.")
    return devices


def is_main() -> bool:
    """Whether this process writes files: it is the only one, or the first of several."""
    return getattr(rank_zero_only, "rank", 0) == 0


def fit(function: Fit, count: int, cfg: DictConfig, folder: Path, *arguments: Any) -> None:
    """Call `function(cfg, folder, *arguments)` in `count` processes at once, which connect as those of torchrun do.

    Signals are passed on to all of them. Raises `Interrupted` when they have stopped after a signal. When one of them
    raises a `DeftError`, stops the others and raises it.
    """
    log_files = [str(h.baseFilename) for h in logging.getLogger().handlers if isinstance(h, logging.FileHandler)]
    for name in ("torch.distributed.elastic", "torch.multiprocessing"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # their report of a failure fills the screen
    listened = stop_signals()
    before = {number: signal.getsignal(number) for number in listened}
    launch = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=folder.name,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        local_addr="localhost",
        signals_to_handle=",".join(number.name for number in listened),
        shutdown_timeout=600,  # seconds for the current step or evaluation, and a checkpoint
    )
    container = OmegaConf.to_container(cfg, resolve=True)
    try:
        elastic_launch(launch, _process)(function, container, folder, log_files, arguments)
    except ChildFailedError as error:
        raise _failure(error) from error
    except SignalException as error:
        raise Interrupted(results.read(folder).get("reason") or str(error), error.sigval) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@record
def _process(function: Fit, container: Any, folder: Path, log_files: list[str], arguments: tuple[Any, ...]) -> None:
    """Run one of the processes: the first prints and writes files, the others do neither."""
    # Lightning was imported before the rank was known.
    rank_zero_only.rank = int(os.environ["RANK"])  # type: ignore[attr-defined]
    os.setpgrp()  # Ctrl-C reaches only the watching process, which passes it on once
    signal.signal(signal.SIGUSR2, lambda number, frame: None)  # training sets its own handler
    console.survive_closed_output()
    console.quieten()
    if is_main():
        file_handlers = [logging.FileHandler(path) for path in log_files]
        for handler in file_handlers:
            handler.setFormatter(logging.Formatter("[%(asctime)s][%(name)s][%(levelname)s] %(message)s"))
        screen = RichHandler(show_time=False, show_level=False, show_path=False)
        logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[screen, *file_handlers])
    else:
        rich.reconfigure(quiet=True)
    function(OmegaConf.create(container), folder, *arguments)


def _failure(error: ChildFailedError) -> DeftError:
    """The exception of the process that failed; that the others lost the connection to it is not the reason."""
    messages = [_message(failure) for failure in error.failures.values()]
    for kind in ENDS:
        names = _names(kind)
        for message in messages:
            name, _, sentence = message.partition(": ")
            if name in names:
                return kind(sentence)
    _, first = error.get_first_failure()
    return DeftError(f"{_message(first)} (process {first.local_rank})")


def _names(kind: type[DeftError]) -> set[str]:
    """The names of an exception and of all that derive from it."""
    return {kind.__name__}.union(*map(_names, kind.__subclasses__()))


def _message(failure: ProcessFailure) -> str:
    """ "Type: text" of the exception that ended a process, or the name of the signal."""
    message: Any = failure.message
    return str(message["message"]) if isinstance(message, dict) else str(message)
