"""Scores of a table by the metrics that `Settings` names."""

from __future__ import annotations

import numpy as np

from deft_lightning.evaluation.scores import Settings
from deft_lightning.evaluation.sources import score_codes

RANDOM = np.random.default_rng(0)
FACTORS = RANDOM.integers(0, 2, (60, 1))
CODES = FACTORS + 0.1 * RANDOM.normal(size=(60, 1))


def test_metrics_that_draw_by_a_seed_have_intervals_too() -> None:
    """DCI and InfoMEC take a seed, and so does the bootstrap. Codes that are the factor score 1 in every resample."""
    settings = Settings(each_stage=["dci", "infomec"], bootstrap=2)
    scored = score_codes(settings.names, settings, CODES, FACTORS)
    assert set(scored.intervals) == set(scored.scores)
    assert scored.intervals["dci_informativeness"] == [1, 1]
