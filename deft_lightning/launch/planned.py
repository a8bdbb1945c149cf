"""The jobs that a sweep is going to have, as far as they are known before it begins."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig

from deft_lightning.common import checks
from deft_lightning.launch.overrides import digest, raw_overrides, sweeper_params


@dataclass(frozen=True)
class Planned:
    """The jobs of a sweep.

    `jobs` maps the end of the name of each job's folder, see `overrides.digest`, to what the job differs in. `trials`
    counts the jobs of a search, which chooses their settings as it goes.
    """

    jobs: dict[str, str] = field(default_factory=dict)
    trials: int = 0

    def not_begun(self, folders: Collection[str]) -> list[str]:
        """What to call each job that has none of `folders`, the names of those of jobs that have begun."""
        begun = {folder.rpartition("_")[2] for folder in folders}
        names = [name for end, name in self.jobs.items() if end not in begun]
        return names + ["a trial of the search"] * (self.trials - len(folders))


UNKNOWN = Planned()
"""Where nothing is known."""


def plan(config: DictConfig, over: Collection[str]) -> Planned:
    """The jobs of the sweep `config`, which differ in the fields and config groups `over`.

    There are none where the sweeper is another than Hydra's own or Optuna's, or is going to refuse the sweep.
    """
    sweeper = config.hydra.sweeper
    if not str(sweeper.get("_target_")).endswith(".BasicSweeper"):
        trials = sweeper.get("n_trials")
        return Planned(trials=trials if checks.is_whole(trials) else 0)
    loader = GlobalHydra.instance().config_loader() if GlobalHydra.instance().is_initialized() else None
    try:
        overrides = OverridesParser.create(loader).parse_overrides(
            [*sweeper_params(config), *raw_overrides(config.hydra.overrides.task)]
        )
        (jobs,) = BasicSweeper.split_arguments(overrides, max_batch_size=None)
    except HydraException:
        return UNKNOWN
    return Planned({digest(job): " ".join(word for word in job if _key(word) in over) or "the job" for job in jobs})


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0].partition("@")[0]
