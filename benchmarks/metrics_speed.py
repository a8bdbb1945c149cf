"""How fast the metrics are on this machine, as ratios to the reference formulation measured in one run.

    python benchmarks/metrics_speed.py [--points 10000] [--votes 10000] [--without-dci]

Codes of 10 latents (five factors of dSprites with noise on them, five of noise alone) are scored twice:

    MI matrix        a histogram and np.digitize per latent, then scikit-learn's mutual_info_score per pair
    FactorVAE score  a Python loop that draws, encodes and votes batch by batch; time in the encoder is excluded
    DCI              scikit-learn's GradientBoostingClassifier, one process a factor, against estimator="fast"

The first two take turns, so that a machine that slows down slows both, and the medians count; the reference of
DCI takes some minutes on 10,000 points. Keep the machine quiet meanwhile.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import mutual_info_score

from deft_lightning.metrics import dci, factor_vae_score, mutual_information

SIZES = (3, 6, 40, 32, 32)
BATCH, THRESHOLD, BINS = 64, 0.05, 20


class Encoder:
    """Factor values [N, K] to codes [N, 10]; keeps the seconds it took."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._random = np.random.default_rng(0)
        self._weights = np.hstack([np.diag(1 / np.asarray(SIZES)), np.zeros((5, 5))]).astype(np.float32)
        self._noise = self._random.normal(scale=0.1, size=(2**14, 10)).astype(np.float32)

    def __call__(self, values: NDArray[np.int64]) -> NDArray[np.float32]:
        begin = time.perf_counter()
        codes = values.astype(np.float32) @ self._weights + self._noise[: len(values)]
        self.seconds += time.perf_counter() - begin
        return codes


def sample(points: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Codes [points, 10] and factors [points, 5] of dSprites."""
    random = np.random.default_rng(seed)
    factors = np.stack([random.integers(size, size=points) for size in SIZES], axis=1)
    signal = np.hstack([factors / np.asarray(SIZES), np.zeros((points, 5))])
    return (signal + random.normal(scale=0.1, size=signal.shape)).astype(np.float32), factors


def reference_mutual_information(codes: NDArray[Any], factors: NDArray[Any]) -> NDArray[np.float64]:
    """The matrix pair by pair."""
    binned = [np.digitize(column, np.histogram(column, BINS)[1][:-1]) for column in codes.T]
    return np.array([[mutual_info_score(values, latent) for values in factors.T] for latent in binned])


def reference_factor_vae(encode: Encoder, num_train: int, num_eval: int, num_variance: int) -> float:
    """The score vote by vote."""
    random = np.random.RandomState(0)

    def draw(count: int) -> NDArray[np.int64]:
        values = np.zeros((count, len(SIZES)), dtype=np.int64)
        for k, size in enumerate(SIZES):
            values[:, k] = random.randint(size, size=count)
        return values

    overall = np.var(encode(draw(num_variance)), axis=0, ddof=1)
    active = np.sqrt(overall) >= THRESHOLD

    def votes(count: int) -> NDArray[np.int64]:
        table = np.zeros((len(SIZES), int(active.sum())), dtype=np.int64)
        for _ in range(count):
            fixed = random.randint(len(SIZES))
            values = draw(BATCH)
            values[:, fixed] = values[0, fixed]
            local = np.var(encode(values), axis=0, ddof=1)
            table[fixed, np.argmin(local[active] / overall[active])] += 1
        return table

    classifier = votes(num_train).argmax(axis=0)
    evaluation = votes(num_eval)
    return float(evaluation[classifier, np.arange(evaluation.shape[1])].sum() / num_eval)


def seconds(function: Callable[[], Any], encode: Encoder | None = None) -> tuple[float, Any]:
    """How long a call takes, less the time in its encoder, and what it gives."""
    begin, encoding = time.perf_counter(), encode.seconds if encode else 0.0
    result = function()
    return time.perf_counter() - begin - ((encode.seconds - encoding) if encode else 0.0), result


def turns(reference: Callable[[], Any], here: Callable[[], Any], times: int, encode: Encoder | None = None) -> Any:
    """Median seconds of both, `times` turns each (`here` five times a turn), and what they give."""
    slow, fast = [], []
    here()  # warm up
    for _ in range(times):
        slow.append(seconds(reference, encode))
        fast += [seconds(here, encode) for _ in range(5)]
    return median(s for s, _ in slow), median(s for s, _ in fast), slow[-1][1], fast[-1][1]


def row(name: str, slow: float, fast: float, least: int, agreement: str) -> None:
    """Print one line of the table."""
    times = f"{slow * 1e3:12,.1f} ms {fast * 1e3:10,.1f} ms {slow / fast:8.1f} x"
    print(f"{name:16s} {times}  (at least {least} x)  {agreement}")


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=10_000, help="training points; half as many test points")
    parser.add_argument("--votes", type=int, default=10_000, help="training votes; half as many evaluation votes")
    parser.add_argument("--turns", type=int, default=5, help="turns of each but DCI")
    parser.add_argument("--without-dci", action="store_true", help="leave out DCI, whose reference takes minutes")
    options = parser.parse_args()
    train, test = sample(options.points, 0), sample(options.points // 2, 1)
    print(f"{'':16s} {'reference':>15s} {'here':>13s} {'ratio':>10s}")

    slow, fast, matrix, ours = turns(
        lambda: reference_mutual_information(*train), lambda: mutual_information(*train), options.turns
    )
    row("MI matrix", slow, fast, 50, f"largest difference {np.abs(matrix - ours).max():.0e} nats")

    encode, counts = Encoder(), (options.votes, options.votes // 2, options.points)
    slow, fast, score, result = turns(
        lambda: reference_factor_vae(encode, *counts),
        lambda: factor_vae_score(
            encode,
            SIZES,
            batch_size=BATCH,
            num_train=counts[0],
            num_eval=counts[1],
            num_variance=counts[2],
            prune_threshold=THRESHOLD,
        ),
        options.turns,
        encode,
    )
    row("FactorVAE score", slow, fast, 20, f"{score:.3f} and {result.eval:.3f}")

    if not options.without_dci:
        dci(*sample(100, 0), *sample(100, 1), estimator="fast")  # warm up
        fast, ours = seconds(lambda: dci(*train, *test, estimator="fast"))
        slow, reference = seconds(lambda: dci(*train, *test, estimator="reference"))
        row("DCI", slow, fast, 10, "")
        print(f"    {reference}\n    {ours}")


if __name__ == "__main__":
    main()
