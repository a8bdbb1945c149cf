"""Runs of DEFT side by side, a part of `accelerator.py`, and what they say of ten runs of paper length."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

import accelerator  # these two are beside this file
from accelerator_training import BATCH, EPOCHS, PRECISIONS, STEPS_PER_EPOCH, Options

from deft_lightning import DeftError
from deft_lightning.common import results

PAPER_STEPS = sum(EPOCHS) * STEPS_PER_EPOCH
ENOUGH_STEPS = 20_000
"""Steps of a run from which a longer one may be extrapolated."""
TEN = 10
STOP, TELL = 30.0, 8.0
"""Seconds before the end of the part: when the runs are told to stop, and when what they have done is written down."""


def runs(options: Options) -> None:
    """DEFT on dSprites, as many runs as were fastest, as long as they fit; and how long ten of paper length take."""
    rates = {name: rate for name, rate in rates_of(options, "processes", "").items() if ": " in name}
    best = max(rates, key=lambda name: rates[name], default=f"time-slicing: {TEN}" if options.cuda else "CPU: 2")
    how, count = best.split(": ")[0], int(best.split(": ")[1])
    kind = fastest_precision(options)
    fraction = 0.1
    if options.cuda:
        wait_for_data(options)
        fraction = fitting(options.left, rates.get(best, 0.0) / count)
    command = command_of(options, count, how, PRECISIONS[kind] if options.cuda else "32-true", fraction)
    begin = time.monotonic()
    sweep = subprocess.Popen(command, cwd=accelerator.ROOT)
    signal.signal(signal.SIGTERM, lambda *_: sweep.send_signal(signal.SIGTERM))
    seen: dict[str, list[Seen]] = {}
    late = False
    while sweep.poll() is None and options.left > TELL:  # an evaluation that runs is not interrupted
        look(options, seen)
        if not late and options.left < STOP:
            sweep.send_signal(signal.SIGTERM)  # the runs stop after their step, and tell what they have measured
            late = True
        with suppress(subprocess.TimeoutExpired):
            sweep.wait(1.0)
    look(options, seen)
    elapsed = time.monotonic() - begin
    tell(options, seen, f"{how}, {kind}", fraction, elapsed)
    with suppress(subprocess.TimeoutExpired):
        sweep.wait(max(0.0, options.left - 3.0))
    sweep.kill()
    for checkpoint in (options.out / "runs").glob("**/*.ckpt"):
        checkpoint.unlink(missing_ok=True)  # as large as all else that is brought back


def wait_for_data(options: Options) -> None:
    """Until dSprites is rendered, or rendering it has failed."""
    half = options.left / 2
    while not (options.out / "data.jsonl").exists() and options.left > half:
        time.sleep(1)


def fitting(seconds: float, rate: float) -> float:
    """The share of the paper's steps that fits into the time at `rate` images a second of each run."""
    training = max(0.0, seconds - STOP - 60)  # to start, compile and score
    steps = max(ENOUGH_STEPS, 0.85 * training * rate / BATCH)
    return min(1.0, steps / PAPER_STEPS)


def command_of(options: Options, count: int, how: str, asked: str, fraction: float) -> list[str]:
    """The sweep, as a user would type it."""
    command = [sys.executable, "-m", "deft_lightning", "--multirun", "+experiment=dsprites", f"seed=range({count})"]
    command += ["hydra/launcher=processes", f"hydra.launcher.n_jobs={count}", f"hydra.sweep.dir={options.out / 'runs'}"]
    command += ["logger=csv", f"trainer.precision={asked}", f"scale.fraction={fraction}", "sweep.name=accelerator"]
    if options.cuda:
        return [*command, "trainer=gpu", "data.source=rendered", f"hydra.launcher.mps={str(how == 'MPS').lower()}"]
    tiny = ("data._target_=tests.helpers.TinySprites", "batch_size=8", "scale.num_points=96")
    return [*command, "trainer=cpu", "compile=false", *tiny]


Seen = tuple[int, float, dict[str, Any]]
"""Steps of a run, the seconds that it had trained then without its evaluations, and its results.json."""


def look(options: Options, seen: dict[str, list[Seen]]) -> None:
    """Keep what each run has written: the first measure, and the last."""
    for path in sorted((options.out / "runs").glob(f"*/{results.FILE}")):
        with suppress(DeftError):
            content = results.read(path.parent)
            steps, timings = content.get("steps", 0), content.get("timings", {})
            training = timings.get("train_seconds", 0.0) - timings.get("evaluation_seconds", 0.0)
            measures = seen.setdefault(path.parent.name, [])
            if steps and len(measures) < 2:
                measures.append((steps, training, content))
            elif steps:
                measures[1] = steps, training, content


def tell(options: Options, seen: dict[str, list[Seen]], how: str, fraction: float, elapsed: float) -> None:
    """Rows for each run and for all: rates are those after the first 1,000 steps, without compiling and evaluations."""
    rates = []
    for name, ((first, begin, _), (last, end, content)) in ((k, v) for k, v in seen.items() if len(v) == 2):
        steady = last > first and end > begin  # else the run was too short for two measures
        rate = content["training"]["batch_size"] * ((last - first) / (end - begin) if steady else last / max(end, 1e-9))
        rates.append(rate)
        timings, stages = content.get("timings", {}), content.get("stages", {})
        scores = stages[max(stages)].get("scores", {}) if stages else {}
        row: dict[str, Any] = {"images_per_second": round(rate, 1), "seconds": round(end, 1), "scores": scores}
        row |= {"status": content["status"], "steps": last, "evaluation_seconds": timings.get("evaluation_seconds")}
        shown = ", ".join(f"{key} {value:.3f}" for key, value in scores.items() if key in ("mig", "kl"))
        compiling = max(0.0, begin - first * content["training"]["batch_size"] / rate)
        row["note"] = f"{content['status']}, {last:,} steps, {compiling:.0f} s to start and compile; {shown}"
        accelerator.add(options.out, "runs", name, **row)
    if not rates:
        accelerator.add(options.out, "runs", "all", error="no run has taken a step: see log/runs.log")
        return
    steps = min(measures[1][0] for measures in seen.values() if len(measures) == 2)
    note = f"{len(rates)} runs, {how}, at least {steps:,} steps each; the sweep took {elapsed:.0f} s"
    accelerator.add(options.out, "runs", "all", images_per_second=round(sum(rates), 1), note=note)
    rounds = -(-TEN // len(rates))
    whole = rounds * PAPER_STEPS * BATCH / (sum(rates) / len(rates))
    measured = fraction == 1.0 and steps >= PAPER_STEPS and len(rates) == TEN
    word = "measured" if measured else f"extrapolated from {steps:,} of {PAPER_STEPS:,} steps"
    if steps < ENOUGH_STEPS:
        word += f", fewer than the {ENOUGH_STEPS:,} that it takes"
    accelerator.add(options.out, "runs", "ten paper-length runs, training alone", seconds=round(whole, 1), note=word)


def fastest_precision(options: Options) -> str:
    """The fastest of what the trainer reached, or tf32 where that is within 5% of it; bf16 where nothing is known."""
    rates = rates_of(options, "single", "trainer ")
    best = max(rates, key=lambda name: rates[name], default="bf16" if options.cuda else "fp32")
    return "tf32" if rates.get("tf32", 0.0) > 0.95 * rates.get(best, float("inf")) else best


def rates_of(options: Options, part: str, prefix: str) -> dict[str, float]:
    """Images a second of the rows of a part whose name begins with `prefix`, by the rest of the name."""
    rows = [row for row in accelerator.collect(options.out) if row["part"] == part and "images_per_second" in row]
    return {r["name"].removeprefix(prefix): r["images_per_second"] for r in rows if r["name"].startswith(prefix)}
