"""NVIDIA MPS for a sweep: its control daemon lets the kernels of several processes run beside each other on a GPU.

Reference: NVIDIA, Multi-Process Service, docs.nvidia.com/deploy/mps: the control daemon's options and commands, and the
environment variables of the daemon and its clients.
"""

from __future__ import annotations

import logging
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from deft_lightning.common.errors import DeftError

log = logging.getLogger(__name__)

PROGRAM = "nvidia-cuda-mps-control"
DEFAULT_PIPES = Path("/tmp/nvidia-mps")
"""Where a daemon has its pipes that was started without CUDA_MPS_PIPE_DIRECTORY."""

START_SECONDS, SERVER_SECONDS, QUIT_SECONDS = 60, 10, 60

# A shell between launcher and daemon: it ends the daemon as soon as the launcher closes the pipe or is gone, even by
# SIGKILL. Signals that stop a sweep reach every process of a Slurm job; daemon and shell outlast the jobs, but do not
# wait for ever for one that hangs.
KEEPER = f"""trap '' INT TERM HUP USR1 USR2
{PROGRAM} -d </dev/null >"$CUDA_MPS_LOG_DIRECTORY/start.log" 2>&1 || exit 1
echo started
cat >/dev/null
echo quit -t 50 | {PROGRAM} >/dev/null 2>&1
rm -rf "$1"
"""


@contextmanager
def sharing(setting: object, names: Sequence[str], shared: bool) -> Iterator[dict[str, str]]:
    """Run the MPS control daemon during the block; yields the environment variables of the jobs.

    Args:
        setting: "auto" starts it where several jobs share a GPU and the program is there, True always, False never. A
            daemon that already runs is used and left alone.
        names: of the GPUs, as in CUDA_VISIBLE_DEVICES.
        shared: whether several jobs share a GPU.

    Raises:
        DeftError: for another `setting`, and where True asks for a daemon that is missing or does not start.
    """
    if setting not in ("auto", True, False):
        raise DeftError(f"hydra.launcher.mps is {setting!r}: use one of auto, true, false.")
    if not names or setting is False or not (shared or setting is True):
        yield {}
        return
    if running := _running_daemon():
        log.info("MPS: the jobs use the daemon that already runs in %s", running)
        yield {}
        return
    if shutil.which(PROGRAM) is None:
        if setting is True:
            raise DeftError(f"hydra.launcher.mps is true and {PROGRAM} is not on the PATH: install it, or use auto.")
        log.info("MPS: %s is not on the PATH, so jobs share a GPU by time-slicing", PROGRAM)
        yield {}
        return
    folder = Path(tempfile.mkdtemp(prefix="deft-mps-", dir=_short_folder()))
    variables = {"CUDA_MPS_PIPE_DIRECTORY": str(folder / "pipe"), "CUDA_MPS_LOG_DIRECTORY": str(folder / "log")}
    for path in variables.values():
        Path(path).mkdir()
    keeper = _keeper(folder, variables, names)
    try:
        problem = _problem(keeper, variables)
        if problem and setting is True:
            raise DeftError(f"hydra.launcher.mps is true and MPS does not start ({problem}): use auto or false.")
        if problem:
            log.info("MPS does not start (%s), so jobs share a GPU by time-slicing", problem)
            _end(keeper, folder)
            variables = {}
        else:
            log.info("MPS: started for this sweep")
        yield variables
    finally:
        _end(keeper, folder)


def _running_daemon() -> str | None:
    """The folder of the pipes of a daemon that already runs: the user's choice, else the default one's."""
    if chosen := os.environ.get("CUDA_MPS_PIPE_DIRECTORY"):
        return chosen
    try:
        os.kill(int((DEFAULT_PIPES / f"{PROGRAM}.pid").read_text()), 0)
    except PermissionError:  # of another user
        return str(DEFAULT_PIPES)
    except (OSError, ValueError):
        return None
    return str(DEFAULT_PIPES)


def _short_folder() -> str | None:
    """/tmp where it can be written: the path of a socket may have no more than 107 characters."""
    return "/tmp" if os.access("/tmp", os.W_OK) else None


def _keeper(folder: Path, variables: dict[str, str], names: Sequence[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["/bin/sh", "-c", KEEPER, "sh", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **variables, "CUDA_VISIBLE_DEVICES": ",".join(names)},
        start_new_session=True,  # Ctrl-C is for the launcher
    )


def _problem(keeper: subprocess.Popen[bytes], variables: dict[str, str]) -> str | None:
    """Why the daemon or its server does not start, in one line; None where nothing says so.

    Many machines, containers among them, let the daemon start and not its server; that would fail in every job.
    """
    assert keeper.stdout is not None
    logs = Path(variables["CUDA_MPS_LOG_DIRECTORY"])
    if not select.select([keeper.stdout], [], [], START_SECONDS)[0]:
        return f"{PROGRAM} -d has not ended after {START_SECONDS} s"
    if not keeper.stdout.readline():
        return _last_line(logs / "start.log") or f"{PROGRAM} -d failed"
    with suppress(OSError, subprocess.SubprocessError):
        subprocess.run(
            [PROGRAM],
            input=f"start_server -uid {os.getuid()}\n".encode(),
            env={**os.environ, **variables},
            capture_output=True,
            timeout=START_SECONDS,
            check=False,
        )
    end = time.monotonic() + SERVER_SECONDS
    while time.monotonic() < end and (logs / "control.log").exists():
        text = (logs / "control.log").read_text(errors="replace")
        if "exited with status" in text:
            return _last_line(logs / "server.log") or "its server has ended"
        if "Ready" in text:
            break
        time.sleep(0.1)
    return None


def _last_line(path: Path) -> str:
    with suppress(OSError):
        return next(iter(reversed(path.read_text(errors="replace").strip().splitlines())), "").strip()
    return ""


def _end(keeper: subprocess.Popen[bytes], folder: Path) -> None:
    """Let the keeper end the daemon, and remove the folder."""
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    keeper.stdout.close()
    with suppress(OSError):
        keeper.stdin.close()
    try:
        keeper.wait(QUIT_SECONDS)
    except subprocess.TimeoutExpired:
        log.warning("MPS: the daemon in %s has not ended after %d s", folder, QUIT_SECONDS)
        return
    shutil.rmtree(folder, ignore_errors=True)
