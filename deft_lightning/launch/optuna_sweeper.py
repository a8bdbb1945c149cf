"""Hydra sweeper for current releases of Optuna; hydra-optuna-sweeper needs a release before 3.0."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus
from hydra.errors import HydraException
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from deft_lightning.common import checks
from deft_lightning.common.errors import DeftError
from deft_lightning.launch.planned import Planned
from deft_lightning.launch.sweep import PLAN, SweepFolder

if TYPE_CHECKING:  # Hydra imports every plugin, and Optuna is an optional dependency
    import optuna

log = logging.getLogger(__name__)


class OptunaSweeper(Sweeper):
    """Maximises `sweep.score` with Optuna's TPE sampler, seeded with `seed`.

    Runs `n_trials` jobs in batches of `n_jobs`; the launcher runs the jobs of a batch at once. `params` and the command
    line define the search space: `interval(1, 100)` for floats, `tag(log, interval(1, 100))` for a logarithmic scale,
    `tag(int, interval(1, 100))` for whole numbers, `range(...)`, or a list of choices.

    A trial depends on the seed and on the scores of the trials before it. A sweep that is resumed therefore asks for
    the same jobs, as long as jobs that failed fail again; finished jobs return their scores at once. A job that failed
    or diverged ranks below every job that has a score.
    """

    def __init__(self, n_trials: int, n_jobs: int, seed: int, params: Mapping[str, Any] | None = None) -> None:
        self.n_trials, self.n_jobs, self.seed, self.params = n_trials, n_jobs, seed, dict(params or {})

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra hook: create the launcher of the jobs."""
        self._config, self._context = config, hydra_context
        self._launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run `n_trials` jobs; raises `HydraException` if there is no score or no search space.

        Settings that are suggested again are not trained again: they are the same job.
        """
        try:
            import optuna  # noqa: PLC0415
        except ImportError as error:
            raise HydraException("Optuna is not installed: pip install 'deft-lightning[optuna]'.") from error
        if self._config.sweep.score is None:
            raise HydraException("sweep.score is null: name the score to maximise, as in sweep.score=mig.")
        try:
            for name in ("n_trials", "n_jobs"):
                checks.whole(f"hydra.sweeper.{name}", getattr(self, name), 1)
        except DeftError as error:
            raise HydraException(str(error)) from error
        parser = OverridesParser.create(config_loader=self._context.config_loader)
        parsed = parser.parse_overrides([*(f"{key}={value}" for key, value in self.params.items()), *arguments])
        overrides = {_key(override): override for override in parsed}.values()  # the command line comes last and wins
        fixed = [o.input_line for o in overrides if not o.is_sweep_override() and o.input_line]
        space = {_key(o): distribution(o) for o in overrides if o.is_sweep_override()}
        if not space:
            raise HydraException("the search space is empty: give an interval, as in 'x=interval(1, 100)'.")
        folder = Path(self._config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self._config, folder / PLAN)

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.TPESampler(seed=self.seed)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        scores: dict[tuple[str, ...], float | None] = {}  # by job
        for first in range(0, self.n_trials, self.n_jobs):
            trials = [study.ask(space) for _ in range(min(self.n_jobs, self.n_trials - first))]
            jobs = [(*fixed, *(f"{key}={value}" for key, value in trial.params.items())) for trial in trials]
            new = [job for job in dict.fromkeys(jobs) if job not in scores]
            repeated = first + len(trials) - len(scores) - len(new)
            SweepFolder.planned = Planned(trials=self.n_trials - repeated)
            if new:
                outcomes = self._launcher.launch([list(job) for job in new], initial_job_idx=len(scores))
                scores |= {job: _score(outcome) for job, outcome in zip(new, outcomes, strict=True)}
            self._tell_scores(study, trials, [scores[job] for job in jobs])
        self._save_best(study, folder)

    def _tell_scores(self, study: optuna.Study, trials: Sequence[optuna.Trial], scores: Sequence[float | None]) -> None:
        from optuna.trial import TrialState  # noqa: PLC0415

        for trial, score in zip(trials, scores, strict=True):
            if score is None:
                study.tell(trial, state=TrialState.PRUNED)  # the sampler ignores trials in the state FAIL
            else:
                study.tell(trial, score)

    def _save_best(self, study: optuna.Study, folder: Path) -> None:
        """Write best.yaml to the folder of the sweep and log it; does nothing if no job has a score."""
        if not any(trial.value is not None for trial in study.trials):
            return
        best = {"score": self._config.sweep.score, "value": study.best_value, "params": study.best_params}
        OmegaConf.save(OmegaConf.create(best), folder / "best.yaml")
        params = " ".join(f"{key}={value}" for key, value in study.best_params.items())
        log.info("The highest %s is %.4f, with %s", self._config.sweep.score, study.best_value, params)


def _score(outcome: Any) -> float | None:
    """What a job returned; None if it failed."""
    return outcome.return_value if outcome.status == JobStatus.COMPLETED else None


def _key(override: Override) -> str:
    key = override.get_key_element()
    assert isinstance(key, str)
    return key


def distribution(override: Override) -> optuna.distributions.BaseDistribution:
    """The Optuna distribution of a sweep in Hydra's grammar; raises `HydraException` if there is none."""
    from optuna.distributions import (  # noqa: PLC0415
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    value = override.value()
    if isinstance(value, IntervalSweep):
        assert value.start is not None
        assert value.end is not None
        logarithmic = "log" in value.tags
        if "int" in value.tags:
            return IntDistribution(int(value.start), int(value.end), log=logarithmic)
        return FloatDistribution(float(value.start), float(value.end), log=logarithmic)
    if isinstance(value, RangeSweep | ChoiceSweep):
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    raise HydraException(f"{override.input_line} cannot be searched: use an interval, a range or choices.")
