"""Scores of a model: the metrics, what each of them reads, and the names of its scores.

Most metrics read a table of codes and factors. Those that train a predictor also read a test table. The FactorVAE and
beta-VAE scores read batches of codes in which one factor is fixed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from deft_lightning import metrics
from deft_lightning.common import checks
from deft_lightning.common.errors import DeftError, first_line
from deft_lightning.evaluation import own

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Metric:
    """A metric that reads tables of codes.

    Attributes:
        function: the metric.
        scores: for each field of its result that is a score, the name of the score in results.json.
        labelled: whether it reads factors too.
        split: whether it reads a test table too.
        bounds: smallest and largest value of its scores.
    """

    function: Callable[..., Any]
    scores: dict[str, str]
    labelled: bool = True
    split: bool = False
    bounds: tuple[float, float] = (0.0, 1.0)


TABLE_METRICS = {
    "mig": Metric(metrics.mig, {"score": "mig"}),
    "modularity": Metric(metrics.modularity, {"score": "modularity"}),
    "explicitness": Metric(metrics.explicitness, {"test": "explicitness"}, split=True),
    "dci": Metric(
        metrics.dci,
        {
            "disentanglement": "dci_disentanglement",
            "completeness": "dci_completeness",
            "informativeness_test": "dci_informativeness",
        },
        split=True,
    ),
    "sap": Metric(metrics.sap, {"score": "sap"}, split=True),
    "irs": Metric(metrics.irs, {"score": "irs"}),
    "infomec": Metric(
        metrics.infomec, {name: f"infomec_{name}" for name in ("modularity", "compactness", "explicitness")}
    ),
    "active_units": Metric(metrics.active_units, {"score": "active_units"}, labelled=False, bounds=(0.0, float("inf"))),
    "total_correlation": Metric(
        metrics.total_correlation, {"score": "total_correlation"}, labelled=False, bounds=(0.0, float("inf"))
    ),
}
BATCH_METRICS = ("factor_vae", "beta_vae")
NAMES = (*TABLE_METRICS, *BATCH_METRICS)


def _name(item: str | Mapping[str, str]) -> str:
    return item if isinstance(item, str) else item["name"]


def score_names(metric: str) -> list[str]:
    """The names of the scores of `metric` in results.json."""
    return [metric] if metric in BATCH_METRICS else list(TABLE_METRICS[metric].scores.values())


COLUMNS = ("data", "dataset", "method", "value", "diverged", "best")
"""Columns beside the scores in tables of runs."""
TAKEN = frozenset(
    [*NAMES, *(score for metric in NAMES for score in score_names(metric)), "reconstruction", "kl", *COLUMNS]
)
"""Names that a score of the user's own cannot have."""


@dataclass(frozen=True)
class Settings:
    """The `metrics` part of a configuration.

    Attributes:
        num_points: images of the table that is scored.
        num_test: images of the test table.
        bins: bins per latent, for mutual information.
        each_stage: metrics to score at the end of every stage: names, or the user's own scores, see `evaluation.own`.
        at_end: metrics to score only at the end of the last stage.
        votes: batches on which the FactorVAE and beta-VAE scores are trained, and batches on which they are tested.
        bootstrap: resamples for confidence intervals; 0 for none.
        dci_estimator: "reference" or "fast".
        infomec_mi: "knn" or "binned".
        seed: of the metrics and of the batches with one factor fixed.

    Raises:
        DeftError: for a wrong value; the message names the field.
    """

    num_points: int = 10_000
    num_test: int = 5_000
    bins: int = 20
    each_stage: Sequence[str | Mapping[str, str]] = ("mig", "modularity", "active_units", "total_correlation")
    at_end: Sequence[str | Mapping[str, str]] = ()
    votes: Sequence[int] = (10_000, 5_000)
    bootstrap: int = 0
    dci_estimator: str = "reference"
    infomec_mi: str = "binned"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low in (("num_points", 2), ("num_test", 2), ("bins", 2), ("bootstrap", 0), ("seed", 0)):
            checks.whole(f"metrics.{name}", getattr(self, name), low)
        for name in ("each_stage", "at_end"):
            value = getattr(self, name)
            if not isinstance(value, list | tuple):
                raise DeftError(f"metrics.{name} is {value!r}: give a list of {', '.join(NAMES)}.")
            for item in value:
                if not isinstance(item, str) or item not in NAMES:
                    own.path_of(item, f"metrics.{name}", NAMES, TAKEN)
        votes = self.votes
        two = isinstance(votes, list | tuple) and len(votes) == 2
        if not two or not all(checks.is_whole(n) and n > 0 for n in votes):
            raise DeftError(
                f"metrics.votes is {votes!r}: give the batches to train on and to test on, as in [10000,5000]."
            )
        for name, choices in (("dci_estimator", ("reference", "fast")), ("infomec_mi", ("knn", "binned"))):
            checks.choice(f"metrics.{name}", getattr(self, name), choices)
        if self.bootstrap == 1 or (self.bootstrap and self.infomec_mi == "knn" and "infomec" in self.names):
            raise DeftError(
                f"metrics.bootstrap is {self.bootstrap}: give 2 or more, and metrics.infomec_mi=binned with infomec, "
                "since knn overestimates the information of resampled rows."
            )

    @property
    def names(self) -> list[str]:
        """The names of all metrics, those of every stage first."""
        return list(dict.fromkeys(map(_name, [*self.each_stage, *self.at_end])))

    @property
    def stage_names(self) -> list[str]:
        """The names of the metrics of every stage."""
        return list(map(_name, self.each_stage))

    @property
    def own(self) -> dict[str, str]:
        """The paths "module.function" of the user's own scores, by name."""
        items = [item for item in [*self.each_stage, *self.at_end] if isinstance(item, Mapping)]
        return {item["name"]: item["function"] for item in items}

    def missing(self, scores: Collection[str]) -> list[str]:
        """The names of the metrics that have scores which are not among `scores`."""
        return [name for name in self.names if not self._is_in(name, scores)]

    def _is_in(self, name: str, scores: Collection[str]) -> bool:
        if name in self.own:  # its numbers are not known before it is computed
            return any(score == name or score.startswith(f"{name}_") for score in set(scores) - TAKEN)
        return set(score_names(name)) <= set(scores)

    def options(self, metric: str) -> dict[str, Any]:
        """The arguments of a metric besides its tables."""
        options: dict[str, dict[str, Any]] = {
            "mig": {"bins": self.bins},
            "modularity": {"bins": self.bins},
            "dci": {"estimator": self.dci_estimator, "seed": self.seed},
            "infomec": {"mi": self.infomec_mi, "bins": self.bins, "seed": self.seed},
        }
        return options.get(metric, {})


@dataclass
class Scored:
    """The scores of a model.

    Attributes:
        scores: by name.
        intervals: [low, high] of the scores that have a confidence interval.
        dci_estimator: the estimator that DCI used, if it is among the scores.
        failed: for the user's own scores that raised an exception, the reason.
    """

    scores: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, list[float]] = field(default_factory=dict)
    dci_estimator: str | None = None
    failed: dict[str, str] = field(default_factory=dict)

    def add_means(self, settings: Settings, **of_images: NDArray[np.float64]) -> None:
        """Add the means of per-image values [N] as the first scores."""
        self.scores = {name: float(values.mean()) for name, values in of_images.items()} | self.scores
        for name, values in of_images.items() if settings.bootstrap else ():
            interval = metrics.bootstrap(np.mean, values, samples=settings.bootstrap, seed=settings.seed)["score"]
            self.intervals[name] = [interval.low, interval.high]

    def record(self) -> dict[str, Any]:
        """As results.json holds it. Empty parts are left out."""
        parts = {
            "scores": self.scores,
            "intervals": self.intervals,
            "dci_estimator": self.dci_estimator,
            "failed_scores": self.failed,
        }
        return {name: part for name, part in parts.items() if part}


class Source(Protocol):
    """Where metrics find what they read besides the scored table."""

    def test_table(self) -> tuple[Any, Any]:
        """Codes and factors of other images, for metrics that test a predictor."""

    def score_batches(self, name: str, settings: Settings) -> float:
        """The FactorVAE or beta-VAE score, of batches in which one factor is fixed."""


def score(names: Sequence[str], settings: Settings, codes: Any, factors: Any | None, source: Source) -> Scored:
    """Score a table of codes by the metrics `names`. Those that need factors are left out where there are none.

    Args:
        names: keys of `TABLE_METRICS`, or names in `BATCH_METRICS`.
        settings: of the metrics.
        codes: [N, D].
        factors: [N, K] or None.
        source: of other codes.

    Raises:
        DeftError: as the metrics do.
    """
    scored = Scored()
    test: tuple[Any, Any] | None = None
    for name in names:
        if name in settings.own:
            _score_own(name, settings, codes, factors, scored)
            continue
        labelled = name in BATCH_METRICS or TABLE_METRICS[name].labelled
        if labelled and factors is None:
            continue
        if name in BATCH_METRICS:
            _score_batches(name, settings, source, scored)
            continue
        metric = TABLE_METRICS[name]
        arrays: list[Any] = [codes, factors] if metric.labelled else [codes]
        if metric.split:
            test = test or source.test_table()
            arrays += test
        _score_table(name, metric, arrays, settings, scored)
    return scored


def _score_table(name: str, metric: Metric, arrays: list[Any], settings: Settings, scored: Scored) -> None:
    options = settings.options(name)
    result = metric.function(*arrays, **options)
    for attribute, score in metric.scores.items():
        scored.scores[score] = float(getattr(result, attribute))
    if name == "dci":
        scored.dci_estimator = result.estimator
    if settings.bootstrap:
        seed = options.pop("seed", None)  # `bootstrap` has a seed of its own, that of the resamples
        intervals = metrics.bootstrap(
            metric.function if seed is None else partial(metric.function, seed=seed),
            *arrays,
            samples=settings.bootstrap,
            seed=settings.seed,
            bounds=metric.bounds,
            **options,
        )
        for attribute, score in metric.scores.items():
            scored.intervals[score] = [float(intervals[attribute].low), float(intervals[attribute].high)]


def _score_own(name: str, settings: Settings, codes: Any, factors: Any | None, scored: Scored) -> None:
    """A score of the user's own; its failure does not end the run."""
    if factors is None:
        return
    try:
        function = own.load(settings.own[name])
        values = own.values(name, function(codes, factors))
        scored.scores |= values
        if settings.bootstrap:
            intervals = metrics.bootstrap(function, codes, factors, samples=settings.bootstrap, seed=settings.seed)
            for key, interval in intervals.items():
                field = name if key == "score" else f"{name}_{key}"
                if field in values:  # a dataclass may hold arrays beside its numbers
                    scored.intervals[field] = [float(interval.low), float(interval.high)]
    except Exception as error:  # of any code
        said = first_line(error) if str(error) else ""
        scored.failed[name] = ": ".join(filter(None, (type(error).__name__, said)))
        log.warning("the score %s failed (%s): the run continues without it.", name, scored.failed[name])


def _score_batches(name: str, settings: Settings, source: Source, scored: Scored) -> None:
    try:
        value = source.score_batches(name, settings)
    except DeftError as error:  # no factor of these labels can be fixed: keep the other scores
        log.info("%s is not scored: %s", name, error)
        return
    scored.scores[name] = value
    if settings.bootstrap:  # the score is a proportion of independent votes
        votes = settings.votes[1]
        interval = binomtest(round(value * votes), votes).proportion_ci(method="wilson")
        scored.intervals[name] = [float(interval.low), float(interval.high)]
