"""The process of a job of `launch.processes`: it runs the job and answers with its score."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import connection
from pathlib import Path
from threading import Thread
from types import FrameType
from typing import Any

from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals

from deft_lightning.common.errors import Interrupted
from deft_lightning.common.signals import stop_signals


@contextmanager
def blocked_signals() -> Iterator[None]:
    """Keep the signals of `stop_signals` waiting, also in a process that is started in the block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def work(payload: bytes, answer: connection.Connection, screen: connection.Connection | None) -> None:
    """Run the job in `payload` and answer with the score that it returns; what it prints goes to `screen`."""
    os.setpgrp()  # Ctrl-C reaches only the launcher, which passes it on once
    if screen is not None:
        for number in (1, 2):
            os.dup2(screen.fileno(), number)
        screen.close()
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # a cluster sends it to every process; the launcher acts on it
    numbers = stop_signals()
    for number in numbers:
        signal.signal(number, _interrupt)  # training sets its own handlers
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [*numbers, signal.SIGUSR2])
        Thread(target=_follow_launcher, daemon=True).start()
        setup_globals()
        context, task, config = pickle.loads(payload)
        returned = run_job(
            hydra_context=context,
            task_function=task,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
        answer.send(_score(returned))
    except (Interrupted, KeyboardInterrupt):  # before the job has begun, or a second Ctrl-C
        sys.exit(1)


def _score(returned: JobReturn) -> Any:
    """The score of a job; None, and a record in its results.json, where the job could not handle its own error."""
    from deft_lightning.launch.job import record_failure  # noqa: PLC0415

    if returned.status == JobStatus.COMPLETED:
        return returned.return_value
    assert returned.cfg is not None
    assert returned.hydra_cfg is not None
    folder = Path(returned.hydra_cfg.hydra.runtime.output_dir)
    record_failure(returned.cfg, folder, returned._return_value)
    return None


def _interrupt(number: int, frame: FrameType | None) -> None:
    name = signal.Signals(number).name
    raise Interrupted(f"the job was stopped by {name}: resume=true continues it.", number)


def _follow_launcher() -> None:
    """Ask the job to stop when the launcher has been killed: nobody would know that it still runs."""
    launcher = multiprocessing.parent_process()
    assert launcher is not None
    launcher.join()
    os.kill(os.getpid(), signal.SIGTERM)
