"""What keeping freed memory (`deft_lightning.common.memory`) gains a training step on a CPU, measured in one run.

    python benchmarks/memory.py [--rounds 5] [--batch 64]

Two processes train the module of DEFT in a bare loop, one that keeps what it frees and one that does not; they take
turns, so that a machine that slows down slows both. Where the C library is not glibc the two are the same.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

import torch

from deft_lightning import DEFT, BetaVAE, Groups, Piecewise
from deft_lightning.common import memory

TURN = 5.0  # seconds


def worker(batch: int) -> None:
    """Train for a turn whenever a line arrives, and answer with images, seconds, page faults and the peak in MB."""
    module = DEFT(Groups([3, 3, 2, 2]), Piecewise([2, 2, 4, 15], [160, 105, 30, 1]), BetaVAE(), steps_per_epoch=1)
    optimizer = torch.optim.Adam(module.parameters(), lr=5e-4, fused=True)
    images = torch.rand(batch, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    noise, pressure = torch.randn(batch, 10), torch.tensor(1.0)
    for _ in sys.stdin:
        before, begin, seen = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter(), 0
        while time.perf_counter() - begin < TURN:
            optimizer.zero_grad()
            module.compute_loss(images, noise, pressure).total.backward()
            optimizer.step()
            seen += batch
        usage = resource.getrusage(resource.RUSAGE_SELF)
        peak = usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
        print(seen, time.perf_counter() - begin, usage.ru_minflt - before, peak, flush=True)


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help=f"turns of {TURN:g} s of each")
    parser.add_argument("--batch", type=int, default=64, help="images a step")
    parser.add_argument("--worker", choices=("kept", "given back"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        if options.worker == "kept":
            memory.retain_freed()
        worker(options.batch)
        return
    command = [sys.executable, __file__, "--batch", str(options.batch), "--worker"]
    workers = {
        name: subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name in ("given back", "kept")
    }
    rows: dict[str, list[list[float]]] = {name: [] for name in workers}
    for turn in range(options.rounds + 1):
        for name, process in workers.items():
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            row = [float(word) for word in process.stdout.readline().split()]
            if turn:  # the first is a warm-up
                rows[name].append(row)
    for process in workers.values():
        process.communicate()
    rates = {}
    print("freed memory  images/s  page faults an image  peak, MB")
    for name, table in rows.items():
        images, seconds, faults, _ = map(sum, zip(*table, strict=True))
        rates[name] = images / seconds
        print(f"{name:12s}  {rates[name]:8.0f}  {faults / images:20.1f}  {table[-1][-1]:8.0f}")
    print(f"kept / given back: {rates['kept'] / rates['given back']:.2f}")


if __name__ == "__main__":
    main()
