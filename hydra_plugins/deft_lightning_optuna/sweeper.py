"""Optuna as a sweeper for its current release: hydra-optuna-sweeper needs one before 3.0."""

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

from deft_lightning.launch.sweep import PLAN

if TYPE_CHECKING:  # optional, and Hydra imports every plugin to know it
    import optuna

log = logging.getLogger(__name__)


class OptunaSweeper(Sweeper):
    """Looks for what makes `sweep.score` greatest, with Optuna's TPE sampler from `seed`.

    `n_trials` jobs in batches of `n_jobs`, which the launcher runs at once. `params` and the command line give what
    to look through: `interval(1, 100)` of floats, tagged `tag(log, interval(1, 100))` for a logarithmic scale and
    `tag(int, interval(1, 100))` for whole numbers, `range(...)` or choices. The trials are a function of the seed and
    of the scores so far: the same sweep resumed asks for the same jobs as long as those that had failed fail again, and
    those that are finished return their scores at once. A failed job counts as worse than any that has finished.
    """

    def __init__(self, n_trials: int, n_jobs: int, seed: int, params: Mapping[str, Any] | None = None) -> None:
        self.n_trials, self.n_jobs, self.seed, self.params = n_trials, n_jobs, seed, dict(params or {})

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra's hook: the launcher of the jobs."""
        self._config, self._context = config, hydra_context
        self._launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Ask, launch and tell `n_trials` times; raises `HydraException` for what cannot be searched."""
        try:
            import optuna  # noqa: PLC0415
        except ImportError as error:
            raise HydraException("hydra/sweeper=optuna needs Optuna: pip install 'deft-lightning[optuna]'.") from error
        if self._config.sweep.score is None:
            raise HydraException("there is nothing to maximise: name a score, as in sweep.score=mig.")
        parser = OverridesParser.create(config_loader=self._context.config_loader)
        given = [*(f"{key}={value}" for key, value in self.params.items()), *arguments]
        overrides = parser.parse_overrides(given)
        fixed = [o.input_line for o in overrides if not o.is_sweep_override() and o.input_line]
        space = {_key(o): distribution(o) for o in overrides if o.is_sweep_override()}
        if not space:
            raise HydraException("there is nothing to look through: give an interval, as in 'x=interval(1, 100)'.")
        folder = Path(self._config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self._config, folder / PLAN)

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.TPESampler(seed=self.seed)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for first in range(0, self.n_trials, self.n_jobs):
            trials = [study.ask(space) for _ in range(min(self.n_jobs, self.n_trials - first))]
            jobs = [[*fixed, *(f"{key}={value}" for key, value in trial.params.items())] for trial in trials]
            self._tell(study, trials, self._launcher.launch(jobs, initial_job_idx=first))
        self._conclude(study, folder)

    def _tell(self, study: optuna.Study, trials: Sequence[optuna.Trial], outcomes: Sequence[Any]) -> None:
        from optuna.trial import TrialState  # noqa: PLC0415

        for trial, outcome in zip(trials, outcomes, strict=True):
            value = outcome.return_value if outcome.status == JobStatus.COMPLETED else None
            if value is None:
                study.tell(trial, state=TrialState.PRUNED)  # of a trial that fails the sampler would learn nothing
            else:
                study.tell(trial, value)

    def _conclude(self, study: optuna.Study, folder: Path) -> None:
        """best.yaml in the sweep's folder, and a line on the screen; nothing where every job has failed."""
        if not any(trial.value is not None for trial in study.trials):
            return
        best = {"score": self._config.sweep.score, "value": study.best_value, "params": study.best_params}
        OmegaConf.save(OmegaConf.create(best), folder / "best.yaml")
        found = " ".join(f"{key}={value}" for key, value in study.best_params.items())
        log.info("The highest %s, %.4f, is that of %s", self._config.sweep.score, study.best_value, found)


def _key(override: Override) -> str:
    key = override.get_key_element()
    assert isinstance(key, str)
    return key


def distribution(override: Override) -> optuna.distributions.BaseDistribution:
    """What Optuna samples for a sweep in Hydra's grammar. Raises `HydraException` for a sweep it does not know."""
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
    raise HydraException(f"{override.input_line} cannot be looked through: give an interval, a range or choices.")
