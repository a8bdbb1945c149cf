"""The parts of `accelerator.py`, each a process of its own; see there."""

from __future__ import annotations

import argparse
import gc
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import accelerator  # these four are beside this file
import torch
from accelerator_joined import joined
from accelerator_runs import fastest_precision, runs
from accelerator_training import BATCH, Options, Turns, bare, through_trainer, whole
from hydra.core.utils import env_override

from deft_lightning.data.dsprites.dataset import rendered

# tests


def tests(options: Options) -> None:
    """The tests marked `cuda`, dealt to several processes, since each compiles graphs."""
    shards = min(16, os.cpu_count() or 1) if options.cuda else 1
    chosen = [] if options.cuda else ["-k", "test_data or (beta_vae and plain and not tcvae)"]
    processes = []
    for shard in range(shards):
        variables = {
            "DEFT_CUDA_TESTS": options.accelerator,
            "DEFT_CUDA_SHARD": f"{shard}/{shards}",
            "DEFT_CUDA_REPORT": str(options.out / "tests.jsonl"),
            "TORCHINDUCTOR_COMPILE_THREADS": "1",
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, "-m", "pytest", "tests/cuda", "-q", "--tb=short", "-p", "no:cacheprovider", *chosen]
        command += ["--log-level=INFO"]  # why a graph could not be made stands below the test that wanted it
        processes.append(subprocess.Popen(command, cwd=accelerator.ROOT, env=os.environ | variables))
    codes = [process.wait() for process in processes]
    accelerator.add(options.out, "tests", "all", note=f"{shards} processes, exit status {max(codes)}")


# single


def single(options: Options) -> None:
    """One training: what is most worth knowing comes first, should the time not be enough."""
    seconds = 3.0 if options.cuda else 0.2
    first = ["graphs bf16", "eager fp32", "eager bf16", "graphs fp32"]
    through = ["bf16", "tf32", "fp32"]
    then = [
        "eager tf32",
        "graphs tf32",
        "eager fp32, FactorVAE",
        "graphs bf16, FactorVAE",
        "compiled bf16",
        "graphs bf16, channels first",
        "compiled fp32",
        "compiled tf32",
    ]
    if not options.cuda:
        first, through, then = ["eager fp32, FactorVAE", "graphs bf16, channels first"], ["fp32"], ["compiled fp32"]
    for name in first:
        guarded(options, "single", name, partial(loop, options, name, seconds))
    for kind in through:
        guarded(options, "single", f"trainer {kind}", partial(trainer, options, kind, seconds))
    for name in then:
        guarded(options, "single", name, partial(loop, options, name, seconds))


def loop(options: Options, name: str, seconds: float) -> dict[str, Any]:
    """The row of a bare loop that is called "<mode> <precision>" and, perhaps, ", channels first" or ", FactorVAE"."""
    what, _, variant = name.partition(", ")
    mode, kind = what.split()
    variants = {"channels_last": variant != "channels first", "factor_vae": variant == "FactorVAE"}
    return bare(options.device, mode, kind, seconds, **variants)


def guarded(options: Options, part: str, name: str, measure: Callable[[], dict[str, Any]]) -> None:
    """Add the row that `measure` returns, or why it failed, with the peak of memory."""
    torch.compiler.reset()
    if options.cuda:
        gc.collect()  # a trainer and its model refer to each other
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    begin = time.monotonic()
    try:
        row = measure()
        row |= {"seconds": row.get("seconds", round(time.monotonic() - begin, 1))}
        if options.cuda:
            row["peak_mb"] = round(torch.cuda.max_memory_allocated() / 1e6, 1)
    except Exception as error:  # one measurement fails, the next may not
        row = {"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
    accelerator.add(options.out, part, name, **row)


def trainer(options: Options, kind: str, seconds: float) -> dict[str, Any]:
    """Images a second through the trainer."""
    orders, answers = iter([seconds, None]), []
    begin = time.perf_counter()
    turns = Turns(partial(next, orders), lambda *answer: answers.append(answer), options.warm_up)
    note = through_trainer(options.device, kind, turns)
    ((steps, elapsed),) = answers
    row = {"images_per_second": round(steps * BATCH / elapsed, 1), "seconds": round(time.perf_counter() - begin, 1)}
    return row | note


# processes


def processes(options: Options) -> None:
    """Trainings side by side, by time-slicing and under MPS: all are started, and the first n of them take steps."""
    counts = (1, 4, 10, 16) if options.cuda else (1, 2)
    kind = fastest_precision(options)
    begin, left = time.monotonic(), options.left - 10.0  # to end them
    for name, share in {"time-slicing": 0.5, "MPS": 1.0}.items() if options.cuda else {"CPU": 1.0}.items():
        try:
            service: AbstractContextManager[dict[str, str]] = daemon() if name == "MPS" else nullcontext({})
            with service as variables:
                side_by_side(options, counts, kind, name, variables, begin + share * left)
        except Exception as error:  # without MPS there is time-slicing
            accelerator.add(options.out, "processes", name, error=f"{type(error).__name__}: {error}")


@contextmanager
def daemon() -> Iterator[dict[str, str]]:
    """NVIDIA MPS for the first GPU, as `hydra/launcher=processes` starts it; yields the variables of the processes."""
    from deft_lightning.launch import devices, mps  # noqa: PLC0415

    name = next((gpu.name for gpu in devices.visible()), "0")
    with mps.sharing(True, [name], True) as variables:
        yield variables | {"CUDA_VISIBLE_DEVICES": name}


def side_by_side(
    options: Options, counts: tuple[int, ...], kind: str, name: str, variables: dict[str, str], limit: float
) -> None:
    """Images a second of the first n of all processes, in total, for each n of `counts`."""
    share = str(max(1, (os.cpu_count() or 1) // max(counts)))
    threads = {"OMP_NUM_THREADS": share, "TORCHINDUCTOR_COMPILE_THREADS": share}
    turn = 2.5 if options.cuda else 0.5
    context = multiprocessing.get_context("spawn")
    begin = time.monotonic()
    pipes: list[Connection] = []
    started: list[SpawnProcess] = []
    try:
        with env_override(variables | threads):
            for _ in range(max(counts)):
                here, there = context.Pipe()
                process = context.Process(target=work, args=(there, options.accelerator, kind), daemon=True)
                process.start()
                there.close()
                started.append(process)
                pipes.append(here)
        # Those that are not ready when the turns must begin are left out.
        ready = [pipe for pipe in pipes if answered(pipe, limit - 1.25 * turn * len(counts))]
        row: dict[str, Any] = {"seconds": round(time.monotonic() - begin, 1), "note": f"{len(ready)} ready"}
        accelerator.add(options.out, "processes", f"{name}: start", **row)
        for count in (count for count in counts if count <= len(ready)):
            for pipe in ready[:count]:
                pipe.send(turn)
            answers = [pipe.recv() for pipe in ready[:count] if pipe.poll(max(0.0, limit - time.monotonic()))]
            if len(answers) < count:
                raise TimeoutError(f"{count - len(answers)} of {count} processes have not answered")
            rate = sum(steps * BATCH / elapsed for steps, elapsed, _ in answers)
            row = {"images_per_second": round(rate, 1), "note": f"{kind}, {rate / count:,.0f} each"}
            if options.cuda:
                row |= {"peak_mb": answers[0][2]}
            accelerator.add(options.out, "processes", f"{name}: {count}", **row)
        for pipe in ready:
            pipe.send(None)
        ended = time.monotonic() + 3.0
        for pipe in ready:
            pipe.poll(max(0.0, ended - time.monotonic()))  # it closes the pipe when it has ended
    finally:
        for process in started:
            process.kill()  # there is nothing to save, and one that waits for its turn hears no other signal
        for process in started:
            process.join(5)


def answered(pipe: Connection, limit: float) -> bool:
    """Whether the process at the other end is ready before `limit`."""
    try:
        return pipe.poll(max(0.0, limit - time.monotonic())) and pipe.recv() == "ready"
    except (EOFError, OSError):
        return False


def work(pipe: Connection, name: str, kind: str) -> None:
    """One training, whose turns come through the pipe; it answers with steps, seconds and the MB of the GPU in use."""
    log_all()
    options = Options(accelerator=name)

    def answer(steps: int, elapsed: float) -> None:
        free, total = torch.cuda.mem_get_info() if options.cuda else (0, 0)
        pipe.send((steps, elapsed, round((total - free) / 1e6)))

    first = True

    def orders() -> float | None:
        nonlocal first
        if first:
            pipe.send("ready")
            first = False
        order: float | None = pipe.recv()
        return order

    through_trainer(options.device, kind, Turns(orders, answer, options.warm_up))


# limits


def limits(options: Options) -> None:
    """Several trainings that are joined, the whole step of one as a graph, and how long the kernels of these take.

    What says most comes first, but for the kernels: the profiler slows down what comes after it.
    """
    kind, seconds = fastest_precision(options), 2.0 if options.cuda else 0.2
    many, *others = (10, 4, 16) if options.cuda else (2,)
    join = partial(joined, options.device, kind=kind, seconds=seconds)
    one = partial(bare, options.device, "graphs", kind, seconds)
    guarded(options, "limits", f"{many} joined", partial(join, many))
    guarded(options, "limits", f"one, graphs {kind}", one)
    guarded(options, "limits", f"one, whole step a graph {kind}", partial(whole, options.device, kind, seconds))
    if options.cuda:
        guarded(options, "limits", f"one, graphs {kind}, profiled", partial(one, profiled=True))
        guarded(options, "limits", f"{many} joined, profiled", partial(join, many, profiled=True))
    for members in others:
        guarded(options, "limits", f"{members} joined, profiled", partial(join, members, profiled=True))


# runs


def data(options: Options) -> None:
    """Render dSprites, which the runs need, while other parts measure."""
    if not options.cuda:
        return
    begin = time.monotonic()
    try:
        rendered(None)
    except Exception as error:  # the runs wait for this row
        accelerator.add(options.out, "data", "dSprites rendered", error=f"{type(error).__name__}: {error}")
        raise
    accelerator.add(options.out, "data", "dSprites rendered", seconds=round(time.monotonic() - begin, 1))


def log_all() -> None:
    """Print all messages of the package, with the whole error where a graph could not be made."""
    logging.basicConfig()
    logging.getLogger("deft_lightning").setLevel(logging.DEBUG)


def main() -> None:
    """Run one part."""
    parts = {part.__name__: part for part in (tests, single, processes, limits, data, runs)}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=parts)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--accelerator", required=True)
    parser.add_argument("--until", type=float, required=True, help="when it must have ended, in seconds of the epoch")
    options = parser.parse_args(namespace=Options())
    log_all()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what a part has started is ended with it
    parts[options.part](options)


if __name__ == "__main__":
    main()
