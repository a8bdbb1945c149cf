"""Pressures without labels: anneal tests on the whole data set with several seeds, and a schedule from them.

The tests are runs of their own, one after another, each with its checkpoints: at 64 images a step the arithmetic is
all of the time, so that a population of them would gain little on a CPU.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from deft_lightning.common import results
from deft_lightning.common.errors import DeftError
from deft_lightning.thresholds import record
from deft_lightning.thresholds import rule as proposal
from deft_lightning.thresholds.measurement import anneal_of, measurement, settings, take_counts
from deft_lightning.training import run


def propose(cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """Run `n` anneal tests, with seeds from `seed` on, and write the schedule that follows into thresholds.json.

    The schedule is as long as the experiment's own, or as Table 1's for dSprites. Resumed, finished tests are kept
    and the one that was stopped goes on. Raises `DeftError` when no latent ever opens.
    """
    cfg, counts = take_counts(cfg, "n")
    schedule = anneal_of(cfg)
    rule = settings(cfg, schedule)
    with measurement(cfg, folder, counts, rule) as dataset:
        tests = [_test(cfg, folder / f"seed_{seed}", seed) for seed in range(cfg.seed, cfg.seed + counts["n"])]
        latents = [test["latent_thresholds"] for test in tests]
        per_epoch = max(1, len(dataset) // cfg.batch_size)
        resolution = rule["beta_high"] * rule["window"] / rule["steps"]
        found = proposal.schedule(latents, resolution, _steps(cfg, per_epoch), per_epoch)
        content = {
            "kind": "proposal",
            "finished": True,
            "data": dataset.description,
            "settings": rule,
            "notices": [*dict.fromkeys(n for test in tests for n in test["notices"]), *proposal.notices(found)],
            "seeds": [test["settings"]["seed"] for test in tests],
            "threshold": [test["threshold"] for test in tests],
            "latent_thresholds": latents,
            "curves": [test["curves"][0] for test in tests],
            "proposal": found,
        }
        record.write(folder, content)
        results.update(folder, thresholds={"kind": "proposal", "file": record.FILE, "proposal": found})
    return content


def _test(cfg: DictConfig, folder: Path, seed: int) -> dict[str, Any]:
    """The anneal test of one seed: found, gone on with, or run."""
    status = results.read(folder).get("status")
    if status != "finished":
        own = cfg.copy()
        own.seed, own.resume = seed, status is not None
        run.train(own, folder)
    return record.read(folder, "anneal")


def _steps(cfg: DictConfig, steps_per_epoch: int) -> int:
    """As many as the experiment's own schedule, whose epochs stay in the configuration beside the test's fields."""
    epochs = OmegaConf.select(cfg, "schedule.epochs")
    if epochs is None:
        return proposal.STEPS
    try:
        total = sum(epochs) if OmegaConf.is_list(epochs) else float(epochs)
    except (TypeError, ValueError) as error:
        raise DeftError(f"schedule.epochs is {epochs}: give numbers, whose sum is the length to propose.") from error
    return max(1, round(total * steps_per_epoch))
