"""Where the KL of an anneal test crosses its limit: curves in, thresholds out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deft_lightning.common import checks
from deft_lightning.common.errors import DeftError

Array = NDArray[np.float64]

LIMIT = 0.1
"""Nats of KL above which a model passes information (section 5.1)."""
WINDOW = 100
"""Optimiser steps over which the KL is averaged before it is compared with the limit."""
EARLY = 0.9
"""Crossings above this fraction of beta_high are ignored: the KL may never have collapsed, so beta_high was too low."""
SETTLING = 500
"""Steps that the KL of newly initialised weights has to fall below the limit."""
POINTS = 500
"""The most points of a curve in thresholds.json."""


@dataclass(frozen=True)
class Curve:
    """One anneal test, recorded at n steps.

    `step` int64 [n], ascending, counts the steps taken; `beta` [n]; `reconstruction` [n] and `kl_per_latent` [n, D] are
    averages over a batch, in nats.
    """

    step: NDArray[np.int64]
    beta: Array
    reconstruction: Array
    kl_per_latent: Array

    @property
    def kl(self) -> Array:
        """Total KL, [n], in nats."""
        return self.kl_per_latent.sum(axis=1)

    def crossing(self, limit: float = LIMIT, window: int = WINDOW) -> int | None:
        """The first index from which the smoothed total KL stays above `limit`; None where there is none."""
        return first_stays_above(smooth(self.kl, self.step, window), limit)

    def latent_crossings(self, limit: float = LIMIT, window: int = WINDOW) -> list[int | None]:
        """The same for the KL of each latent, [D]."""
        return [first_stays_above(smooth(column, self.step, window), limit) for column in self.kl_per_latent.T]

    def thinned(self, points: int = POINTS) -> dict[str, Any]:
        """At most `points` evenly spaced points, first and last included, as plain lists rounded to six digits."""
        indices = np.unique(np.linspace(0, len(self.step) - 1, points).round().astype(np.int64))
        columns = {"beta": self.beta, "reconstruction": self.reconstruction, "kl": self.kl}
        return {
            "step": self.step[indices].tolist(),
            **{name: _rounded(column[indices]) for name, column in columns.items()},
            "kl_per_latent": [_rounded(row) for row in self.kl_per_latent[indices]],
        }


def smooth(values: Array, step: NDArray[np.int64], window: int) -> Array:
    """The average of `values` [n] over the points at most window / 2 steps before or after each, [n].

    The average is centred because one over past steps would move every crossing to a later step. Near the ends it is
    over fewer points.
    """
    first = np.searchsorted(step, step - window / 2, side="left")
    last = np.searchsorted(step, step + window / 2, side="right")
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return (sums[last] - sums[first]) / (last - first)


def first_stays_above(values: Array, limit: float) -> int | None:
    """The first index from which all `values` [n] are above `limit`; None where the last value is not."""
    below = np.flatnonzero(~(values > limit))  # NaN counts as below
    first = int(below[-1]) + 1 if len(below) else 0
    return first if first < len(values) else None


def suggest_beta_high(curve: Curve, beta_high: float, limit: float = LIMIT, window: int = WINDOW) -> float | None:
    """A larger `beta_high` to try; None where this one is high enough.

    It is too low when the smoothed KL stays above the limit from a beta above `EARLY` beta_high on. That the KL is
    below the limit before does not show that beta_high is high enough: no information passes at any pressure while the
    decoder learns the average image.

    In a linear Gaussian model under pressure beta, a latent that explains a variance lambda has a KL of
    log(lambda / beta) / 2 and collapses at beta = lambda. So beta exp(2 KL) of the most informative latent is the least
    that is needed. For a large KL it is far too much, so the suggestion is 2 to 10 times the present beta_high.
    """
    kl = smooth(curve.kl, curve.step, window)
    first = first_stays_above(kl, limit)
    if first is None or (first > 0 and curve.beta[first] <= EARLY * beta_high):
        return None
    lowest = int(kl.argmin())
    factor = np.exp(min(2 * float(curve.kl_per_latent[lowest].max()), 10.0))
    return float(f"{beta_high * np.clip(factor, 2, 10):.2g}")


def check_beta_high(curve: Curve, beta_high: float, limit: float = LIMIT, window: int = WINDOW) -> None:
    """Raise `DeftError` when `beta_high` is too low for `curve`, the whole test or its first `steps_to_check`."""
    better = suggest_beta_high(curve, beta_high, limit, window)
    if better is not None:
        raise DeftError(
            f"schedule.beta_high is {beta_high:g}, near or below the threshold (the KL stays above {limit:g} nats "
            f"before beta has fallen by a tenth): raise it about {better / beta_high:.2g} times, "
            f"schedule.beta_high={better:g}."
        )


def steps_to_check(steps: int) -> int:
    """After how many of the `steps` of a test `check_beta_high` can tell whether beta_high is too low."""
    return max(SETTLING, steps // 10)


def outcome(curve: Curve, limit: float, window: int) -> dict[str, Any]:
    """`threshold`, `latent_thresholds`, `curves` and `notices` of thresholds.json for one test."""
    total = curve.crossing(limit, window)
    latents = curve.latent_crossings(limit, window)
    notices = []
    if total is None:
        notices.append(
            f"the KL never stays above {limit:g} nats, so there is no threshold above beta = {curve.beta[-1]:.3g}: use "
            "more steps, or check that the images differ."
        )
    return {
        "threshold": None if total is None else {"pressure": float(curve.beta[total]), "step": int(curve.step[total])},
        "latent_thresholds": [None if i is None else float(curve.beta[i]) for i in latents],
        "notices": notices,
        "curves": [curve.thinned()],
    }


def check_rule(limit: float, window: int) -> None:
    """Raise `DeftError` unless `limit` is above 0 nats and `window` is at least 1 step."""
    checks.number("callbacks.anneal_recorder.limit", limit, above=True)
    checks.whole("callbacks.anneal_recorder.window", window, 1)


def check_size(images: int) -> None:
    """Raise `DeftError` for a data set of fewer than two images, in which nothing varies."""
    if images < 2:
        raise DeftError(
            f"the data set has {images} image, and nothing varies in it: an information threshold needs at least two "
            "different images."
        )


def _rounded(values: Array) -> list[float]:
    return [float(f"{value:.6g}") for value in values]
