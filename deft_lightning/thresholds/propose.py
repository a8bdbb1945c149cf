"""Pressures without labels: anneal tests on the whole data set with several seeds, and the schedule they support.

The tests are ordinary runs, one after another, each with its own checkpoints. Training them as a population would gain
little: at 64 images a step, arithmetic takes nearly all of the time on a CPU.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from deft_lightning.common import results
from deft_lightning.common.errors import DeftError
from deft_lightning.common.results import Status
from deft_lightning.thresholds import record, rule
from deft_lightning.thresholds.measurement import (
    anneal_rule,
    anneal_schedule,
    anneal_settings,
    measurement,
    pop_counts,
)
from deft_lightning.training import build, config, resolution, run


def propose(cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """Run `n` anneal tests, with seeds from `seed` up, and write the schedule they support into thresholds.json.

    The schedule is as long as that of the experiment, or as that of Table 1 for dSprites. A resumed proposal keeps the
    tests that are finished and resumes the one that was stopped. Returns the content of thresholds.json. Raises
    `DeftError` when no latent of any test passes information.
    """
    cfg, counts = pop_counts(cfg, "n")
    cfg = resolution.as_recorded(cfg, folder)
    anneal_schedule(cfg)
    with measurement(cfg, folder, counts, anneal_rule(cfg)) as dataset:
        likelihood = config.build_choices(cfg).likelihood
        images = build.data_module(cfg, dataset).training_images
        cfg = resolution.resolve(cfg, folder, lambda: resolution.first_eigenvalue(dataset, likelihood, images))
        settings = anneal_settings(cfg, anneal_schedule(cfg))
        tests = [_test(cfg, folder / f"seed_{seed}", seed) for seed in range(cfg.seed, cfg.seed + counts["n"])]
        latents = [test["latent_thresholds"] for test in tests]
        steps_per_epoch = max(1, (len(dataset) if images is None else len(images)) // cfg.batch_size)
        beta_step = settings["beta_high"] * settings["window"] / settings["steps"]
        proposal = rule.propose_schedule(latents, beta_step, _steps(cfg, steps_per_epoch), steps_per_epoch)
        content = {
            "kind": "proposal",
            "finished": True,
            "data": dataset.description,
            "settings": settings,
            "notices": [*dict.fromkeys(n for test in tests for n in test["notices"]), *rule.notices(proposal)],
            "seeds": [test["settings"]["seed"] for test in tests],
            "threshold": [test["threshold"] for test in tests],
            "latent_thresholds": latents,
            "curves": [test["curves"][0] for test in tests],
            "proposal": proposal,
        }
        record.write(folder, content)
        results.update(folder, thresholds={"kind": "proposal", "file": record.FILE, "proposal": proposal})
    return content


def _test(cfg: DictConfig, folder: Path, seed: int) -> dict[str, Any]:
    """The thresholds.json of one seed, whose test is run or resumed first unless it is finished."""
    status = results.read(folder).get("status")
    if status != Status.FINISHED:
        test_cfg = cfg.copy()
        test_cfg.seed, test_cfg.resume = seed, status is not None
        run.train(test_cfg, folder)
    return record.read(folder, "anneal")


def _steps(cfg: DictConfig, steps_per_epoch: int) -> int:
    """The length of the experiment's own schedule, whose epochs the configuration keeps beside those of the test."""
    epochs = OmegaConf.select(cfg, "schedule.epochs")
    if epochs is None:
        return rule.STEPS
    try:
        total = sum(epochs) if OmegaConf.is_list(epochs) else float(epochs)
    except (TypeError, ValueError) as error:
        raise DeftError(f"schedule.epochs is {epochs}: give numbers, their sum is the length to propose.") from error
    return max(1, round(total * steps_per_epoch))
