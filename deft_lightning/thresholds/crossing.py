"""Where an annealed KL crosses its limit: arrays in, thresholds out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deft_lightning.common.errors import DeftError

Array = NDArray[np.float64]

LIMIT = 0.1
"""Nats of KL above which the model is said to pass information (section 5.1)."""
WINDOW = 100
"""Optimiser steps that a KL is averaged over, half before and half after, before it is held against the limit."""
EARLY = 0.9
"""A crossing above this share of beta_high is none: that high a beta may never have held information back."""
POINTS = 500
"""At most so many points of a curve are kept in thresholds.json."""


@dataclass(frozen=True)
class Curve:
    """What one anneal test recorded, n times: steps taken, beta, reconstruction and KL in nats.

    `step` int64 [n], rising; `beta` and `reconstruction` [n]; `kl_per_latent` [n, D], averages over a batch.
    """

    step: NDArray[np.int64]
    beta: Array
    reconstruction: Array
    kl_per_latent: Array

    @property
    def kl(self) -> Array:
        """KL in total, [n] nats."""
        return self.kl_per_latent.sum(axis=1)

    def crossing(self, limit: float = LIMIT, window: int = WINDOW) -> int | None:
        """The record at which the total KL, smoothed, first stays above `limit`; None where it never does."""
        return first_stays_above(smooth(self.kl, self.step, window), limit)

    def latent_crossings(self, limit: float = LIMIT, window: int = WINDOW) -> list[int | None]:
        """The same for the KL of every latent, [D]."""
        return [first_stays_above(smooth(column, self.step, window), limit) for column in self.kl_per_latent.T]

    def thinned(self, points: int = POINTS) -> dict[str, Any]:
        """At most `points` of the records, the first and the last among them, as plain lists rounded to six digits."""
        every = np.unique(np.linspace(0, len(self.step) - 1, points).round().astype(np.int64))
        columns = {"beta": self.beta, "reconstruction": self.reconstruction, "kl": self.kl}
        return {
            "step": self.step[every].tolist(),
            **{name: _rounded(column[every]) for name, column in columns.items()},
            "kl_per_latent": [_rounded(row) for row in self.kl_per_latent[every]],
        }


def smooth(values: Array, step: NDArray[np.int64], window: int) -> Array:
    """Every value [n] averaged with those at most window / 2 steps before or after it, [n].

    A centred average does not move a crossing, as one over the past would; at the ends it has fewer values.
    """
    first = np.searchsorted(step, step - window / 2, side="left")
    last = np.searchsorted(step, step + window / 2, side="right")
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return (sums[last] - sums[first]) / (last - first)


def first_stays_above(values: Array, limit: float) -> int | None:
    """The first index from which on every value [n] is above `limit`, to the end; None where the last is not."""
    below = np.flatnonzero(~(values > limit))  # NaN is not above
    first = int(below[-1]) + 1 if len(below) else 0
    return first if first < len(values) else None


def starts_above(curve: Curve, beta_high: float, limit: float = LIMIT, window: int = WINDOW) -> float | None:
    """A `beta_high` to try instead where the smoothed KL stays above `limit` from before `EARLY` of it; else None.

    A KL that falls below the limit at first says nothing: as long as the decoder learns the average image, none passes.

    In a linear Gaussian model under pressure beta, a latent that explains a variance of lambda has a KL of
    log(lambda / beta) / 2 and closes at beta = lambda: at least beta exp(2 KL) of the most informative latent is
    needed. Where KL is large that is far too much, so the answer is between twice and ten times the present beta.
    """
    kl = smooth(curve.kl, curve.step, window)
    first = first_stays_above(kl, limit)
    if first is None or (first > 0 and curve.beta[first] <= EARLY * beta_high):
        return None
    place = int(kl.argmin())
    factor = np.exp(min(2 * float(curve.kl_per_latent[place].max()), 10.0))
    return float(f"{beta_high * np.clip(factor, 2, 10):.2g}")


def outcome(curve: Curve, limit: float, window: int) -> dict[str, Any]:
    """`threshold`, `latent_thresholds`, `curves` and `notices` of thresholds.json for one test."""
    total = curve.crossing(limit, window)
    latents = curve.latent_crossings(limit, window)
    notices = [] if total is not None else [never_crossed(curve, limit)]
    return {
        "threshold": None if total is None else {"pressure": float(curve.beta[total]), "step": int(curve.step[total])},
        "latent_thresholds": [None if i is None else float(curve.beta[i]) for i in latents],
        "notices": notices,
        "curves": [curve.thinned()],
    }


def never_crossed(curve: Curve, limit: float) -> str:
    """The sentence for a KL that never stays above the limit."""
    return (
        f"KL never stays above {limit:g} nats, so that there is no threshold above beta = {curve.beta[-1]:.3g}: give "
        "the test more steps, or see whether the images differ at all."
    )


def too_low(beta_high: float, limit: float, better: float) -> str:
    """The sentence for a beta_high under which information passes from the start; `better` is one to try."""
    return (
        f"KL stays above {limit:g} nats before beta has fallen by a tenth, so that the threshold is near or above the "
        f"beta_high of {beta_high:g}: raise it about {better / beta_high:.2g} times, schedule.beta_high={better:g}."
    )


def check_rule(limit: float, window: int) -> None:
    """Raise `DeftError` unless `limit` is a KL above 0 nats and `window` a whole number of steps above 0."""
    if isinstance(limit, bool) or not isinstance(limit, int | float) or limit <= 0:
        raise DeftError(f"the limit of an anneal test is {limit!r}: give a KL above 0 nats, as in 0.1.")
    if isinstance(window, bool) or not isinstance(window, int) or window < 1:
        raise DeftError(f"the window of an anneal test is {window!r}: give a whole number of steps above 0.")


def check_size(images: int) -> None:
    """Raise `DeftError` unless something can vary among so many images."""
    if images < 2:
        raise DeftError(
            f"the data set has {images} image: nothing varies in it, so that it has no information threshold; give at "
            "least two different images."
        )


def _rounded(values: Array) -> list[float]:
    return [float(f"{value:.6g}") for value in values]
