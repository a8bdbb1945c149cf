"""Hydra launcher for several jobs at once on this machine: each in a new process, whose death ends no other job."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection, resource_tracker
from multiprocessing.context import SpawnProcess
from pathlib import Path
from threading import Thread
from types import FrameType
from typing import Any

from hydra.core.utils import (
    JobReturn,
    JobStatus,
    configure_log,
    env_override,
    filter_overrides,
    run_job,
    setup_globals,
)
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from deft_lightning.common import checks, results
from deft_lightning.common.errors import DeftError, Interrupted
from deft_lightning.common.results import Status
from deft_lightning.common.signals import stop_signals
from deft_lightning.launch.overrides import raw_overrides

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""How often the launcher looks for processes that have ended, should it not be told."""


@dataclass(frozen=True)
class _Running:
    """The process of a job, its configuration, and the connection on which it answers with its score."""

    number: int
    process: SpawnProcess
    answer: connection.Connection
    config: DictConfig

    @property
    def folder(self) -> Path:
        return Path(self.config.hydra.sweep.dir, self.config.hydra.sweep.subdir).absolute()


class ProcessLauncher(Launcher):
    """Runs `n_jobs` jobs at once, -1 for one on each core, and divides the cores among them.

    A job whose process is killed is recorded as failed. A signal that asks the sweep to stop is passed on to all
    jobs: each saves a checkpoint and stops, and no further job begins.
    """

    def __init__(self, n_jobs: int) -> None:
        self.n_jobs = n_jobs
        self._running: list[_Running] = []
        self._stopped = False

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra hook: keep what `launch` needs."""
        self._context, self._task, self._config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs; exits with status 1 when a signal has stopped them. Raises `DeftError` for a wrong `n_jobs`."""
        at_once = _at_once(self.n_jobs, len(job_overrides))
        setup_globals()
        configure_log(self._config.hydra.hydra_logging, self._config.hydra.verbose)
        Path(self._config.hydra.sweep.dir).mkdir(parents=True, exist_ok=True)
        log.info("Launching %d jobs, %d at once, each in a process of its own", len(job_overrides), at_once)
        resource_tracker.ensure_running()  # it changes which signals are blocked, so not while a job is started
        waiting = deque(enumerate(job_overrides, initial_job_idx))
        outcomes: dict[int, JobReturn] = {}
        self._stopped = False
        with self._passing_signals_on(), env_override(_environment(at_once)):
            try:
                while self._running or (waiting and not self._stopped):
                    while waiting and not self._stopped and len(self._running) < at_once:
                        self._start(*waiting.popleft())
                    connection.wait([job.process.sentinel for job in self._running], LOOK_SECONDS)
                    for job in [job for job in self._running if not job.process.is_alive()]:
                        self._running.remove(job)
                        outcomes[job.number] = _outcome(job, self._stopped)
            finally:
                self._end_all()
        if self._stopped:
            sys.exit(1)
        return [outcomes[number] for number in sorted(outcomes)]

    def _start(self, number: int, overrides: Sequence[str]) -> None:
        log.info("\t#%d : %s", number, " ".join(filter_overrides(overrides)))
        config = self._context.config_loader.load_sweep_config(self._config, list(overrides))
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
        payload = pickle.dumps((self._context, self._task, config))  # read once the signals are handled
        answer, sender = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("spawn").Process(target=_work, args=(payload, sender))
        with _blocked_signals():
            if self._stopped:  # while the job was composed
                return
            process.start()
            self._running.append(_Running(number, process, answer, config))
        sender.close()

    @contextmanager
    def _passing_signals_on(self) -> Iterator[None]:
        previous = {number: signal.signal(number, self._stop) for number in stop_signals()}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if not self._stopped:
            log.info("%s: the jobs save their checkpoints and stop; no other begins.", signal.Signals(number).name)
        self._stopped = True
        self._send(number)

    def _send(self, number: int) -> None:
        for job in self._running:
            with suppress(ProcessLookupError):
                os.kill(job.process.pid, number)  # type: ignore[arg-type]

    def _end_all(self) -> None:
        """Stop the jobs that are left, after an error of the launcher itself."""
        self._send(signal.SIGTERM)
        for job in self._running:
            job.process.join()
        self._running = []


def _at_once(n_jobs: object, jobs: int) -> int:
    """How many of `jobs` jobs run at once; raises `DeftError` unless `n_jobs` is a whole number from 1 up, or -1."""
    from joblib import cpu_count  # noqa: PLC0415  # Hydra imports every plugin, also for --help

    if n_jobs == -1:
        n_jobs = cpu_count()
    return min(checks.whole("hydra.launcher.n_jobs", n_jobs, 1), jobs)


def _environment(at_once: int) -> dict[str, str]:
    """The environment variables of a job that is one of `at_once`: its share of the cores, and no progress bar.

    What the user has set stays. Libraries read the number of threads when they are imported, so it must be set before
    the process starts. Progress bars of several jobs would overwrite each other.
    """
    from joblib import cpu_count  # noqa: PLC0415

    share = str(max(1, cpu_count() // at_once))
    variables = {"OMP_NUM_THREADS": share, "LOKY_MAX_CPU_COUNT": share}
    if at_once > 1:
        variables["TTY_COMPATIBLE"] = "0"
    return {name: value for name, value in variables.items() if name not in os.environ}


def _outcome(job: _Running, stopped: bool) -> JobReturn:
    """What Hydra is told about a job whose process has ended; a death is recorded, like any failure of a job.

    `stopped`: the jobs were asked to stop, and one that has not begun then ends without a record.
    """
    returned = JobReturn(overrides=raw_overrides(job.config.hydra.overrides.task), status=JobStatus.COMPLETED)
    try:
        if job.answer.poll():
            returned.return_value = job.answer.recv()
            return returned
    except EOFError:
        pass
    code, status = job.process.exitcode or 0, results.status(job.folder)
    said_why = status not in (None, Status.STARTING, Status.RUNNING)
    if not (code > 0 and (said_why or stopped)) and not (status is not None and status.final):
        _record_death(job, code)
    return returned


def _record_death(job: _Running, code: int) -> None:
    """Record a job as failed whose process has ended without an answer, with exit code `code`."""
    from deft_lightning.launch.job import record_failure  # noqa: PLC0415  # registers resolvers

    cfg = job.config.copy()
    cfg.sweep.overrides = raw_overrides(cfg.hydra.overrides.task)
    record_failure(cfg, job.folder, DeftError(_death(code)))


def _death(code: int) -> str:
    """Why a process with this exit code ended, as one sentence."""
    if code >= 0:
        return f"its process ended with exit status {code}: its messages above may say why."
    if -code == signal.SIGKILL:
        return "its process was killed (SIGKILL): if memory ran out, set a smaller hydra.launcher.n_jobs."
    return f"its process was ended by signal {-code} ({signal.strsignal(-code)}): sweep.resume=true resumes the job."


@contextmanager
def _blocked_signals() -> Iterator[None]:
    """Keep the signals of `stop_signals` waiting, also in a process that is started in the block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(payload: bytes, answer: connection.Connection) -> None:
    """The process of a job: run it and answer with the score that it returns."""
    os.setpgrp()  # Ctrl-C reaches only the launcher, which passes it on once
    numbers = stop_signals()
    for number in numbers:
        signal.signal(number, _interrupt)  # training sets its own handlers
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
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
