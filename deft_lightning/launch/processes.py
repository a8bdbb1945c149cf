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
from types import FrameType

from hydra.core.utils import JobReturn, JobStatus, configure_log, env_override, filter_overrides, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from deft_lightning.common import checks, results
from deft_lightning.common.errors import DeftError
from deft_lightning.common.results import Status
from deft_lightning.common.signals import stop_signals
from deft_lightning.launch import devices, mps, progress
from deft_lightning.launch.overrides import raw_overrides
from deft_lightning.launch.worker import blocked_signals, work

log = logging.getLogger(__name__)

THREADS = ("OMP_NUM_THREADS", "LOKY_MAX_CPU_COUNT", "TORCHINDUCTOR_COMPILE_THREADS")
"""Variables in which libraries look for the number of threads or processes that they may start."""
LOOK_SECONDS = 1.0
"""How often the launcher looks for processes that have ended, should it not be told."""


@dataclass(frozen=True)
class _Running:
    """The process of a job, its configuration, its GPUs, and the connection on which it answers with its score."""

    number: int
    process: SpawnProcess
    answer: connection.Connection
    config: DictConfig
    gpus: list[str]
    state: progress.JobProgress

    @property
    def folder(self) -> Path:
        return self.state.folder


@dataclass(frozen=True)
class _Share:
    """What the jobs that run at once share: how many they are, and the GPUs of the sweep."""

    at_once: int
    gpus: list[str]
    room: dict[str, int] | None
    several_on_one: bool


class ProcessLauncher(Launcher):
    """Runs `n_jobs` jobs at once: a number, -1 for one on each core, or "auto"; the jobs share the cores evenly.

    Where they train on CUDA, each sees one GPU, that with the fewest jobs, or as many as `trainer.devices` says; "auto"
    then runs as many as the cores, and the GPUs' free memory at `gpu_memory_gb` GiB a job, allow. Elsewhere it is -1.
    Whether they do is read from the first job. `mps`: see `launch.mps`.

    A job whose process is killed is recorded as failed. A signal that asks the sweep to stop is passed on to all
    jobs: each saves a checkpoint and stops, and no further job begins.
    """

    def __init__(self, n_jobs: int | str, mps: str | bool = "auto", gpu_memory_gb: float = 4) -> None:
        self.n_jobs, self.mps, self.gpu_memory_gb = n_jobs, mps, gpu_memory_gb
        self._running: list[_Running] = []
        self._stopped: int | None = None
        self._dealer = devices.Dealer([])
        self._variables: dict[str, str] = {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra hook: keep what `launch` needs."""
        self._context, self._task, self._config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs; exits with status 1 when a signal has stopped them. Raises `DeftError` for a wrong option."""
        share = self._share(job_overrides)
        setup_globals()
        configure_log(self._config.hydra.hydra_logging, self._config.hydra.verbose)
        Path(self._config.hydra.sweep.dir).mkdir(parents=True, exist_ok=True)
        log.info("Launching %d jobs, %d at once, each in a process of its own", len(job_overrides), share.at_once)
        resource_tracker.ensure_running()  # it changes which signals are blocked, so not while a job is started
        waiting = deque(enumerate(job_overrides, initial_job_idx))
        outcomes: dict[int, JobReturn] = {}
        self._stopped, self._dealer = None, devices.Dealer(share.gpus, share.room)
        with self._passing_signals_on(), mps.sharing(self.mps, share.gpus, share.several_on_one) as variables:
            self._variables = _environment(share.at_once) | variables
            with progress.shown(share.at_once > 1) as board:
                try:
                    while self._running or (waiting and self._stopped is None):
                        while waiting and self._stopped is None and len(self._running) < share.at_once:
                            self._start(*waiting.popleft(), board.screen)
                        connection.wait([job.process.sentinel for job in self._running], LOOK_SECONDS)
                        for job in [job for job in self._running if not job.process.is_alive()]:
                            self._running.remove(job)
                            self._dealer.give_back(job.gpus)
                            outcomes[job.number] = _outcome(job, self._stopped is not None)
                        board.show([job.state for job in self._running], len(outcomes), len(waiting))
                finally:
                    self._end_all()
        if self._stopped is not None:
            if self._stopped == signal.SIGUSR2:
                signal.raise_signal(signal.SIGUSR2)  # the cluster's own handler puts the jobs back in the queue
            sys.exit(1)
        return [outcomes[number] for number in sorted(outcomes)]

    def _share(self, job_overrides: Sequence[Sequence[str]]) -> _Share:
        gigabytes = checks.number("hydra.launcher.gpu_memory_gb", self.gpu_memory_gb, above=True)
        first = self._composed(job_overrides[0])
        gpus = devices.visible() if devices.uses_cuda(first) else []
        each = devices.needed(first) or max(1, len(gpus))
        room = devices.rooms(gpus, gigabytes) if gpus and self.n_jobs == "auto" else None
        unseen = not gpus and OmegaConf.select(first, "trainer.accelerator") in ("gpu", "cuda")
        if unseen and self.n_jobs == "auto":
            raise DeftError("hydra.launcher.n_jobs is 'auto' and nvidia-smi shows no GPU here: give a number.")
        at_once = _at_once(self.n_jobs, len(job_overrides), None if room is None else sum(room.values()) // each)
        if unseen and at_once > 1:
            log.info("nvidia-smi shows no GPU here: the jobs share those that they find by time-slicing")
        return _Share(at_once, [gpu.name for gpu in gpus], room, several_on_one=at_once * each > len(gpus))

    def _composed(self, overrides: Sequence[str]) -> DictConfig:
        return self._context.config_loader.load_sweep_config(self._config, list(overrides))

    def _start(self, number: int, overrides: Sequence[str], screen: connection.Connection | None) -> None:
        log.info("\t#%d : %s", number, " ".join(filter_overrides(overrides)))
        config = self._composed(overrides)
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
        folder = Path(config.hydra.sweep.dir, config.hydra.sweep.subdir).absolute()
        batch_size = OmegaConf.select(config, "batch_size")
        state = progress.JobProgress(folder, batch_size if checks.is_whole(batch_size) else 0)
        gpus = self._dealer.take(devices.needed(config)) if devices.uses_cuda(config) else []
        variables = {**self._variables, **({"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {})}
        payload = pickle.dumps((self._context, self._task, config))  # read once the signals are handled
        answer, sender = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("spawn").Process(target=work, args=(payload, sender, screen))
        with blocked_signals(), env_override(variables):
            if self._stopped is not None:  # while the job was composed
                return
            process.start()
            self._running.append(_Running(number, process, answer, config, gpus, state))
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
        if self._stopped is None:
            log.info("%s: the jobs save their checkpoints and stop; no other begins.", signal.Signals(number).name)
        self._stopped = number
        self._send(signal.SIGTERM if number == signal.SIGUSR2 else number)

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


def _at_once(n_jobs: object, jobs: int, room: int | None = None) -> int:
    """How many of `jobs` jobs run at once, where the GPUs have room for `room`; None where the jobs use none.

    Raises `DeftError` unless `n_jobs` is a whole number from 1 up, -1 or "auto".
    """
    from joblib import cpu_count  # noqa: PLC0415  # Hydra imports every plugin, also for --help

    if n_jobs == "auto":  # a process on a GPU needs a core as well, which launches its kernels
        n_jobs = cpu_count() if room is None else max(1, min(cpu_count(), room))
    elif n_jobs == -1:
        n_jobs = cpu_count()
    return min(checks.whole("hydra.launcher.n_jobs", n_jobs, 1), jobs)


def _environment(at_once: int) -> dict[str, str]:
    """The environment variables of a job that is one of `at_once`: its share of the cores, and no progress bar.

    What the user has set stays. Libraries read the number of threads when they are imported, so it must be set before
    the process starts. torch.compile would otherwise start a process for every core in each job, to compile kernels of
    a GPU. Progress bars of several jobs would overwrite each other.
    """
    from joblib import cpu_count  # noqa: PLC0415

    variables = dict.fromkeys(THREADS, str(max(1, cpu_count() // at_once)))
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
