"""How long the report takes for a large sweep on this machine.

    python benchmarks/report_speed.py [--runs 1000]

Makes that many results.json files with invented numbers (seven methods, four data sets, three swept values, all
scores, history for the first seed) in a temporary folder, then times the command that a user would run, start of
Python and all imports included. The processor time, of all processes together, also holds on a busy machine.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the invented runs are those of the tests

from tests.report import factory

METHODS = ("DEFT", "beta-VAE", "FactorVAE", "DIP-VAE-I", "DIP-VAE-II", "beta-TCVAE", "AnnealedVAE")


def main() -> None:
    """Make the runs, write their report, print the seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000, help="about how many results.json files to make")
    options = parser.parse_args()
    cells = len(factory.PIECEWISE) * (1 + 3 * (len(METHODS) - 1))  # data sets x (DEFT once, the others swept)
    seeds = max(1, round(options.runs / cells))
    with tempfile.TemporaryDirectory() as folder:
        count = factory.sweep(Path(folder, "runs"), METHODS, list(factory.PIECEWISE), seeds, (2, 6, 16))
        command = [sys.executable, "-m", "deft_lightning.report", f"{folder}/runs", "--out", f"{folder}/report"]
        begin = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - begin
        megabytes = Path(folder, "report", "index.html").stat().st_size / 1e6
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = used.ru_utime + used.ru_stime
    print(f"{count} runs: {seconds:.1f} s ({processor:.1f} s of processor time), a page of {megabytes:.1f} MB")


if __name__ == "__main__":
    main()
