"""Start and end of the MPS control daemon, with a stand-in that records how it was called."""

from __future__ import annotations

import logging
import os
import signal
import time
from pathlib import Path

import pytest

from deft_lightning.common.errors import DeftError
from deft_lightning.launch import mps
from tests.launch.stand_ins import Machine, machine
from tests.launch.test_processes import elsewhere, wait_until, waiting_sweep

__all__ = ["elsewhere", "machine"]

NAMES = ["GPU-aaa1", "GPU-aab2"]
SERVER = f"start_server -uid {os.getuid()}"


def test_the_daemon_runs_during_the_block_in_folders_of_its_own(machine: Machine) -> None:
    machine.mps()
    with mps.sharing("auto", NAMES, shared=True) as variables:
        pipe, log = variables["CUDA_MPS_PIPE_DIRECTORY"], variables["CUDA_MPS_LOG_DIRECTORY"]
        assert len(variables) == 2
        assert Path(pipe).is_dir()
        assert Path(log).is_dir()
        assert len(f"{pipe}/control") < 60  # the path of a socket is short
        assert machine.calls == [f"-d {pipe} {log} GPU-aaa1,GPU-aab2", SERVER]
    assert machine.calls[2:] == ["quit -t 50"]
    assert not Path(pipe).parent.exists()
    assert "CUDA_MPS_PIPE_DIRECTORY" not in os.environ


def test_the_daemon_ends_with_an_error_of_the_launcher(machine: Machine) -> None:
    machine.mps()
    with pytest.raises(RuntimeError, match="a cosmic ray"), mps.sharing(True, NAMES, shared=False):
        raise RuntimeError("a cosmic ray")
    assert machine.calls[2:] == ["quit -t 50"]


@pytest.mark.parametrize(
    ("setting", "names", "shared"), [(False, NAMES, True), ("auto", NAMES, False), ("auto", [], True), (True, [], True)]
)
def test_no_daemon_where_no_gpu_is_shared(setting: object, names: list[str], shared: bool, machine: Machine) -> None:
    machine.mps()
    with mps.sharing(setting, names, shared) as variables:
        assert variables == {}
    assert machine.calls == []


def test_a_daemon_that_runs_already_is_used_and_left_alone(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.mps()
    mps.DEFAULT_PIPES.mkdir()
    (mps.DEFAULT_PIPES / f"{mps.PROGRAM}.pid").write_text(f"{os.getpid()}\n")
    with mps.sharing(True, NAMES, shared=True) as variables:
        assert variables == {}
    (mps.DEFAULT_PIPES / f"{mps.PROGRAM}.pid").unlink()
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", "/tmp/mine")
    with mps.sharing("auto", NAMES, shared=True) as variables:
        assert variables == {}
    assert machine.calls == []


def test_a_missing_program_is_an_error_only_where_it_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, machine: Machine
) -> None:
    monkeypatch.setattr(mps.shutil, "which", lambda name: None)
    with caplog.at_level(logging.INFO), mps.sharing("auto", NAMES, shared=True) as variables:
        assert variables == {}
    (record,) = caplog.records
    assert record.message == "MPS: nvidia-cuda-mps-control is not on the PATH, so jobs share a GPU by time-slicing"
    with pytest.raises(DeftError, match="mps is true and nvidia-cuda-mps-control is not on the PATH: install it"):
        mps.sharing(True, NAMES, shared=True).__enter__()
    with pytest.raises(DeftError, match=r"hydra.launcher.mps is 'on': use one of auto, true, false."):
        mps.sharing("on", NAMES, shared=True).__enter__()


FAULTS = {
    "daemon": {"start": "echo 'Cannot find MPS control daemon process' >&2; exit 1"},
    "server": {
        "server": 'echo "Server 7 exited with status 1" >>"$CUDA_MPS_LOG_DIRECTORY/control.log"; '
        'echo "Failed to create the context" >>"$CUDA_MPS_LOG_DIRECTORY/server.log"'
    },
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_start_is_told_in_one_line(
    fault: str, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.mps(**FAULTS[fault])
    reason = {"daemon": "Cannot find MPS control daemon process", "server": "Failed to create the context"}[fault]
    with caplog.at_level(logging.INFO), mps.sharing("auto", NAMES, shared=True) as variables:
        assert variables == {}
        assert (machine.calls[-1] == "quit -t 50") == (fault == "server")  # the jobs must not find its pipes
    (record,) = caplog.records
    assert record.message == f"MPS does not start ({reason}), so jobs share a GPU by time-slicing"
    assert not Path(machine.calls[0].split()[1]).parent.exists()
    with pytest.raises(DeftError, match=rf"mps is true and MPS does not start \({reason}\): use auto or false."):
        mps.sharing(True, NAMES, shared=True).__enter__()
    assert not Path(machine.calls[0].split()[1]).parent.exists()


@pytest.mark.slow  # starts processes
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGKILL"])
def test_the_daemon_ends_with_the_sweep_whatever_ends_it(name: str, machine: Machine) -> None:
    machine.gpus("0, GPU-aaa1, 80000\n")
    machine.mps()
    with waiting_sweep() as process:
        assert machine.calls[1:] == [SERVER]
        os.killpg(process.pid, getattr(signal, name))  # as a terminal or a cluster does
        process.wait(60)
        wait_until(lambda: machine.calls[2:] == ["quit -t 50"])
    folder = Path(machine.calls[0].split()[1]).parent
    end = time.monotonic() + 10
    while folder.exists() and time.monotonic() < end:
        time.sleep(0.1)
    assert not folder.exists()
