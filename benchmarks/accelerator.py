"""All checks and measurements on an NVIDIA GPU, in one command of at most 8 minutes.

    python benchmarks/accelerator.py --out measured [--minutes 8] [--accelerator cuda]

It needs, beside PyTorch with Triton, numpy, pillow, pyyaml, jinja2, filelock and requests, the wheels of

    pytorch-lightning lightning-utilities torchmetrics hydra-core omegaconf antlr4-python3-runtime h5py joblib
    threadpoolctl scikit-learn scipy pandas matplotlib seaborn platformdirs pooch rich pytest

with what these need themselves, and this package (`pip install --no-deps .`). wandb is not needed, nor is a network:
dSprites is rendered meanwhile. Triton compiles with a C compiler and Python's headers: without these there are no
graphs.

    tests       the tests marked `cuda`, in several processes
    single      images/s of one training: eager, compiled by Inductor, and replayed as CUDA graphs, in fp32, tf32 and
                bf16, in a bare loop; and through the trainer
    processes   images/s of 1, 4, 10 and 16 trainings side by side, by time-slicing and under NVIDIA MPS
    limits      images/s of 10, 4 and 16 trainings that are joined in one process by grouped convolutions; those where
                the whole step is one graph, Adam included; and how long the kernels of a step take of it
    runs        as many runs of DEFT on dSprites as were fastest, side by side by `hydra/launcher=processes`, for the
                time left: their folders, with figures and scores but without checkpoints; and what ten paper-length
                runs take

Each part has a time limit and a process of its own, so that one that fails leaves the others. `accelerator.json` in the
folder of `--out` always holds what has been measured so far, and `log/` what each part has printed. With
`--accelerator cpu` every part is rehearsed on few steps: the numbers then say nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections import Counter
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import rich
from rich.console import Console

from deft_lightning.common import console, files

ROOT = Path(__file__).resolve().parents[1]
PARTS = {"tests": 0.17, "single": 0.35, "processes": 0.53, "limits": 0.64, "runs": 1.0}
"""When each part must have ended, as a share of the whole time; one that ends early leaves its time to the next."""
MARGIN = 15.0
"""Seconds at the end in which the last part stops and the results are written."""
FILE = "accelerator.json"

Row = dict[str, Any]


def main() -> None:
    """Run all parts and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("measured"), help="folder of the results")
    parser.add_argument("--minutes", type=float, default=8, help="how long all parts may take together")
    parser.add_argument("--accelerator", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="only these parts")
    options = parser.parse_args()
    out = options.out.resolve()
    (out / "log").mkdir(parents=True, exist_ok=True)
    for previous in out.glob("*.jsonl"):
        previous.unlink()
    begin = time.monotonic()
    headers = Path(sysconfig.get_path("include"), "Python.h").is_file()
    compiles = headers and any(shutil.which(name) for name in ("cc", "gcc", "clang"))
    compiler = "" if compiles else ", no C compiler or Python's headers: no graphs"
    note = f"torch {version('torch')}, {os.cpu_count()} cores{compiler}"
    add(out, "machine", machine(options.accelerator), note=note)
    seconds = 60 * options.minutes - MARGIN
    data = start(out, "data", options.accelerator, seconds) if "runs" in options.parts else None
    try:
        for part in options.parts:
            left = PARTS[part] * seconds - (time.monotonic() - begin)
            watch(start(out, part, options.accelerator, left), out, part, left)
    finally:
        if data is not None:
            end(data)
        rows = collect(out)
        report(rows)
        rich.print(f"{out / FILE}: {len(rows)} rows in {time.monotonic() - begin:.0f} s")


def machine(accelerator: str) -> str:
    """The name of the GPU and of its driver, as nvidia-smi says it."""
    if accelerator == "cpu":
        return "a rehearsal on the CPU"
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, check=True, timeout=20).stdout.decode().strip()
    except (OSError, subprocess.SubprocessError):
        return "an unknown GPU"


def start(out: Path, part: str, accelerator: str, seconds: float) -> subprocess.Popen[bytes]:
    """Start the process of a part, which writes its rows to <part>.jsonl and prints to log/<part>.log."""
    command = [sys.executable, str(ROOT / "benchmarks" / "accelerator_parts.py"), part]
    command += ["--out", str(out), "--accelerator", accelerator, "--until", f"{time.time() + seconds:.0f}"]
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    with (out / "log" / f"{part}.log").open("wb") as log:
        return subprocess.Popen(
            command, cwd=ROOT, stdout=log, stderr=log, env=os.environ | {"PYTHONPATH": path}, start_new_session=True
        )


def watch(process: subprocess.Popen[bytes], out: Path, part: str, seconds: float) -> None:
    """Wait for a part up to its limit, and write meanwhile what has been measured; records why it ended early."""
    limit = time.monotonic() + seconds
    try:
        while process.poll() is None and time.monotonic() < limit:
            collect(out)
            with suppress(subprocess.TimeoutExpired):
                process.wait(1)
        if process.poll() is None:
            add(out, part, "time limit", error=f"stopped after {max(seconds, 0):.0f} s")
        elif process.returncode:
            last = (out / "log" / f"{part}.log").read_text(errors="replace").strip().splitlines()[-1:]
            add(out, part, "process", error=f"exit status {process.returncode}: {' '.join(last)}")
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a part and all that it has started: first by SIGTERM, on which runs save and the MPS daemon is stopped."""
    for number, patience in ((signal.SIGTERM, 8.0), (signal.SIGKILL, 5.0)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience)


def add(out: Path, part: str, name: str, **fields: Any) -> None:
    """Append one row to those of a part."""
    with (out / f"{part}.jsonl").open("a") as file:
        file.write(json.dumps({"part": part, "name": name, **fields}) + "\n")


def collect(out: Path) -> list[Row]:
    """The rows of all parts so far, which are also written as one JSON file."""
    rows: list[Row] = []
    for part in ("machine", *PARTS, "data"):
        with suppress(FileNotFoundError):
            rows += [
                json.loads(line) for line in (out / f"{part}.jsonl").read_text().splitlines() if line.endswith("}")
            ]
    files.write_text(out / FILE, json.dumps(rows, indent=2) + "\n")
    return rows


def report(rows: list[Row]) -> None:
    """Print what was measured."""
    columns = {"images_per_second": "images/s", "peak_mb": "peak MB", "seconds": "s", "note": "note", "error": "error"}
    table = console.new_table("part", "name", *columns.values())
    outcomes = Counter(row["outcome"] for row in rows if "outcome" in row)
    if outcomes:
        table.add_row("tests", ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items()))
    for row in rows:
        if row.get("outcome") in ("passed", "skipped"):
            continue
        cells = (row.get(column, "") for column in columns)
        table.add_row(row["part"], row["name"], *(f"{c:,.0f}" if isinstance(c, int | float) else str(c) for c in cells))
    Console(width=200).print(table)


if __name__ == "__main__":
    main()
