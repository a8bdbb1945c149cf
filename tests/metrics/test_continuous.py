"""Continuous factors are binned as latents are; each of their values would else be a class of its own."""

from __future__ import annotations

import numpy as np
import pytest

from deft_lightning.metrics import active_units, dci, factor_entropy, mig, modularity, nmi, sap

FACTORS = np.random.default_rng(0).uniform(size=(2000, 2))


def test_perfect_codes_of_continuous_factors_score_high() -> None:
    with pytest.warns(UserWarning, match="factor 1 has 2,000 different values: it is taken as continuous, in 20 bins"):
        assert mig(FACTORS, FACTORS).score > 0.9
    with pytest.warns(UserWarning, match="continuous"):
        assert modularity(FACTORS, FACTORS).score > 0.9


def test_the_bins_are_those_of_the_latents() -> None:
    """So a latent that equals the factor has all of its information, log 20 nats but for the sample."""
    with pytest.warns(UserWarning, match="continuous"):
        matrix, entropy = nmi(FACTORS, FACTORS, bins=20), factor_entropy(FACTORS)
    np.testing.assert_allclose(np.diag(matrix), 1)
    np.testing.assert_allclose(entropy, np.log(20), atol=0.02)
    rotated = FACTORS @ np.array([[1, 1], [1, -1]])
    with pytest.warns(UserWarning, match="continuous"):
        assert mig(rotated, FACTORS).score < 0.1


@pytest.mark.filterwarnings("error")
def test_what_needs_no_classes_gives_no_warning() -> None:
    assert sap(FACTORS, FACTORS, FACTORS, FACTORS, continuous=True).score > 0.9
    assert active_units(FACTORS)
    classes = np.random.default_rng(0).integers(0, 40, (2000, 2)) * 0.157
    assert mig(classes, classes).score > 0.5


@pytest.mark.slow  # scikit-learn's gradient boosting
def test_predictors_have_twenty_classes() -> None:
    with pytest.warns(UserWarning, match="continuous"):
        result = dci(FACTORS, FACTORS, FACTORS[:500], FACTORS[:500], estimator="fast")
    assert result.disentanglement > 0.9
