"""One small study with every kind of record and its report, built once for all tests that read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from deft_lightning.report.build import write
from deft_lightning.report.loading import load
from deft_lightning.report.study import Study
from tests.report import factory

GAMMAS = (0.0, 0.1, 1.0)


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of sweeps: methods, ablations, the gamma study, thresholds, and runs that did not finish."""
    folder = tmp_path_factory.mktemp("multirun_outputs")
    factory.sweep(folder / "paper", ("DEFT", "beta-VAE", "AnnealedVAE"), ("dsprites", "scream_dsprites"), 4, (2, 6))
    factory.sweep(folder / "more", ("DEFT (TC)", "beta-VAE, piecewise", "beta-VAE, 2 groups"), ("dsprites",), 3, (6,))
    for gamma in GAMMAS:
        content = factory.result(name="fig5_gamma", config_digest=f"gamma {gamma}")
        content["training"]["groups"]["gamma"] = gamma
        factory.write(folder / "gamma" / str(gamma), content)
    factory.write(folder / "anneal", factory.anneal(), name="thresholds.json")
    factory.write(folder / "factors", factory.factor_thresholds(), name="thresholds.json")
    factory.write(folder / "proposal", factory.proposal(), name="thresholds.json")
    reason = "The loss is <script>alert(1)</script> at step 7."
    factory.write(folder / "broken", factory.result(seed=90, status="failed", reason=reason, stages={}))
    reason = "The loss is nan at step 90."
    factory.write(folder / "diverged", factory.result("beta-VAE", seed=91, status="diverged", reason=reason, stages={}))
    factory.write(folder / "newer", {"schema_version": 99})
    factory.write(folder / "older", {"schema_version": 1})
    factory.write(folder / "cut", {})
    (folder / "cut" / "results.json").write_text('{"status": "fini')
    return folder


@pytest.fixture(scope="session")
def study(runs: Path) -> Study:
    """The study of these runs. Nothing may change it."""
    return Study(load([runs]))


@pytest.fixture(scope="session")
def page(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of these runs."""
    return write([runs], tmp_path_factory.mktemp("out") / "report").page
