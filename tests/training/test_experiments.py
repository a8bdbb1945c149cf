"""The experiments of the paper at smoke scale on their real data: they run, learn, and say whose pixels they saw."""

from __future__ import annotations

from pathlib import Path

import pytest

from deft_lightning.common import results
from deft_lightning.training import run
from tests.helpers import PLAIN, compose_run

STAGES = {"dsprites": 4, "color_dsprites": 4, "scream_dsprites": 2, "smallnorb": 4}


# Slow: 130 to 200 training steps each, and all of SmallNORB's 48,600 stand-in images are rendered first.
@pytest.mark.slow
@pytest.mark.parametrize("experiment", STAGES)
def test_experiment_runs_at_smoke_scale(experiment: str, dsprites_root: Path, tmp_path: Path) -> None:
    overrides = (f"+experiment={experiment}", "scale=smoke", f"data.root={dsprites_root}", "trainer=cpu", "logger=csv")
    cfg, folder = compose_run(tmp_path / "run", *PLAIN, base=overrides)
    outcome = run.train(cfg, folder)
    assert outcome["status"] == "finished"
    assert outcome["data"]["source"] == "rendered"
    assert outcome["data"]["notices"]
    assert list(outcome["stages"]) == [f"stage_{i + 1}" for i in range(STAGES[experiment])]
    channels, height, width = outcome["data"]["shape"]
    untrained = 0.6931 * channels * height * width  # every pixel a coin toss: ln 2 nats
    first, *_, last = (stage["scores"]["reconstruction"] for stage in outcome["stages"].values())
    assert 0 < last < min(first, untrained)
    assert results.read(folder)["config_digest"] == results.digest(outcome["training"])
