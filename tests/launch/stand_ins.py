"""Programs that stand in for NVIDIA's and Slurm's, where there is neither a GPU nor a cluster."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deft_lightning.launch import mps

CARDS = "0, GPU-aaa1, 80000\n1, GPU-aab2, 40000\n2, GPU-ccc3, [N/A]\n"

MPS = """#!/bin/sh
case "$1" in
-d)
    echo "-d $CUDA_MPS_PIPE_DIRECTORY $CUDA_MPS_LOG_DIRECTORY $CUDA_VISIBLE_DEVICES" >>{calls}
    {start}
    ;;
*)
    read -r command
    echo "$command" >>{calls}
    case "$command" in start_server*) {server} ;; esac
    ;;
esac
"""
READY = 'echo "NEW SERVER 7: Ready" >>"$CUDA_MPS_LOG_DIRECTORY/control.log"'


class Machine:
    """The programs in `tools`, which is the first folder of the PATH; `calls` records how MPS was called."""

    def __init__(self, folder: Path) -> None:
        self.tools = folder / "tools"
        self.tools.mkdir()
        self.calls_file = folder / "calls"

    @property
    def calls(self) -> list[str]:
        return self.calls_file.read_text().splitlines() if self.calls_file.exists() else []

    def program(self, name: str, script: str) -> None:
        path = self.tools / name
        path.write_text(script)
        path.chmod(0o755)

    def gpus(self, rows: str = CARDS) -> None:
        """Let nvidia-smi print `rows`: index, UUID and free memory in MiB."""
        self.program("nvidia-smi", f"#!/bin/sh\ncat <<END\n{rows}END\n")

    def mps(self, start: str = ":", server: str = READY) -> None:
        """Let the control daemon run `start` when it is started, and `server` when it is to start its server."""
        self.program(mps.PROGRAM, MPS.format(calls=self.calls_file, start=start, server=server))


@pytest.fixture
def machine(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine without a GPU, until the test gives it one."""
    made = Machine(tmp_path_factory.mktemp("machine"))
    monkeypatch.setenv("PATH", f"{made.tools}{os.pathsep}{os.environ['PATH']}")
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_MPS_PIPE_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    made.program("nvidia-smi", "#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n")
    monkeypatch.setattr(mps, "DEFAULT_PIPES", made.tools / "no-pipes")
    return made
