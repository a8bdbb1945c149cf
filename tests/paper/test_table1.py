"""Table 1: groups, epochs and pressures of every data set, in steps of batches of 64."""

from __future__ import annotations

import pytest
from hydra import compose, initialize_config_dir

from deft_lightning.common.conf import config_folder
from deft_lightning.training import config

DSPRITES = 737_280
TABLE_1 = {
    # experiment: images, groups, pressures, step at which every stage ends
    "dsprites": (DSPRITES, 4, (70, 30, 12, 1), (23_040, 46_080, 92_160, 264_960)),
    "color_dsprites": (DSPRITES, 4, (160, 105, 30, 1), (23_040, 46_080, 92_160, 264_960)),
    "scream_dsprites": (DSPRITES, 2, (140, 1), (46_080, 218_880)),
    "smallnorb": (48_600, 4, (30, 5, 3, 1), (15_180, 45_540, 75_900, 379_500)),
}


def _compose(*overrides: str):
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose("config", overrides=list(overrides))


@pytest.mark.parametrize("experiment", TABLE_1)
def test_experiment_has_the_settings_of_table_1(experiment: str) -> None:
    images, count, pressures, ends = TABLE_1[experiment]
    cfg = _compose(f"+experiment={experiment}")
    choices = config.build_choices(cfg)
    groups, timeline = choices.groups, choices.schedule.timeline(images // cfg.batch_size)
    assert (cfg.batch_size, cfg.lr, cfg.scale.name) == (64, 5e-4, "paper")
    assert (len(groups), groups.gamma, sum(groups.latents)) == (count, 0.1, 10)
    assert timeline.boundaries == ends
    begins = (0, *ends[:-1])
    assert tuple(timeline.at(step).pressure for step in begins) == pressures


@pytest.mark.parametrize("experiment", TABLE_1)
def test_every_stage_switches_at_its_boundary_and_not_a_step_earlier(experiment: str) -> None:
    images, _, pressures, ends = TABLE_1[experiment]
    timeline = config.build_choices(_compose(f"+experiment={experiment}")).schedule.timeline(images // 64)
    for index, end in enumerate(ends[:-1]):
        before, after = timeline.at(end - 1), timeline.at(end)
        assert (before.index, before.pressure) == (index, pressures[index])
        assert (after.index, after.pressure) == (index + 1, pressures[index + 1])


@pytest.mark.parametrize(("scale", "fraction"), [("quick", 0.06), ("smoke", 0.0005)])
def test_a_smaller_scale_shortens_every_stage_in_proportion(scale: str, fraction: float) -> None:
    schedule = config.build_choices(_compose("+experiment=dsprites", f"scale={scale}")).schedule
    ends = TABLE_1["dsprites"][3]
    assert schedule.timeline(DSPRITES // 64).boundaries == tuple(round(end * fraction) for end in ends)
